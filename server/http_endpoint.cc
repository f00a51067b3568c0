#include "server/http_endpoint.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include <httplib.h>

#include "base/error.h"
#include "base/strings.h"

namespace quantd {
namespace {

// A connection with one deadline for everything and a bound on what the client may send: httplib's own timeouts are per
// read, so a byte now and then would hold a thread for ever, and its header section has no bound.
class DeadlineStream final : public httplib::Stream {
 public:
  DeadlineStream(int fd, TimePoint deadline) : fd_(fd), deadline_(deadline) {}

  bool is_readable() const override { return Wait(POLLIN); }
  bool is_writable() const override { return Wait(POLLOUT); }
  ssize_t read(char* data, size_t size) override {
    size = std::min(size, left_);
    if (size == 0 || !Wait(POLLIN)) return -1;
    const ssize_t n = recv(fd_, data, size, 0);
    if (n > 0) left_ -= static_cast<size_t>(n);
    return n;
  }
  ssize_t write(const char* data, size_t size) override {
    if (!Wait(POLLOUT)) return -1;
    return send(fd_, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  // Nobody asks for the peer: nothing is logged of a scrape.
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return fd_; }

 private:
  bool Wait(short events) const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - Now()).count();
    pollfd p{fd_, events, 0};
    return left > 0 && poll(&p, 1, static_cast<int>(left)) > 0;
  }

  static constexpr size_t kMaxRequestBytes = 64 * 1024;
  const int fd_;
  const TimePoint deadline_;
  size_t left_ = kMaxRequestBytes;
};

class BoundedServer final : public httplib::Server {
 public:
  BoundedServer(Duration deadline, int threads) : deadline_(deadline) {
    new_task_queue = [threads] { return new httplib::ThreadPool(static_cast<size_t>(threads)); };
    set_payload_max_length(1024);
    // httplib's own choice has SO_REUSEPORT, by which two daemons would share the port unseen.
    set_socket_options([](socket_t fd) {
      const int yes = 1;
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
  }

 private:
  // One request a connection, then it is closed.
  bool process_and_close_socket(socket_t fd) override {
    DeadlineStream stream(fd, Now() + deadline_);
    bool closed = false;
    const bool ok = process_request(stream, /*close_connection=*/true, closed, nullptr);
    shutdown(fd, SHUT_RDWR);
    close(fd);
    return ok;
  }

  const Duration deadline_;
};

class HttplibEndpoint final : public HttpEndpoint {
 public:
  HttplibEndpoint(const Options& options, Handlers handlers)
      : handlers_(std::move(handlers)), server_(options.connection_deadline, options.threads) {
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
    if (port_ <= 0) {
      return WithReason(absl::UnavailableError(absl::StrCat("cannot listen on ", host, ":", port, " for metrics")),
                        "BIND_FAILED");
    }
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
