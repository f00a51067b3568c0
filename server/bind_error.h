// Why an address cannot be bound, which neither gRPC nor cpp-httplib says.
#pragma once

#include <absl/status/status.h>

#include "server/options.h"

namespace quantd {

// Unavailable BIND_FAILED: "cannot listen on 127.0.0.1:8001: Address already in use". Tries it once more to learn why.
absl::Status BindError(const HostPort& address);

}  // namespace quantd
