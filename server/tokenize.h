// The work of Generation.Tokenize and Detokenize.
#pragma once

#include <absl/status/status.h>

#include "quantd/v1/generation.pb.h"
#include "runtime/stop.h"
#include "scheduler/engine_handle.h"

namespace quantd {

// InvalidArgument: a field is wrong (with its path), or the text too long. ResourceExhausted LIMIT: the answer would be
// larger than kMaxAnswerBytes (says what to leave out). Errors of the codec; Cancelled: `stop` said so.
absl::Status Tokenize(const LlmHandle& model, const v1::TokenizeRequest& request, v1::TokenizeResponse& response,
                      const Stop& stop = {});
absl::Status Detokenize(const LlmHandle& model, const v1::DetokenizeRequest& request, v1::DetokenizeResponse& response);

}  // namespace quantd
