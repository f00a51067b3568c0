// What the operating system says of this process's memory and its limit.
#pragma once

#include <cstdint>

namespace quantd {

int64_t ResidentBytes();     // of this process; 0 where it cannot be read
int64_t MemoryLimitBytes();  // the smaller of the cgroup's limit and the machine's memory

}  // namespace quantd
