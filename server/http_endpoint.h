// The plain HTTP port: /metrics, /livez, /readyz. A bounded number of threads, and a deadline for every connection as a
// whole, so that clients who send or read slowly hold a thread no longer than that.
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
    int threads = 8;
    Duration connection_deadline = std::chrono::seconds(3);
  };
  struct Handlers {  // on the endpoint's threads
    std::function<std::string()> metrics;
    std::function<bool()> ready;
  };
  // Unavailable BIND_FAILED.
  static absl::StatusOr<std::unique_ptr<HttpEndpoint>> Start(const Options& options, Handlers handlers);
  virtual ~HttpEndpoint() = default;  // stops at once
  virtual int port() const = 0;
};

}  // namespace quantd
