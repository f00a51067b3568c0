#include "runtime/charsmap.h"

#include <algorithm>
#include <cstring>

#include "base/strings.h"
#include "runtime/utf8.h"

namespace quantd {
namespace {

constexpr size_t kMaxBlobBytes = 16 << 20;  // nmt_nfkc_cf, the largest published, has 0.3 MB
constexpr size_t kMaxReplacement = 256;     // the longest of Unicode's has 33
constexpr size_t kMaxKey = 64;              // bytes of a key; a corrupt trie may lead in circles

// A unit of darts-clone: a label and how far its children are, or a value.
uint32_t Label(uint32_t unit) { return unit & (1u << 31 | 0xFF); }
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }
uint32_t Value(uint32_t unit) { return unit & ~(1u << 31); }

}  // namespace

absl::StatusOr<Charsmap> Charsmap::Parse(std::string_view blob) {
  const auto refuse = [](const auto&... words) {
    return absl::DataLossError(absl::StrCat("precompiled character map: ", words...));
  };
  if (blob.size() > kMaxBlobBytes) return refuse(blob.size(), " bytes, at most ", kMaxBlobBytes);
  uint32_t trie_bytes = 0;
  if (blob.size() < sizeof trie_bytes) return refuse(blob.size(), " bytes");
  std::memcpy(&trie_bytes, blob.data(), sizeof trie_bytes);  // little endian, as every machine that this runs on
  blob.remove_prefix(sizeof trie_bytes);
  if (trie_bytes == 0 || trie_bytes % sizeof(uint32_t) != 0 || trie_bytes > blob.size()) {
    return refuse("a trie of ", trie_bytes, " bytes in ", blob.size());
  }
  Charsmap map;
  map.units_.resize(trie_bytes / sizeof(uint32_t));
  std::memcpy(map.units_.data(), blob.data(), trie_bytes);
  map.replacements_ = blob.substr(trie_bytes);
  if (!map.replacements_.empty() && map.replacements_.back() != '\0') return refuse("its last replacement has no end");
  if (const std::optional<size_t> bad = FindInvalidUtf8(map.replacements_)) {
    return refuse("a replacement is no UTF-8 at byte ", *bad);
  }
  size_t begin = 0;
  for (size_t end = 0; end < map.replacements_.size(); ++end) {
    if (map.replacements_[end] != '\0') continue;
    if (end - begin > kMaxReplacement) {
      return refuse("a replacement of ", end - begin, " bytes, at most ", kMaxReplacement);
    }
    begin = end + 1;
  }
  return map;
}

template <typename Visit>
void Charsmap::ForEachPrefix(std::string_view text, const Visit& visit) const {
  size_t node = Offset(units_[0]);
  for (size_t i = 0; i < std::min(text.size(), kMaxKey); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (byte == 0 || node >= units_.size() || Label(units_[node]) != byte) return;
    const bool has_leaf = HasLeaf(units_[node]);
    node ^= Offset(units_[node]);
    if (!has_leaf) continue;
    if (node >= units_.size() || !visit(i + 1, Value(units_[node]))) return;
  }
}

std::optional<Charsmap::Match> Charsmap::MatchOf(size_t bytes, uint32_t value) const {
  if (value >= replacements_.size()) return std::nullopt;
  const std::string_view rest = std::string_view(replacements_).substr(value);
  const std::string_view replacement = rest.substr(0, rest.find('\0'));
  if (!replacement.empty() && (static_cast<uint8_t>(replacement[0]) & 0xC0) == 0x80) return std::nullopt;
  return Match{bytes, replacement};
}

std::optional<Charsmap::Match> Charsmap::Shortest(std::string_view text) const {
  std::optional<Match> found;
  ForEachPrefix(text, [&](size_t bytes, uint32_t value) {
    found = MatchOf(bytes, value);
    return false;
  });
  return found;
}

std::optional<Charsmap::Match> Charsmap::Longest(std::string_view text) const {
  std::optional<Match> found;
  ForEachPrefix(text, [&](size_t bytes, uint32_t value) {
    found = MatchOf(bytes, value);
    return true;
  });
  return found;
}

}  // namespace quantd
