// An allocation that fails ends the request that asked for it, not the process: the one place where that exception of
// the standard library becomes a status. For the entry points of requests and the tops of threads; what lies between
// them must leave its state whole when an exception passes through.
#pragma once

#include <utility>

#include <absl/status/status.h>

namespace quantd {

// ResourceExhausted OUT_OF_MEMORY, with a retry delay. Made when the process begins: to say it takes no memory.
absl::Status AllocationFailedError();

// Within a catch block: AllocationFailedError where the exception is an allocation that failed (std::length_error: one
// of a size that no allocator takes), ResourceExhausted NO_THREADS where the system starts no thread. Another
// std::exception is a bug of ours, and Internal; anything else goes on.
absl::Status StatusOfCaughtException();

// The status of `work`, or StatusOfCaughtException of what it threw. Takes no memory itself.
template <typename Work>
absl::Status CatchAllocationFailure(Work&& work) {
  try {
    return std::forward<Work>(work)();
  } catch (...) {
    return StatusOfCaughtException();
  }
}

// For what may be left out where there is no memory for it: a line of the log, a hint.
template <typename Work>
void IfMemoryAllows(Work&& work) {
  static_cast<void>(CatchAllocationFailure([&] {
    std::forward<Work>(work)();
    return absl::OkStatus();
  }));
}

}  // namespace quantd
