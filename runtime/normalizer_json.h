// The section "normalizer" of tokenizer.json.
#pragma once

#include <vector>

#include "runtime/json_step.h"
#include "runtime/normalizer.h"

namespace quantd {

// DataLoss: corrupt, or steps that grow a text too much. Unimplemented: a step that is not built (named).
absl::StatusOr<std::vector<NormalizeStep>> ReadNormalizer(const std::vector<JsonStep>& steps, Growth& growth);

}  // namespace quantd
