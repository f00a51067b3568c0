// tokenizer_config.json: which tokens open and close a text, and added tokens that only it names.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/text_tokenizer.h"
#include "runtime/vocab_table.h"

namespace quantd {

struct TokenizerConfig {
  std::optional<std::string> bos_token, eos_token;
  std::optional<bool> add_bos_token, add_eos_token;
  std::optional<bool> legacy, add_prefix_space;  // SentencePiece-style: where a space goes before a text
  std::vector<AddedToken> added_tokens;          // added_tokens_decoder
};

// An empty `json` is an empty config. DataLoss: corrupt.
absl::StatusOr<TokenizerConfig> ParseTokenizerConfig(std::string_view json);

// Lays `config` over the BOS, EOS, prefix and suffix that the tokenizer's own file gave `spec`. DataLoss: it names a
// token that there is not.
absl::Status ApplyTokenizerConfig(const TokenizerConfig& config, const VocabTable& vocab, TokenizerSpec& spec);

}  // namespace quantd
