#include "server/active_requests.h"

#include "base/error.h"
#include "base/strings.h"

namespace quantd {

absl::Status ActiveRequests::Add(const std::string& id) {
  MutexLock lock(mutex_);
  if (ids_.insert(id).second) return absl::OkStatus();
  const absl::Status status = WithReason(
      absl::AlreadyExistsError(absl::StrCat("options.request_id: a request ", id, " is in flight")), "REQUEST_EXISTS");
  return WithRetryAfter(WithField(status, "options.request_id"), std::chrono::milliseconds(100));
}

void ActiveRequests::Remove(const std::string& id) {
  MutexLock lock(mutex_);
  ids_.erase(id);
}

}  // namespace quantd
