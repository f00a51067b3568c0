// The ids of the requests that are in flight, of all models. Thread-safe.
#pragma once

#include <string>
#include <unordered_set>

#include <absl/status/status.h>

#include "base/mutex.h"

namespace quantd {

class ActiveRequests {
 public:
  // AlreadyExists REQUEST_EXISTS where a request of this id is in flight, with a retry delay: it may have been
  // cancelled, of which gRPC tells its call and the next one on two threads.
  absl::Status Add(const std::string& id) QD_EXCLUDES(mutex_);
  void Remove(const std::string& id) QD_EXCLUDES(mutex_);

 private:
  Mutex mutex_;
  std::unordered_set<std::string> ids_ QD_GUARDED_BY(mutex_);
};

}  // namespace quantd
