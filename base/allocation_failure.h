// An allocation that fails ends the request that asked for it, not the process: the one place where that exception of
// the standard library becomes a status. For the entry points of requests and the tops of threads; what lies between
// them must leave its state whole when an exception passes through.
#pragma once

#include <new>
#include <stdexcept>
#include <utility>

#include <absl/status/status.h>

#include "base/error.h"

namespace quantd {

// ResourceExhausted OUT_OF_MEMORY, with a retry delay.
inline absl::Status AllocationFailedError() {
  return WithReason(WithRetryAfter(absl::ResourceExhaustedError("an allocation failed: the server is out of memory"),
                                   std::chrono::seconds(1)),
                    "OUT_OF_MEMORY");
}

// The status of `work`, or AllocationFailedError where an allocation in it failed (std::length_error: one of a size
// that no allocator takes). Any other exception is a bug of ours, and Internal: it too ends one request alone.
template <typename Work>
absl::Status CatchAllocationFailure(Work&& work) {
  try {
    return std::forward<Work>(work)();
  } catch (const std::bad_alloc&) {
    return AllocationFailedError();
  } catch (const std::length_error&) {
    return AllocationFailedError();
  } catch (const std::exception& bug) {
    return absl::InternalError(bug.what());
  }
}

}  // namespace quantd
