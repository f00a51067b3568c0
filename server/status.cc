#include "server/status.h"

#include <google/protobuf/util/time_util.h>

#include "base/allocation_failure.h"
#include "base/error.h"
#include "base/escape.h"
#include "base/strings.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace quantd {

std::string ReasonOf(const absl::Status& status) {
  std::string reason = GetReason(status);
  if (!reason.empty()) return reason;
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return "";
    case absl::StatusCode::kInvalidArgument:
      return "FIELD_INVALID";
    case absl::StatusCode::kUnimplemented:
      return "NOT_BUILT";
    case absl::StatusCode::kDataLoss:
      return "CHECKPOINT_CORRUPT";
    case absl::StatusCode::kCancelled:
      return "CLIENT";
    case absl::StatusCode::kDeadlineExceeded:
      return "EXPIRED_RUNNING";
    case absl::StatusCode::kResourceExhausted:
      return "LIMIT";
    default:
      return CodeName(status.code());
  }
}

namespace {
// Messages quote what clients and files say. A client takes 8 KiB of trailers by default, which hold the message three
// times, escaped: more would reach it as another error.
std::string Bounded(absl::string_view message) {
  constexpr size_t kMaxBytes = 1024;
  const std::string shown = Escape(ToStd(message.substr(0, kMaxBytes + 1)));
  const std::string_view cut = CutUtf8(shown, kMaxBytes);
  return cut.size() == shown.size() ? shown : absl::StrCat(ToAbsl(cut), "…");
}
}  // namespace

namespace {
grpc::Status Convert(const absl::Status& status) {
  const std::string message = Bounded(status.message());
  google::rpc::Status details;
  details.set_code(static_cast<int>(status.code()));
  details.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_reason(ReasonOf(status));
  info.set_domain("quantd");
  details.add_details()->PackFrom(info);
  if (std::string field = GetField(status); !field.empty()) {
    google::rpc::BadRequest bad;
    auto* violation = bad.add_field_violations();
    violation->set_field(field);
    violation->set_description(message);
    details.add_details()->PackFrom(bad);
  }
  if (std::optional<Duration> delay = GetRetryAfter(status)) {
    google::rpc::RetryInfo retry;
    auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(*delay).count();
    *retry.mutable_retry_delay() = google::protobuf::util::TimeUtil::NanosecondsToDuration(ns);
    details.add_details()->PackFrom(retry);
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message, details.SerializeAsString());
}
}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  grpc::Status converted(static_cast<grpc::StatusCode>(status.code()), "");  // where there is no memory for words
  static_cast<void>(CatchAllocationFailure([&] {
    converted = Convert(status);
    return absl::OkStatus();
  }));
  return converted;
}

ErrorDetails ReadDetails(const grpc::Status& status) {
  ErrorDetails out;
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return out;
  for (const google::protobuf::Any& any : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    google::rpc::BadRequest bad;
    if (any.UnpackTo(&info)) {
      out.reason = info.reason();
    } else if (any.UnpackTo(&retry)) {
      out.retry_after =
          std::chrono::nanoseconds(google::protobuf::util::TimeUtil::DurationToNanoseconds(retry.retry_delay()));
    } else if (any.UnpackTo(&bad)) {
      for (const auto& v : bad.field_violations()) out.fields.emplace_back(v.field(), v.description());
    }
  }
  return out;
}

std::string CodeName(absl::StatusCode code) { return absl::StatusCodeToString(code); }

std::string CodeAndReason(absl::StatusCode code, std::string_view reason) {
  std::string name = CodeName(code);
  return reason.empty() || reason == name ? name : absl::StrCat(name, " ", ToAbsl(reason));
}

}  // namespace quantd
