// Tables of a tokenizer. Not abseil's, which an allocation that fails while they grow leaves broken, their destructor
// included: a model that does not fit must fail to load and nothing else.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include <absl/hash/hash.h>

#include "base/strings.h"

namespace quantd {

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return absl::HashOf(ToAbsl(text)); }
};
// Text of a token to its id; found by any view.
using TokenIds = std::unordered_map<std::string, int32_t, TextHash, std::equal_to<>>;

template <typename Key, typename Value>
using HashTable = std::unordered_map<Key, Value, absl::Hash<Key>>;

}  // namespace quantd
