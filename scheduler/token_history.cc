#include "scheduler/token_history.h"

#include <algorithm>

namespace quantd {

TokenHistory::TokenHistory(std::span<const int32_t> prompt) {
  for (const int32_t token : prompt) At(token);
}

void TokenHistory::Add(int32_t token) { ++At(token).times_chosen; }

SeenToken& TokenHistory::At(int32_t token) {
  if (seen_.size() == seen_.capacity()) seen_.reserve(std::max<size_t>(16, 2 * seen_.size()));
  const auto [it, fresh] = index_.try_emplace(token, seen_.size());
  if (fresh) seen_.push_back({.id = token, .times_chosen = 0});
  return seen_[it->second];
}

}  // namespace quantd
