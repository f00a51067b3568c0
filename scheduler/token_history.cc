#include "scheduler/token_history.h"

namespace quantd {

TokenHistory::TokenHistory(std::span<const int32_t> prompt) {
  for (const int32_t token : prompt) At(token);
}

void TokenHistory::Add(int32_t token) { ++At(token).times_chosen; }

SeenToken& TokenHistory::At(int32_t token) {
  const auto [it, fresh] = index_.try_emplace(token, seen_.size());
  if (fresh) seen_.push_back({.id = token, .times_chosen = 0});
  return seen_[it->second];
}

}  // namespace quantd
