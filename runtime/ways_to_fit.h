// Which one setting, changed alone, would make a model fit that does not.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/model_loader.h"

namespace quantd {

// Each was planned and fits in `available_bytes`; empty where `plan`, which is PlanModel's of the same arguments, fits
// already or nothing would. In the order in which they cost: what is kept of contexts first, then of their precision,
// then of the weights'.
std::vector<WayToFit> WaysToFit(const Checkpoint& checkpoint, const LoadSpec& spec, const MemoryPlan& plan,
                                std::string_view backend_kind, const BackendOptions& backend_options,
                                int64_t available_bytes);

}  // namespace quantd
