#include "kernels/cpu_backend_factory.h"

namespace quantd {

absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(const BackendOptions&) {
  return absl::UnimplementedError("backend cpu: not built yet");
}

}  // namespace quantd
