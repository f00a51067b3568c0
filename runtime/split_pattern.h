// Cuts a text into the pieces within which a tokenizer may merge: the pre-tokenizers of tokenizer.json, run by PCRE2.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

namespace quantd {

// Where the text of a match goes (names of the `behavior` of Hugging Face `tokenizers`).
enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext };

struct SplitRule {
  std::string regex;  // Oniguruma's syntax as tokenizer.json holds it, as far as PCRE2 shares it
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // what the pattern does not match counts as the match, and the other way round
};

// GPT-2's pattern: what ByteLevel with use_regex applies.
std::string_view Gpt2Pattern();

struct ByteRange {
  uint32_t begin, end;
};

// Rules applied one after the other, each to every piece of the one before; a piece is a text of its own for
// look-around. Immutable; any thread.
class SplitPattern {
 public:
  // Unimplemented: a pattern that PCRE2 does not take (with its words).
  static absl::StatusOr<SplitPattern> Compile(const std::vector<SplitRule>& rules);
  SplitPattern();
  SplitPattern(SplitPattern&&) noexcept;
  SplitPattern& operator=(SplitPattern&&) noexcept;
  ~SplitPattern();

  // The pieces of `text`, which must be UTF-8 of less than 4 GiB, in order and never empty. ResourceExhausted: the
  // patterns took more steps than a text of this length has, or hit a limit of memory.
  absl::Status Split(std::string_view text, std::vector<ByteRange>& pieces) const;

 private:
  struct Rule;
  std::vector<Rule> rules_;
};

}  // namespace quantd
