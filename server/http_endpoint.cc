#include "server/http_endpoint.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <thread>
#include <utility>

#include <httplib.h>

#include "base/allocation_failure.h"
#include "server/bind_error.h"
#include "server/request_reader.h"
#include "server/work_pool.h"

namespace quantd {
namespace {

// What httplib sees of a connection: the head that was read before, and a socket to write to until the deadline.
// Nothing more is read: a GET has no body.
class AnsweringStream final : public httplib::Stream {
 public:
  explicit AnsweringStream(const HttpConnection& connection) : connection_(connection) {}

  bool is_readable() const override { return true; }
  bool is_writable() const override { return WaitUntilWritable(); }
  ssize_t read(char* data, size_t size) override {
    size = std::min(size, connection_.head.size() - read_);
    std::copy_n(connection_.head.data() + read_, size, data);
    read_ += size;
    return static_cast<ssize_t>(size);
  }
  ssize_t write(const char* data, size_t size) override {
    if (!WaitUntilWritable()) return -1;
    return send(connection_.fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  // Nobody asks for the peer: nothing is logged of a scrape.
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return connection_.fd; }

 private:
  bool WaitUntilWritable() const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(connection_.deadline - Now()).count();
    pollfd p{connection_.fd, POLLOUT, 0};
    return left > 0 && poll(&p, 1, static_cast<int>(left)) > 0;
  }

  const HttpConnection& connection_;
  size_t read_ = 0;
};

// Runs httplib's task of a new connection where it is: it only hands the socket on.
class InlineQueue final : public httplib::TaskQueue {
 public:
  void enqueue(std::function<void()> task) override { task(); }
  void shutdown() override {}
};

class BoundedServer final : public httplib::Server {
 public:
  explicit BoundedServer(const HttpEndpoint::Options& options)
      : deadline_(options.connection_deadline),
        pool_(options.threads, kMaxWaitingAnswers),
        reader_(options.max_connections, [this](HttpConnection&& c) { Queue(std::move(c)); }) {
    new_task_queue = [] { return new InlineQueue; };
    // httplib's own choice has SO_REUSEPORT, by which two daemons would share the port unseen.
    set_socket_options([](socket_t fd) {
      const int yes = 1;
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
  }

 private:
  static constexpr size_t kMaxWaitingAnswers = 256;

  bool process_and_close_socket(socket_t fd) override {  // on the accepting thread
    const absl::Status added = CatchAllocationFailure([&] {
      reader_.Add(fd, Now() + deadline_);
      return absl::OkStatus();
    });
    if (!added.ok()) close(fd);
    return true;
  }
  void Queue(HttpConnection&& connection) {
    const int fd = connection.fd;
    const bool get = connection.head.starts_with("GET ") || connection.head.starts_with("HEAD ");
    if (!get) {
      constexpr std::string_view kNotAllowed =
          "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
      send(fd, kNotAllowed.data(), kNotAllowed.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    bool posted = false;
    IfMemoryAllows([&] {
      auto shared = std::make_shared<HttpConnection>(std::move(connection));
      posted = get && pool_.Post([this, shared] { Answer(*shared); });
    });
    if (!posted) close(fd);
  }
  void Answer(const HttpConnection& connection) {
    AnsweringStream stream(connection);
    bool closed = false;
    IfMemoryAllows([&] { process_request(stream, /*close_connection=*/true, closed, nullptr); });
    shutdown(connection.fd, SHUT_RDWR);
    close(connection.fd);
  }

  const Duration deadline_;
  WorkPool pool_;
  RequestReader reader_;  // gone before the pool, to which it hands requests
};

class HttplibEndpoint final : public HttpEndpoint {
 public:
  HttplibEndpoint(const Options& options, Handlers handlers) : handlers_(std::move(handlers)), server_(options) {
    // The version is part of the format's type: scrapers choose their parser by it.
    server_.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(handlers_.metrics(), "text/plain; version=0.0.4; charset=utf-8");
    });
    server_.Get("/livez", [](const httplib::Request&, httplib::Response& response) {
      response.set_content("ok\n", "text/plain");
    });
    server_.Get("/readyz", [this](const httplib::Request&, httplib::Response& response) {
      const bool ready = handlers_.ready();
      response.status = ready ? 200 : 503;
      response.set_content(ready ? "ready\n" : "not ready\n", "text/plain");
    });
  }
  ~HttplibEndpoint() override {
    server_.stop();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Bind(const std::string& host, int port) {
    port_ = port == 0 ? server_.bind_to_any_port(host) : (server_.bind_to_port(host, port) ? port : -1);
    if (port_ <= 0) return BindError({host, port});
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    while (!server_.is_running()) std::this_thread::yield();  // stop() before that would be lost
    return absl::OkStatus();
  }
  int port() const override { return port_; }

 private:
  const Handlers handlers_;
  BoundedServer server_;
  int port_ = 0;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpEndpoint>> HttpEndpoint::Start(const Options& options, Handlers handlers) {
  auto endpoint = std::make_unique<HttplibEndpoint>(options, std::move(handlers));
  if (absl::Status status = endpoint->Bind(options.host, options.port); !status.ok()) return status;
  return endpoint;
}

}  // namespace quantd
