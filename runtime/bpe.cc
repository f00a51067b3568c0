#include "runtime/bpe.h"

#include <algorithm>
#include <limits>

#include "base/strings.h"
#include "runtime/printable.h"
#include "runtime/utf8.h"

namespace quantd {
namespace {

constexpr uint32_t kNeverMerges = std::numeric_limits<uint32_t>::max();

constexpr std::string_view kVisibleSpace = "\xE2\x96\x81";  // U+2581

// Where the first U+2581 that follows another character begins, at or after `begin`; npos where there is none.
size_t FindSpaceAfterCharacter(std::string_view text, size_t begin) {
  size_t pos = begin;
  while (text.substr(pos).starts_with(kVisibleSpace)) pos += kVisibleSpace.size();
  return text.find(kVisibleSpace, pos);
}

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

bool ComesLater(const BpeModel::Candidate& a, const BpeModel::Candidate& b) { return a.order > b.order; }

// Or one byte, which may be a part of a character.
bool IsOneCharacter(std::string_view text) {
  const auto begins = std::ranges::count_if(text, [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
  return text.size() == 1 || begins == 1;
}

}  // namespace

absl::Status BpeModel::AddToken(std::string_view text, int32_t id) {
  const auto [it, is_new] = tokens_.try_emplace(std::string(text), id);
  if (!is_new) {
    return absl::DataLossError(absl::StrCat("tokens ", it->second, " and ", id, " have the same text"));
  }
  longest_ = std::max(longest_, text.size());
  if (FindSpaceAfterCharacter(text, 0) != std::string_view::npos) spaces_only_lead_ = false;
  return absl::OkStatus();
}

absl::Status BpeModel::AddMerge(std::string_view left, std::string_view right) {
  const std::optional<int32_t> left_id = Find(left);
  const std::optional<int32_t> right_id = Find(right);
  const std::optional<int32_t> joined_id = Find(std::string(left) + std::string(right));
  if (!left_id || !right_id || !joined_id) {
    return absl::DataLossError(absl::StrCat("merge of '", Printable(left, 60), "' and '", Printable(right, 60), "': ",
                                            !left_id    ? "the first"
                                            : !right_id ? "the second"
                                                        : "what they make",
                                            " is no token"));
  }
  if (merge_count_ == kMaxMerges) return absl::DataLossError(absl::StrCat("more than ", kMaxMerges, " merges"));
  merges_.insert_or_assign(PairKey(*left_id, *right_id), Merge{merge_count_++, *joined_id});
  return absl::OkStatus();
}

void BpeModel::SetRank(int32_t id, uint32_t rank) {
  if (ranks_.size() <= static_cast<size_t>(id)) ranks_.resize(id + 1, kNeverMerges);
  ranks_[id] = rank;
}

std::vector<bool> BpeModel::Made() const {
  std::vector<bool> made;
  for (const auto& [text, id] : tokens_) {
    if (static_cast<size_t>(id) >= made.size()) made.resize(static_cast<size_t>(id) + 1);
    const bool ranked = static_cast<size_t>(id) < ranks_.size() && ranks_[id] != kNeverMerges;
    made[id] = ranked && !IsOneCharacter(text);
  }
  for (const auto& [pair, merge] : merges_) made[merge.id] = true;
  return made;
}

void BpeModel::Forbid(const std::vector<bool>& ids) {
  const auto forbidden = [&](int32_t id) { return id >= 0 && static_cast<size_t>(id) < ids.size() && ids[id]; };
  std::erase_if(tokens_, [&](const auto& token) { return forbidden(token.second) && !IsOneCharacter(token.first); });
  std::erase_if(merges_, [&](const auto& merge) { return forbidden(merge.second.id); });
}

std::optional<int32_t> BpeModel::Find(std::string_view text) const {
  const auto it = tokens_.find(text);
  if (it == tokens_.end()) return std::nullopt;
  return it->second;
}

std::optional<BpeModel::Merge> BpeModel::FindMerge(std::string_view piece, const Symbol& left,
                                                   const Symbol& right) const {
  if (ranks_.empty()) {
    if (left.id < 0 || right.id < 0) return std::nullopt;
    const auto it = merges_.find(PairKey(left.id, right.id));
    if (it == merges_.end()) return std::nullopt;
    return it->second;
  }
  const size_t size = size_t{left.size} + right.size;
  if (size > longest_) return std::nullopt;
  const std::optional<int32_t> id = Find(piece.substr(left.begin, size));
  if (!id || static_cast<size_t>(*id) >= ranks_.size() || ranks_[*id] == kNeverMerges) return std::nullopt;
  return Merge{ranks_[*id], *id};
}

void BpeModel::Propose(std::string_view piece, int32_t left, Scratch& scratch) const {
  if (left < 0 || scratch.symbols[left].next < 0) return;
  const Symbol& a = scratch.symbols[left];
  const Symbol& b = scratch.symbols[a.next];
  const std::optional<Merge> merge = FindMerge(piece, a, b);
  if (!merge) return;
  scratch.heap.push_back({uint64_t{merge->rank} << 32 | static_cast<uint32_t>(left), a.size + b.size, merge->id});
}

// Whether the bytes of an unknown character stand for it.
bool BpeModel::HasBytes(std::string_view character) const {
  return !options_.byte_level &&
         std::ranges::all_of(character, [&](char c) { return bytes_[static_cast<uint8_t>(c)] >= 0; });
}

void BpeModel::FirstSymbols(std::string_view piece, std::vector<Symbol>& symbols) const {
  symbols.clear();
  for (uint32_t pos = 0; pos < piece.size();) {
    uint32_t size = 1;
    int32_t id = -1;
    if (options_.byte_level) {
      id = bytes_[static_cast<uint8_t>(piece[pos])];
    } else {
      size = DecodeUtf8(piece, pos).size;
      id = Find(piece.substr(pos, size)).value_or(-1);
    }
    // What nothing stands for is as if it were not there: what is around it may merge.
    if (id >= 0 || !ranks_.empty() || options_.unknown_id || HasBytes(piece.substr(pos, size))) {
      const auto index = static_cast<int32_t>(symbols.size());
      symbols.push_back({pos, size, id, index - 1, index + 1});
    }
    pos += size;
  }
  if (!symbols.empty()) symbols.back().next = -1;
}

void BpeModel::Emit(std::string_view piece, uint32_t offset, const std::vector<Symbol>& symbols,
                    std::vector<int32_t>& ids, std::vector<uint32_t>* begins) const {
  const auto append = [&](int32_t id, uint32_t begin) {
    ids.push_back(id);
    if (begins != nullptr) begins->push_back(offset + begin);
  };
  bool after_unknown = false;
  for (int32_t i = symbols.empty() ? -1 : 0; i >= 0; i = symbols[i].next) {
    const Symbol& symbol = symbols[i];
    const std::string_view text = piece.substr(symbol.begin, symbol.size);
    const bool has_bytes = symbol.id < 0 && HasBytes(text);
    const bool is_unknown = symbol.id < 0 && !has_bytes;
    if (symbol.id >= 0) {
      append(symbol.id, symbol.begin);
    } else if (has_bytes) {
      for (uint32_t b = 0; b < symbol.size; ++b) append(bytes_[static_cast<uint8_t>(text[b])], symbol.begin + b);
    } else if (options_.unknown_id && !(options_.fuse_unknown && after_unknown)) {
      append(*options_.unknown_id, symbol.begin);
    }
    after_unknown = is_unknown;
  }
}

void BpeModel::Encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids,
                      std::vector<uint32_t>* begins) const {
  if (options_.ignore_merges) {
    if (const std::optional<int32_t> id = Find(piece)) {
      ids.push_back(*id);
      if (begins != nullptr) begins->push_back(0);
      return;
    }
  }
  for (size_t begin = 0; begin < piece.size();) {
    const size_t end = NextCut(piece, begin);
    const std::string_view part = piece.substr(begin, end - begin);
    EncodeUncut(part, scratch);
    Emit(part, static_cast<uint32_t>(begin), scratch.symbols, ids, begins);
    begin = end;
  }
}

// The end of the part of `piece` that begins at `begin` and that no merge leaves. An unknown visible space would make
// one unknown token with what is before it, so it must be known.
size_t BpeModel::NextCut(std::string_view piece, size_t begin) const {
  if (options_.byte_level || !spaces_only_lead_ || !Find(kVisibleSpace)) return piece.size();
  return std::min(FindSpaceAfterCharacter(piece, begin), piece.size());
}

void BpeModel::EncodeUncut(std::string_view piece, Scratch& scratch) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  std::vector<Candidate>& heap = scratch.heap;
  FirstSymbols(piece, symbols);
  heap.clear();
  for (int32_t i = 0; i < static_cast<int32_t>(symbols.size()); ++i) Propose(piece, i, scratch);
  std::ranges::make_heap(heap, ComesLater);
  const auto propose = [&](int32_t left) {
    const size_t count = heap.size();
    Propose(piece, left, scratch);
    if (heap.size() > count) std::ranges::push_heap(heap, ComesLater);
  };
  while (!heap.empty()) {
    std::ranges::pop_heap(heap, ComesLater);
    const Candidate best = heap.back();
    heap.pop_back();
    const auto left = static_cast<int32_t>(best.order & 0xFFFFFFFF);
    Symbol& a = symbols[left];
    if (a.size == 0 || a.next < 0 || a.size + symbols[a.next].size != best.size) continue;
    Symbol& b = symbols[a.next];
    a.size = best.size;
    a.id = best.id;
    a.next = b.next;
    b.size = 0;
    if (a.next >= 0) symbols[a.next].previous = left;
    propose(a.previous);
    propose(left);
  }
}

}  // namespace quantd
