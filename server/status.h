// The one conversion between absl::Status, as everything below speaks it, and grpc::Status, as the wire does.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <absl/status/status.h>
#include <grpcpp/support/status.h>

#include "base/clock.h"

namespace quantd {

// The reason of base/error.h, or the one that docs/api.md gives to the code where none was set. Empty for OK.
std::string ReasonOf(const absl::Status& status);

// With google.rpc.ErrorInfo (domain "quantd"), RetryInfo where a retry helps and BadRequest where a field is at fault,
// in grpc-status-details-bin. Payloads do not reach the client in any other way.
grpc::Status ToGrpc(const absl::Status& status);

// What a client finds in a status of this kind.
struct ErrorDetails {
  std::string reason;  // empty where the status did not come from quantd
  std::optional<Duration> retry_after;
  std::vector<std::pair<std::string, std::string>> fields;  // path, description
};
ErrorDetails ReadDetails(const grpc::Status& status);

// The upper-case name of a gRPC code, as the metrics and the command line print it.
std::string CodeName(absl::StatusCode code);
// "INVALID_ARGUMENT FIELD_INVALID", what begins a line on an error; "NOT_FOUND" where the reason only repeats the code.
std::string CodeAndReason(absl::StatusCode code, std::string_view reason);

}  // namespace quantd
