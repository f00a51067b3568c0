// The plain HTTP port: /metrics, /livez, /readyz. One thread reads the headers of all connections, and only a request
// that is whole takes one of the answering threads, so that clients who send nothing, or little by little, hold up
// nobody. Every connection has a deadline as a whole, carries one request and then is closed.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <absl/status/statusor.h>

#include "base/clock.h"

namespace quantd {

class HttpEndpoint {
 public:
  struct Options {
    std::string host = "127.0.0.1";
    int port = 0;  // 0 = any
    int threads = 4;
    Duration connection_deadline = std::chrono::seconds(3);
    size_t max_connections = 512;  // that have not sent their request yet; the oldest is closed when one more comes
  };
  struct Handlers {  // on the answering threads
    std::function<std::string()> metrics;
    std::function<bool()> ready;
  };
  // Unavailable BIND_FAILED.
  static absl::StatusOr<std::unique_ptr<HttpEndpoint>> Start(const Options& options, Handlers handlers);
  virtual ~HttpEndpoint() = default;  // stops at once
  virtual int port() const = 0;
};

}  // namespace quantd
