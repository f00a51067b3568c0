// How a normalized text is cut into the pieces within which tokens merge: the pre-tokenizers of tokenizer.json.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <absl/status/status.h>

#include "runtime/mapped_text.h"
#include "runtime/split_pattern.h"

namespace quantd {

inline constexpr std::string_view kMetaSpace = "\xE2\x96\x81";  // U+2581, SentencePiece's visible space

// Hugging Face's Metaspace: spaces become `replacement`, one is put before a text that does not start with it.
struct MetaspaceStep {
  enum class Prepend { kNever, kFirst, kAlways };  // first: only where the text begins, not after an added token
  std::string replacement{kMetaSpace};
  Prepend prepend = Prepend::kAlways;
};
struct PrefixSpaceStep {};  // ByteLevel's add_prefix_space: a space before a text that does not start with one
// ByteLevel's alphabet, where a step follows that looks at it: each byte becomes its character (byte_alphabet.h).
struct AlphabetStep {};
using PreTokenizeStep = std::variant<SplitPattern, MetaspaceStep, PrefixSpaceStep, AlphabetStep>;

class PreTokenizer {
 public:
  void Add(PreTokenizeStep step);

  // Calls `visit` with a text and its pieces, in order, for each stretch of `text` that the steps leave whole. A piece
  // is of the alphabet where there is an AlphabetStep. ResourceExhausted: the text grows beyond its limit, or a pattern
  // takes too many steps. What `visit` returns ends it.
  using Visit = std::function<absl::Status(const MappedText& text, const std::vector<ByteRange>& pieces)>;
  absl::Status Run(const MappedText& text, SplitWork& work, const Visit& visit) const;
  bool to_alphabet() const { return to_alphabet_; }

 private:
  absl::Status RunFrom(size_t step, const MappedText& text, SplitWork& work, const Visit& visit) const;

  std::vector<PreTokenizeStep> steps_;
  bool to_alphabet_ = false;
};

}  // namespace quantd
