// What the operating system says of this process's memory, and of the machine's.
#pragma once

#include <cstdint>
#include <string>

namespace quantd {

int64_t ResidentBytes();  // of this process; 0 where it cannot be read
// That the machine could give now without swapping (MemAvailable); the largest there is where it cannot be read.
int64_t AvailableBytes(const std::string& meminfo = "/proc/meminfo");

// Why memory that is reserved for a KV cache and not resident yet may be lacking later; empty where there is enough.
std::string KvMemoryWarning(int64_t reserved_bytes, int64_t resident_bytes, int64_t available_bytes);

}  // namespace quantd
