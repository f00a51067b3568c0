// MemoryLedger: what a backend's buffers take, by tag. Backends count real and dry-run allocations in it alike.
#pragma once

#include <cstdint>

#include "kernels/backend.h"

namespace quantd {

// Used by the backend's thread only. Models whose buffers are all gone keep their (zero) row and their peak.
class MemoryLedger {
 public:
  void Add(MemoryTag tag, int64_t bytes);
  void Remove(MemoryTag tag, int64_t bytes);
  const MemorySnapshot& snapshot() const { return snapshot_; }

 private:
  MemorySnapshot snapshot_;
};

}  // namespace quantd
