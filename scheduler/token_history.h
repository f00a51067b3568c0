// What penalties know of a sequence: its tokens, each once, and how often each was chosen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "kernels/sampling.h"

namespace quantd {

// One per output; not thread-safe. Memory grows with the distinct tokens.
class TokenHistory {
 public:
  explicit TokenHistory(std::span<const int32_t> prompt);
  void Add(int32_t token);                                   // it was chosen
  std::span<const SeenToken> seen() const { return seen_; }  // in order of first occurrence; valid until the next Add

 private:
  SeenToken& At(int32_t token);

  std::vector<SeenToken> seen_;
  std::unordered_map<int32_t, size_t> index_;  // token → its place in seen_; whole after an allocation that fails
};

}  // namespace quantd
