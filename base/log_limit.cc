#include "base/log_limit.h"

#include <utility>

namespace quantd {

std::optional<int64_t> LogLimiter::Admit(std::string_view kind, TimePoint now) {
  MutexLock lock(mutex_);
  auto found = kinds_.find(kind);
  if (found == kinds_.end()) {
    if (kinds_.size() >= kMaxKinds) kind = "";
    found = kinds_.try_emplace(std::string(kind), Kind{now, 0}).first;
  }
  Kind& known = found->second;
  if (now < known.next) {
    ++known.left_out;
    return std::nullopt;
  }
  known.next = now + kInterval;
  return std::exchange(known.left_out, 0);
}

std::string LeftOut(int64_t count) { return count == 0 ? "" : " (and " + std::to_string(count) + " like it)"; }

}  // namespace quantd
