// The pipeline every tokenizer here is: added tokens, normalizing, splitting, byte-pair encoding. The readers of the
// file formats fill a TokenizerSpec; what it says is then fixed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "runtime/added_tokens.h"
#include "runtime/bpe.h"
#include "runtime/split_pattern.h"
#include "runtime/tokenizer.h"

namespace quantd {

inline constexpr std::string_view kMetaSpace = "\xE2\x96\x81";  // U+2581, SentencePiece's visible space

// How many times its bytes the normalizer and Metaspace may make of a text. SentencePiece's normalizer, which prepends
// a visible space and puts one in place of each space, makes up to 12.
inline constexpr size_t kMaxTextGrowth = 16;

// Steps of a normalizer; each sees the text between two added tokens.
struct PrependStep {
  std::string text;
};
struct ReplaceStep {
  std::string from, to;
};  // `from` is not empty
using NormalizeStep = std::variant<PrependStep, ReplaceStep>;

// Hugging Face's Metaspace: spaces become `replacement`, one is put before a text that does not start with it.
struct MetaspaceStep {
  enum class Prepend { kNever, kFirst, kAlways };  // first: only where the text begins, not after an added token
  std::string replacement{kMetaSpace};
  Prepend prepend = Prepend::kAlways;
};

struct TokenizerSpec {
  BpeModel model{{}};
  std::vector<NormalizeStep> normalizer;
  std::optional<MetaspaceStep> metaspace;  // after the normalizer and the normalized added tokens, before `split`
  SplitPattern split;
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
