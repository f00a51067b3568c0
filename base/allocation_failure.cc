#include "base/allocation_failure.h"

#include <exception>
#include <new>
#include <stdexcept>

#include "base/error.h"

namespace quantd {
namespace {

// Never destroyed: threads may still say it while the process exits.
const absl::Status& kAllocationFailed = *new absl::Status(
    WithReason(WithRetryAfter(absl::ResourceExhaustedError("an allocation failed: the server is out of memory"),
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
  } catch (const std::exception& bug) {
    try {
      return absl::InternalError(bug.what());
    } catch (const std::bad_alloc&) {
      return kAllocationFailed;
    }
  }
}

}  // namespace quantd
