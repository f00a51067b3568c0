#include "base/error.h"

#include <absl/strings/cord.h>
#include <absl/strings/numbers.h>

#include "base/strings.h"

namespace quantd {
namespace {
constexpr char kReason[] = "quantd/reason", kRetry[] = "quantd/retry_after_ns", kField[] = "quantd/field";

absl::Status With(absl::Status status, const char* key, std::string_view value) {
  status.SetPayload(key, absl::Cord(ToAbsl(value)));
  return status;
}

std::string Get(const absl::Status& status, const char* key) {
  auto payload = status.GetPayload(key);
  return payload.has_value() ? std::string(*payload) : std::string();
}
}  // namespace

absl::Status WithReason(absl::Status status, std::string_view reason) {
  return With(std::move(status), kReason, reason);
}
absl::Status WithField(absl::Status status, std::string_view path) { return With(std::move(status), kField, path); }
absl::Status WithRetryAfter(absl::Status status, Duration delay) {
  auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(delay).count();
  return With(std::move(status), kRetry, std::to_string(ns));
}

std::string GetReason(const absl::Status& status) { return Get(status, kReason); }
std::string GetField(const absl::Status& status) { return Get(status, kField); }
std::optional<Duration> GetRetryAfter(const absl::Status& status) {
  int64_t ns = 0;
  if (!absl::SimpleAtoi(Get(status, kRetry), &ns)) return std::nullopt;
  return std::chrono::nanoseconds(ns);
}

}  // namespace quantd
