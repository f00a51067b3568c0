#include "base/allocation_failure.h"

#include <exception>
#include <new>
#include <stdexcept>
#include <system_error>

#include "base/error.h"

namespace quantd {
namespace {

// Never destroyed: threads may still say it while the process exits.
const absl::Status& kAllocationFailed = *new absl::Status(
    WithReason(WithRetryAfter(absl::ResourceExhaustedError("an allocation failed: no memory is left for it"),
                              std::chrono::seconds(1)),
               "OUT_OF_MEMORY"));

}  // namespace

absl::Status AllocationFailedError() { return kAllocationFailed; }

absl::Status StatusOfCaughtException() {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return kAllocationFailed;
  } catch (const std::length_error&) {
    return kAllocationFailed;
  } catch (const std::exception& other) {
    try {
      const auto* system = dynamic_cast<const std::system_error*>(&other);
      const bool no_thread = system != nullptr && system->code() == std::errc::resource_unavailable_try_again;
      if (!no_thread) return absl::InternalError(other.what());
      return WithReason(
          absl::ResourceExhaustedError("the system starts no more threads for this process (ulimit -u, the cgroup's "
                                       "pids.max, ulimit -v for their stacks)"),
          "NO_THREADS");
    } catch (const std::bad_alloc&) {
      return kAllocationFailed;
    }
  }
}

}  // namespace quantd
