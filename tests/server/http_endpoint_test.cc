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

std::unique_ptr<HttpEndpoint> Start(Duration deadline) {
  HttpEndpoint::Options options;
  options.threads = 2;
  options.connection_deadline = deadline;
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

// As many half-open connections as there are threads, which never finish their headers: a scrape waits for the deadline
// of one connection, not for the clients.
TEST(HttpEndpointTest, SlowClientsCannotStallAScrape) {
  auto endpoint = Start(std::chrono::milliseconds(300));
  std::vector<int> slow;
  for (int i = 0; i < 2; ++i) {
    slow.push_back(ConnectTo(endpoint->port()));
    EXPECT_EQ(send(slow.back(), "GET /metrics HTTP/1.1\r\nX: ", 26, 0), 26);
  }
  httplib::Client client("127.0.0.1", endpoint->port());
  client.set_read_timeout(20);
  EXPECT_EQ(client.Get("/metrics")->status, 200);
  for (int fd : slow) {
    char byte;
    EXPECT_EQ(recv(fd, &byte, 1, 0), 0) << "the slow one was closed";
    close(fd);
  }
}

// Headers without an end are cut at the bound on bytes, long before the deadline.
TEST(HttpEndpointTest, EndlessHeadersAreCut) {
  auto endpoint = Start(std::chrono::seconds(60));
  const int fd = ConnectTo(endpoint->port());
  std::string data = "GET /metrics HTTP/1.1\r\n";
  for (int i = 0; i < 4000; ++i) data += "X-" + std::to_string(i) + ": 0123456789abcdef\r\n";  // over 64 KiB
  [[maybe_unused]] ssize_t sent = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
  char buffer[4096];
  while (recv(fd, buffer, sizeof buffer, 0) > 0) {  // an error page at most
  }
  close(fd);
}

TEST(HttpEndpointTest, StopsWhileAClientIsConnected) {
  auto endpoint = Start(std::chrono::milliseconds(300));
  const int fd = ConnectTo(endpoint->port());
  endpoint.reset();
  close(fd);
}

}  // namespace
}  // namespace quantd
