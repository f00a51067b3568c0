// The pipeline every tokenizer here is: added tokens, normalizing, splitting, byte-pair encoding. The readers of the
// file formats fill a TokenizerSpec; what it says is then fixed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/added_tokens.h"
#include "runtime/bpe.h"
#include "runtime/normalizer.h"
#include "runtime/pre_tokenizer.h"
#include "runtime/tokenizer.h"

namespace quantd {

struct TokenizerSpec {
  BpeModel model{{}};
  std::vector<NormalizeStep> normalizer;
  PreTokenizer pre_tokenizer;            // after the normalizer and the normalized added tokens
  std::vector<AddedToken> added;         // each text once
  std::vector<std::string> token_bytes;  // by id: what a token stands for in running text
  bool strips_leading_space = false;
  std::vector<int32_t> prefix_ids, suffix_ids;
  std::optional<int32_t> bos_id, eos_id;
  std::vector<int32_t> end_ids;  // beside eos_id
};

// Forbids the model to make special tokens of text: only AddedTokenFinder does. DataLoss: a bound of the added tokens.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTextTokenizer(TokenizerSpec spec, std::string_view file);

}  // namespace quantd
