// The JSON files that stand beside a vocabulary: tokenizer_config.json and, in older folders, special_tokens_map.json
// and added_tokens.json. They name special tokens and add tokens that the vocabulary lacks.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/text_tokenizer.h"
#include "runtime/vocab_table.h"

namespace quantd {

// What a file calls one of its special tokens: "bos_token", "pad_token", "additional_special_tokens[3]".
struct NamedToken {
  std::string key;
  AddedToken token;  // special; its id is not set
};

struct TokenizerConfig {
  std::string tokenizer_class;  // without "Fast"; empty where no file says it
  std::optional<bool> add_bos_token, add_eos_token;
  std::optional<bool> legacy, add_prefix_space;     // where a space goes before a text
  std::vector<AddedToken> added_tokens;             // added_tokens_decoder, else added_tokens.json; by id
  std::vector<NamedToken> named_tokens;             // in the files' order of keys; none has an empty text
  std::optional<std::string> bos_token, eos_token;  // their texts
};

// As transformers reads them (PreTrainedTokenizerBase._from_pretrained): where the configuration has
// added_tokens_decoder, the two older files say nothing; else special_tokens_map.json wins over it. Empty texts are
// files that are not there. DataLoss: corrupt (names the file and the key).
// `flags` says whether the vocabulary's reader goes by tokenizer_class and the flags, which a tokenizer.json stands
// above: then a value of another kind is a warning in the log.
enum class ConfigFlags { kRead, kNotRead };
absl::StatusOr<TokenizerConfig> ParseTokenizerConfig(const TokenizerCompanions& files, ConfigFlags flags);

// Adds the tokens of `config` to `added` and `vocab`, and sets the BOS and EOS that it names. A named token that the
// vocabulary lacks gets the next id, as in transformers, with a warning. DataLoss: a token's id or text is another's.
absl::Status AddConfigTokens(const TokenizerConfig& config, AddedTokenList::OtherText other_text, VocabTable& vocab,
                             AddedTokenList& added, TokenizerSpec& spec);

// What add_bos_token and add_eos_token put around a text. For folders without a tokenizer.json, whose post-processor
// alone would say it (transformers does not read the flags then).
void SetAffixes(const TokenizerConfig& config, bool add_bos_by_default, TokenizerSpec& spec);

}  // namespace quantd
