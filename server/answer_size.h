// The bound of an answer.
#pragma once

#include <cstddef>
#include <string_view>

#include <absl/status/status.h>
#include <google/protobuf/message.h>

#include "base/error.h"
#include "base/strings.h"

namespace quantd {

// What a gRPC client takes by default of one message.
inline constexpr size_t kMaxAnswerBytes = 4 << 20;

// ResourceExhausted LIMIT, with what to do about it, where `answer` is larger.
inline absl::Status CheckAnswerSize(const google::protobuf::Message& answer, std::string_view remedy) {
  const size_t bytes = answer.ByteSizeLong();
  if (bytes <= kMaxAnswerBytes) return absl::OkStatus();
  return WithReason(
      absl::ResourceExhaustedError(absl::StrCat("the answer would have ", bytes, " bytes, expected at most ",
                                                kMaxAnswerBytes, ": ", ToAbsl(remedy))),
      "LIMIT");
}

}  // namespace quantd
