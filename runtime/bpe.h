// Byte-pair encoding of one piece of text, in both kinds that models use: byte-level BPE (GPT-2) with a list of merges,
// and SentencePiece's, over characters, with merges or with scores and bytes for what the vocabulary lacks. O(n log n)
// in the piece's length, so that a megabyte without a space is no attack.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/status.h>
#include <absl/strings/string_view.h>

#include "runtime/token_table.h"

namespace quantd {

inline constexpr int32_t kMaxVocab = 1 << 20;  // ids lie below; the largest published vocabularies have 2^18
inline constexpr size_t kMaxMerges = 8u << 20;
inline constexpr size_t kMaxTokenBytes = 4 << 10;  // of one token's text

// Immutable once filled; any thread.
class BpeModel {
 public:
  struct Options {
    bool byte_level = false;            // the first symbols are bytes, else characters
    bool ignore_merges = false;         // a piece that is a token as a whole is that token
    bool fuse_unknown = false;          // neighbouring unknown characters become one unknown token
    std::optional<int32_t> unknown_id;  // absent: what is unknown is dropped
  };
  explicit BpeModel(Options options) : options_(options) { bytes_.fill(-1); }

  // `text` is what Encode compares with: for byte-level models the bytes that the token stands for. DataLoss: a second
  // token of the same text.
  absl::Status AddToken(std::string_view text, int32_t id);
  // The token of `byte` where a character is unknown (SentencePiece) or the first symbol of `byte` (byte-level).
  void SetByte(uint8_t byte, int32_t id) { bytes_[byte] = id; }
  void set_unknown_id(int32_t id) { options_.unknown_id = id; }
  // Merges come in order of rank, smaller first; a pair that comes twice keeps the later rank, as in Hugging Face
  // `tokenizers`. DataLoss: `left`, `right` or their concatenation is no token.
  absl::Status AddMerge(std::string_view left, std::string_view right);
  // Neighbours whose joined text is token `id` merge, lower rank first (SentencePiece: by descending score).
  void SetRank(int32_t id, uint32_t rank);

  // By id: the tokens of more than one character that merges make of text.
  std::vector<bool> Made() const;
  // Takes the tokens whose flag is set out of what text can become, by itself or by a merge; but for those of one
  // character or byte, without which it would vanish from every text.
  void Forbid(const std::vector<bool>& ids);

  std::optional<int32_t> Find(std::string_view text) const;

  struct Symbol {
    uint32_t begin, size;  // bytes of the piece; size 0: merged into the one before
    int32_t id;            // -1: no token has this text
    int32_t previous, next;
  };
  struct Candidate {
    uint64_t order;  // rank, then position: smaller first
    uint32_t size;   // bytes of both: another value means that either has changed since
    int32_t id;
  };
  // Reused from piece to piece, so that encoding does not allocate for each.
  struct Scratch {
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };
  // Appends the ids of `piece` (valid UTF-8), and to `begins`, where not null, the offset in `piece` of each one's
  // first byte.
  void Encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids, std::vector<uint32_t>* begins) const;

 private:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };

  size_t NextCut(std::string_view piece, size_t begin) const;
  void EncodeUncut(std::string_view piece, Scratch& scratch) const;
  void Propose(std::string_view piece, int32_t left, Scratch& scratch) const;
  std::optional<Merge> FindMerge(std::string_view piece, const Symbol& left, const Symbol& right) const;
  bool HasBytes(std::string_view character) const;
  void FirstSymbols(std::string_view piece, std::vector<Symbol>& symbols) const;
  void Emit(std::string_view piece, uint32_t offset, const std::vector<Symbol>& symbols, std::vector<int32_t>& ids,
            std::vector<uint32_t>* begins) const;

  Options options_;
  TokenIds tokens_;
  size_t longest_ = 0;  // bytes of the longest token
  // No token has a visible space after another character, so no merge crosses the start of a word: a whole text, which
  // is one piece to SentencePiece, is encoded word by word.
  bool spaces_only_lead_ = true;
  std::array<int32_t, 256> bytes_;
  HashTable<uint64_t, Merge> merges_;  // by (left id, right id); unused where there are ranks
  std::vector<uint32_t> ranks_;        // by id
  uint32_t merge_count_ = 0;
};

}  // namespace quantd
