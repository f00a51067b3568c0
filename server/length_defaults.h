// The lengths that a checkpoint's generation_config.json gives requests that say none.
#pragma once

#include <absl/status/status.h>

#include "scheduler/engine_handle.h"
#include "server/convert.h"

namespace quantd {

// Fills in max_new_tokens and min_new_tokens where the request is silent; its prompt must be there. The file's
// max_length and min_length count the prompt and give way to the numbers of new tokens (transformers
// generation/utils.py, _prepare_generated_length). A default that the context cuts short is none: the output may fill
// the context. InvalidArgument CONTEXT_TOO_LONG where the prompt alone reaches the file's max_length, as in
// transformers.
absl::Status ApplyLengthDefaults(const GenerationDefaults& defaults, const LlmLimits& limits, ParsedGenerate& parsed);

}  // namespace quantd
