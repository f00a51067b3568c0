// Cuts a text into the pieces within which a tokenizer may merge: the pre-tokenizers of tokenizer.json, run by PCRE2.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/stop.h"

namespace quantd {

// Where the text of a match goes (names of the `behavior` of Hugging Face `tokenizers`).
enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct SplitRule {
  std::string regex;  // in Oniguruma's syntax: see regex_syntax.h
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // what the pattern does not match counts as the match, and the other way round
};

// GPT-2's pattern: what ByteLevel with use_regex applies.
std::string_view Gpt2Pattern();

struct ByteRange {
  uint32_t begin, end;
};

// What the patterns of one text may cost together, in steps of the matcher and bytes that it passes: a fixed number for
// each byte of the text, so that no pattern and no text keeps a thread for longer than the length says. One thread.
class SplitWork {
 public:
  // `stop` is asked now and then where it is given; it must outlive this.
  explicit SplitWork(size_t text_bytes, const Stop* stop = nullptr);
  ~SplitWork();
  SplitWork(const SplitWork&) = delete;
  SplitWork& operator=(const SplitWork&) = delete;

 private:
  friend class SplitPattern;
  struct Matcher;
  std::unique_ptr<Matcher> matcher_;
};

// Rules applied one after the other, each to every piece of the one before; a piece is a text of its own for
// look-around. Immutable; any thread.
class SplitPattern {
 public:
  // Unimplemented: a pattern that PCRE2 does not take, or that is refused (with the words and the place).
  static absl::StatusOr<SplitPattern> Compile(const std::vector<SplitRule>& rules);
  SplitPattern();
  SplitPattern(SplitPattern&&) noexcept;
  SplitPattern& operator=(SplitPattern&&) noexcept;
  ~SplitPattern();
  bool empty() const { return rules_.empty(); }

  // The pieces of `text`, which must be UTF-8 of less than 4 GiB, in order and never empty. ResourceExhausted: the
  // patterns took more steps than a text of this length has, or hit a limit of memory. Cancelled: stopped.
  absl::Status Split(std::string_view text, SplitWork& work, std::vector<ByteRange>& pieces) const;
  absl::Status Split(std::string_view text, std::vector<ByteRange>& pieces) const;
  // What the first rule's pattern matches, in order; empty matches too. As Split otherwise.
  absl::Status FindMatches(std::string_view text, SplitWork& work, std::vector<ByteRange>& matches) const;

 private:
  struct Rule;
  std::vector<Rule> rules_;
};

}  // namespace quantd
