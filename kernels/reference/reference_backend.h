// The reference backend: every op in plain loops with f32 accumulation, first element first. It is the definition of
// what an op computes and the oracle of the other backends' tests. One thread; it allocates scratch inside ops.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace quantd {

std::unique_ptr<Backend> CreateReferenceBackend(const BackendOptions& options);

}  // namespace quantd
