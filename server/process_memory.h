// What the operating system says of this process's memory.
#pragma once

#include <cstdint>

namespace quantd {

int64_t ResidentBytes();  // of this process; 0 where it cannot be read

}  // namespace quantd
