// The section "post_processor" of tokenizer.json: the tokens that it puts around a text.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/json_step.h"
#include "runtime/vocab_table.h"

namespace quantd {

struct AroundIds {
  std::vector<int32_t> prefix, suffix;
};

// DataLoss: corrupt, an id that no token has. Unimplemented: a step that is not built (named).
absl::StatusOr<AroundIds> ReadPostProcessor(const std::vector<JsonStep>& steps, const VocabTable& vocab);

}  // namespace quantd
