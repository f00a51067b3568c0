// SentencePiece's precompiled character map: what a normalizer replaces, as tokenizer.model (normalizer_spec) and
// tokenizer.json (Precompiled) hold it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

namespace quantd {

// A double array trie of keys (darts-clone) whose values are offsets into a text of replacements, each of which ends in
// a NUL. Immutable; any thread.
class Charsmap {
 public:
  // DataLoss: lengths that do not fit, replacements that are no UTF-8 or longer than kMaxReplacement bytes. Numbers in
  // the trie are checked where they are followed.
  static absl::StatusOr<Charsmap> Parse(std::string_view blob);

  struct Match {
    size_t bytes;  // of the key
    std::string_view replacement;
  };
  // The shortest or the longest key that `text` begins with.
  std::optional<Match> Shortest(std::string_view text) const;
  std::optional<Match> Longest(std::string_view text) const;

 private:
  template <typename Visit>
  void ForEachPrefix(std::string_view text, const Visit& visit) const;
  std::optional<Match> MatchOf(size_t bytes, uint32_t value) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace quantd
