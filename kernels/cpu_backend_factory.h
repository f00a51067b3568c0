// How backend.cc makes the cpu backend without including kernels/cpu.
#pragma once

#include <memory>

#include <absl/status/statusor.h>

#include "kernels/backend.h"

namespace quantd {

// InvalidArgument: an instruction set that does not exist; Unavailable: one that this machine lacks.
absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(const BackendOptions& options);

}  // namespace quantd
