// Special and added tokens: found in a text before anything is normalized, split or merged.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/split_pattern.h"
#include "runtime/token_table.h"

namespace quantd {

// Bounds of a vocabulary's added tokens. A text is looked up at each of its bytes for as many bytes as a token may
// have, and each byte of a token may cost some 60 in memory.
inline constexpr size_t kMaxAddedTokens = 64 << 10;
inline constexpr size_t kMaxAddedTokenBytes = 256;  // of one, normalized where it is; Llama 3's longest has 32
inline constexpr size_t kMaxAddedBytes = 4 << 20;   // of all

// The flags are those of Hugging Face `tokenizers`' AddedToken.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false;       // recognised in trusted text only, skipped in output
  bool trusted_only = false;  // recognised in trusted text only, though it is not special
  bool stays_text = false;    // special, and all the same what merges make of text
  bool single_word = false;   // not within a word
  bool lstrip = false;        // takes the white space before it
  bool rstrip = false;        // and after it
  bool normalized = false;    // compared with the normalized text
};

// A stretch of a text: a token, text between tokens (id kNoToken), or the text of a special token that is data
// (kQuotedToken).
struct TextSegment {
  ByteRange range;
  int32_t id;
};
inline constexpr int32_t kNoToken = -1, kQuotedToken = -2;

// What a special token written at a place of a text is.
enum class Special { kToken, kQuoted, kText };

// Finds a set of tokens, leftmost first, the longest of those that start at one place. Immutable; any thread.
class AddedTokenFinder {
 public:
  AddedTokenFinder();
  bool empty() const { return tokens_.empty(); }
  // `content` is what is compared: the token's text, normalized where the token is. Empty content is never found.
  // DataLoss: a bound above.
  absl::Status Add(std::string_view content, const AddedToken& token);

  // Cuts `text` (valid UTF-8). `special(begin, end)` says what a token for trusted text of those bytes is: a token, a
  // segment of its own that is none, or text like any other. As upstream, a token is looked for in the white space too
  // that an rstrip token before it took: where it lies there, the segments overlap, and what is behind it is text
  // again; where its own lstrip leaves it nothing, it is none.
  template <typename Judge>
  void Find(std::string_view text, const Judge& special, std::vector<TextSegment>& segments) const {
    segments.clear();
    uint32_t done = 0, white_end = 0;
    for (uint32_t pos = 0; pos < text.size();) {
      const std::optional<Match> match = LongestAt(text, pos, special);
      if (!match) {
        ++pos;
        continue;
      }
      pos = match->end;
      ByteRange range{match->begin, match->end};
      if (match->token->single_word && !IsSingleWord(text, range)) continue;
      if (!match->quoted) Strip(text, *match->token, done, white_end, range);
      // What was taken is not taken again by white space to the left, nor is it data.
      if (match->quoted || match->token->lstrip) range.begin = std::max(range.begin, done);
      if (range.begin >= range.end) continue;
      if (done < range.begin) segments.push_back({{done, range.begin}, kNoToken});
      segments.push_back({range, match->quoted ? kQuotedToken : match->token->id});
      done = range.end;
    }
    if (done < text.size()) segments.push_back({{done, static_cast<uint32_t>(text.size())}, kNoToken});
  }

 private:
  struct Flags {
    int32_t id;
    bool trusted_only, single_word, lstrip, rstrip;
  };
  struct Match {
    uint32_t begin, end;
    const Flags* token;
    bool quoted;
  };

  template <typename Judge>
  std::optional<Match> LongestAt(std::string_view text, uint32_t pos, const Judge& special) const {
    std::optional<Match> longest;
    if (!begins_one_[static_cast<uint8_t>(text[pos])]) return longest;
    uint32_t node = 0;
    for (uint32_t end = pos; end < text.size();) {
      const auto next = edges_.find(EdgeKey(node, static_cast<uint8_t>(text[end])));
      if (next == edges_.end()) break;
      node = next->second;
      ++end;
      const int32_t index = token_at_[node];
      if (index < 0) continue;
      const Flags& token = tokens_[index];
      const Special kind = token.trusted_only ? special(pos, end) : Special::kToken;
      if (kind != Special::kText) longest = Match{pos, end, &token, kind == Special::kQuoted};
    }
    return longest;
  }
  static uint64_t EdgeKey(uint32_t node, uint8_t byte) { return uint64_t{node} << 8 | byte; }
  static bool IsSingleWord(std::string_view text, const ByteRange& range);
  // `white_end` is where the white space ends that was last gone through: no text is gone through twice.
  static void Strip(std::string_view text, const Flags& token, uint32_t done, uint32_t& white_end, ByteRange& range);

  std::vector<Flags> tokens_;
  size_t bytes_ = 0;                     // of all contents
  HashTable<uint64_t, uint32_t> edges_;  // a trie: (node, byte) to node; 0 is the root
  std::array<bool, 256> begins_one_{};   // by byte: some token begins with it
  std::vector<int32_t> token_at_;        // by node: the token that ends there, or -1
};

}  // namespace quantd
