// Memory of the cpu backend.
#pragma once

#include <cstdint>

namespace quantd::cpu {

// 64-byte aligned, not cleared, resident from the start: no page fault in a step, and what the tags say is what the
// system counts; null when the system has none. From 2 MiB on it is mapped, and every whole 2 MiB of it may lie on a
// huge page; what is left over never does, so that no more becomes resident than was asked for.
void* AllocateHost(int64_t bytes);
void FreeHost(void* data, int64_t bytes);  // `bytes` as allocated

}  // namespace quantd::cpu
