#include "server/http_endpoint.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include <gtest/gtest.h>
#include <httplib.h>

namespace quantd {
namespace {

int ConnectTo(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return fd;
}

std::unique_ptr<HttpEndpoint> Start(Duration deadline, size_t max_connections = 512) {
  HttpEndpoint::Options options;
  options.threads = 2;
  options.connection_deadline = deadline;
  options.max_connections = max_connections;
  auto endpoint =
      HttpEndpoint::Start(options, {.metrics = [] { return std::string("m 1\n"); }, .ready = [] { return true; }});
  EXPECT_TRUE(endpoint.ok());
  return *std::move(endpoint);
}

TEST(HttpEndpointTest, Answers) {
  auto endpoint = Start(std::chrono::seconds(10));
  httplib::Client client("127.0.0.1", endpoint->port());
  EXPECT_EQ(client.Get("/metrics")->body, "m 1\n");
  EXPECT_EQ(client.Get("/livez")->status, 200);
  EXPECT_EQ(client.Get("/readyz")->status, 200);
  EXPECT_EQ(client.Get("/nothing")->status, 404);
}

// Far more half-open connections than there are threads, which never finish their headers, wait only for themselves.
TEST(HttpEndpointTest, SlowClientsHoldUpNobody) {
  constexpr Duration kDeadline = std::chrono::seconds(60);
  auto endpoint = Start(kDeadline);
  std::vector<int> slow;
  for (int i = 0; i < 100; ++i) {
    slow.push_back(ConnectTo(endpoint->port()));
    if (i % 2 == 0) {
      EXPECT_EQ(send(slow.back(), "GET /metrics HTTP/1.1\r\nX: ", 26, 0), 26);
    }
  }
  httplib::Client client("127.0.0.1", endpoint->port());
  const TimePoint begin = Now();
  EXPECT_EQ(client.Get("/metrics")->status, 200);
  EXPECT_LT(Now() - begin, kDeadline);
  // The last of the request arrives later: it is answered still.
  EXPECT_EQ(send(slow[0], "y\r\n\r\n", 5, 0), 5);
  char byte;
  EXPECT_EQ(recv(slow[0], &byte, 1, 0), 1);
  for (int fd : slow) close(fd);
}

TEST(HttpEndpointTest, AConnectionIsClosedAtItsDeadline) {
  auto endpoint = Start(std::chrono::milliseconds(50));
  const int fd = ConnectTo(endpoint->port());
  [[maybe_unused]] const ssize_t sent = send(fd, "GET /", 5, MSG_NOSIGNAL);  // it may be closed already
  char byte;
  EXPECT_LE(recv(fd, &byte, 1, 0), 0);
  close(fd);
}

TEST(HttpEndpointTest, TheOldestConnectionGoesWhenThereAreTooMany) {
  auto endpoint = Start(std::chrono::seconds(60), /*max_connections=*/2);
  const int first = ConnectTo(endpoint->port()), second = ConnectTo(endpoint->port()),
            third = ConnectTo(endpoint->port());
  char byte;
  EXPECT_EQ(recv(first, &byte, 1, 0), 0);
  EXPECT_EQ(httplib::Client("127.0.0.1", endpoint->port()).Get("/livez")->status, 200);
  for (int fd : {first, second, third}) close(fd);
}

// Headers without an end are cut at the bound on bytes, long before the deadline.
TEST(HttpEndpointTest, EndlessHeadersAreCut) {
  constexpr Duration kDeadline = std::chrono::seconds(60);
  auto endpoint = Start(kDeadline);
  const int fd = ConnectTo(endpoint->port());
  const TimePoint begin = Now();
  std::string data = "GET /metrics HTTP/1.1\r\n";
  for (int i = 0; i < 4000; ++i) data += "X-" + std::to_string(i) + ": 0123456789abcdef\r\n";  // over 16 KiB
  [[maybe_unused]] ssize_t sent = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
  char buffer[4096];
  while (recv(fd, buffer, sizeof buffer, 0) > 0) {
  }
  EXPECT_LT(Now() - begin, kDeadline);
  close(fd);
}

TEST(HttpEndpointTest, OnlyGetsAreAnswered) {
  auto endpoint = Start(std::chrono::seconds(60));
  httplib::Client client("127.0.0.1", endpoint->port());
  EXPECT_EQ(client.Head("/livez")->status, 200);
  const auto post = client.Post("/livez");
  ASSERT_TRUE(post);
  EXPECT_EQ(post->status, 405);
}

TEST(HttpEndpointTest, StopsWhileAClientIsConnected) {
  auto endpoint = Start(std::chrono::milliseconds(300));
  const int fd = ConnectTo(endpoint->port());
  endpoint.reset();
  close(fd);
}

}  // namespace
}  // namespace quantd
