// What penalties know of a sequence: its tokens, each once, and how often each was chosen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <absl/container/flat_hash_map.h>

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
  absl::flat_hash_map<int32_t, size_t> index_;  // token → its place in seen_
};

}  // namespace quantd
