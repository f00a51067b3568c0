// Memory of the cpu backend.
#pragma once

#include <cstdint>

namespace quantd::cpu {

enum class Residency : uint8_t {
  kFromTheStart,  // no page fault in a step, and what the tags say is what the system counts
  kOnFirstUse,    // page by page, as it is written: for what is large and may never be used
};

// 64-byte aligned, not cleared; null when the system has none. From 2 MiB on it is mapped. What is resident from the
// start may lie on a huge page, every whole 2 MiB of it; what is left over never does, so that no more becomes resident
// than was asked for. What becomes resident on first use never lies on a huge page: a write brings in 4 KiB, no more.
void* AllocateHost(int64_t bytes, Residency residency = Residency::kFromTheStart);
void FreeHost(void* data, int64_t bytes);  // `bytes` as allocated

}  // namespace quantd::cpu
