// Which instruction set runs.
#pragma once

#include <string_view>

#include <absl/status/statusor.h>

#include "kernels/cpu/cpu_ops.h"

namespace quantd::cpu {

// "" gives the best that this machine has. InvalidArgument: no such set; Unavailable: the machine lacks it.
absl::StatusOr<const CpuOps*> SelectOps(std::string_view isa);

}  // namespace quantd::cpu
