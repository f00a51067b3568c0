// Gives memory that was freed back to the system: glibc keeps what a burst of requests has used, gigabytes of it.
#pragma once

#include <cstdint>
#include <functional>
#include <thread>

#include "base/clock.h"
#include "base/mutex.h"

namespace quantd {

struct HeapState {
  int64_t free_bytes = 0;      // that malloc holds and nobody uses; pages that were given back count still
  int64_t resident_bytes = 0;  // of the process
};

// When it is worth the time that it takes. Pure.
class TrimPolicy {
 public:
  static constexpr int64_t kWorthwhileBytes = 32 << 20;
  static constexpr Duration kInterval = std::chrono::seconds(2);
  static constexpr int kShare = 50;  // of the time at most 1/kShare is spent trimming

  // So much was freed since the last time, or was taken, touched and freed again.
  bool ShouldTrim(const HeapState& heap, TimePoint now) const;
  void OnTrimmed(const HeapState& after, Duration took, TimePoint now);

 private:
  HeapState after_;  // the last time
  TimePoint next_;
};

// A thread that looks every TrimPolicy::kInterval.
class HeapTrimmer {
 public:
  explicit HeapTrimmer(std::function<int64_t()> resident_bytes);
  ~HeapTrimmer();

 private:
  void Run();

  const std::function<int64_t()> resident_bytes_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ QD_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace quantd
