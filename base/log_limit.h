// LogLimiter: of the lines that a stranger can cause, one a second and kind, which says how many were left out.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/mutex.h"

namespace quantd {

// Thread-safe.
class LogLimiter {
 public:
  static constexpr Duration kInterval = std::chrono::seconds(1);
  static constexpr size_t kMaxKinds = 256;  // kinds beyond share one

  // Of a line of `kind` at `now`: nothing where it is not to be written; else how many of its kind were not since the
  // last one.
  std::optional<int64_t> Admit(std::string_view kind, TimePoint now) QD_EXCLUDES(mutex_);

 private:
  struct Kind {
    TimePoint next;  // from when on a line may be written
    int64_t left_out = 0;
  };
  Mutex mutex_;
  std::map<std::string, Kind, std::less<>> kinds_ QD_GUARDED_BY(mutex_);
};

// What a line ends with where lines before it were left out: " (and 12 like it)". Empty for 0.
std::string LeftOut(int64_t count);

}  // namespace quantd
