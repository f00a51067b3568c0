// The section "pre_tokenizer" of tokenizer.json.
#pragma once

#include <vector>

#include "runtime/json_step.h"
#include "runtime/pre_tokenizer.h"

namespace quantd {

struct ReadPreTokenizerResult {
  PreTokenizer pre_tokenizer;
  bool byte_level = false;  // the model's first symbols are bytes
};

// DataLoss: corrupt, or steps that grow a text too much. Unimplemented: a step that is not built (named).
absl::StatusOr<ReadPreTokenizerResult> ReadPreTokenizer(const std::vector<JsonStep>& steps, Growth& growth);

}  // namespace quantd
