// How much memory this process may have.
#pragma once

#include <cstdint>
#include <string>

namespace quantd {

// The least of the machine's memory and the limits of the process's cgroups (v2 and v1, ancestors included), in bytes.
// `root` stands before /proc and /sys, for tests.
int64_t MachineMemoryLimit(const std::string& root = "");

}  // namespace quantd
