// What an absl::Status says beyond its code: a machine-readable reason, the field at fault, when to try again. They
// travel as status payloads from where the error arises to the one place that turns them into gRPC details.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <absl/status/status.h>

#include "base/clock.h"

namespace quantd {

// `reason` is UPPER_SNAKE_CASE, from the table in docs/api.md ("QUEUE_FULL").
absl::Status WithReason(absl::Status status, std::string_view reason);
absl::Status WithRetryAfter(absl::Status status, Duration delay);
absl::Status WithField(absl::Status status, std::string_view field_path);  // "sampling.temperature"

std::string GetReason(const absl::Status& status);  // empty where none was set
std::optional<Duration> GetRetryAfter(const absl::Status& status);
std::string GetField(const absl::Status& status);

}  // namespace quantd
