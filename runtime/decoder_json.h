// The section "decoder" of tokenizer.json: what each token stands for in running text.
#pragma once

#include <string>
#include <vector>

#include "runtime/added_tokens.h"
#include "runtime/json_step.h"

namespace quantd {

struct DecodedVocab {
  std::vector<std::string> token_bytes;  // by id
  bool strips_leading_space = false;
};

// `texts` by id; those of `added` tokens are kept as they are. DataLoss: corrupt, or the bytes of all tokens exceed a
// bound. Unimplemented: a step that is not built (named), or one that does not undo what `byte_level` says.
absl::StatusOr<DecodedVocab> ReadDecoder(const std::vector<JsonStep>& steps, bool byte_level,
                                         std::vector<std::string> texts, const std::vector<AddedToken>& added,
                                         std::string_view place);

}  // namespace quantd
