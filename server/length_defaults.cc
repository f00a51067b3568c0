#include "server/length_defaults.h"

#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "base/strings.h"

namespace quantd {

absl::Status ApplyLengthDefaults(const GenerationDefaults& defaults, const LlmLimits& limits, ParsedGenerate& parsed) {
  StopConditions& stopping = parsed.request.stopping;
  const int64_t prompt = static_cast<int64_t>(parsed.request.prompt.size());
  if (!parsed.min_new_tokens_given) {
    const int64_t by_length = std::max<int64_t>(defaults.min_length.value_or(0) - prompt, 0);
    stopping.min_new_tokens = defaults.min_new_tokens.value_or(by_length);
  }
  if (stopping.max_new_tokens > 0) return absl::OkStatus();
  if (defaults.max_new_tokens) {
    stopping.max_new_tokens = *defaults.max_new_tokens;
  } else if (defaults.max_length) {
    if (prompt >= *defaults.max_length) {
      return WithReason(WithField(absl::InvalidArgumentError(absl::StrCat(
                                      "prompt of ", prompt, " tokens reaches the model's max_length of ",
                                      *defaults.max_length, " (generation_config.json): set stopping.max_new_tokens")),
                                  "stopping.max_new_tokens"),
                        "CONTEXT_TOO_LONG");
    }
    stopping.max_new_tokens = *defaults.max_length - prompt;
  } else {
    return absl::OkStatus();
  }
  // What the request says itself counts more.
  if (parsed.min_new_tokens_given) stopping.max_new_tokens = std::max(stopping.max_new_tokens, stopping.min_new_tokens);
  if (stopping.max_new_tokens > limits.max_sequence_tokens() - prompt) stopping.max_new_tokens = 0;
  return absl::OkStatus();
}

}  // namespace quantd
