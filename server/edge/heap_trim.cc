#include "server/edge/heap_trim.h"

#include <malloc.h>

#include <utility>

#include "base/allocation_failure.h"

namespace quantd {

bool TrimPolicy::ShouldTrim(const HeapState& heap, TimePoint now) const {
  if (now < next_) return false;
  const bool freed = heap.free_bytes - after_.free_bytes >= kWorthwhileBytes;
  const bool reused =
      heap.free_bytes >= kWorthwhileBytes && heap.resident_bytes - after_.resident_bytes >= kWorthwhileBytes;
  return freed || reused;
}

void TrimPolicy::OnTrimmed(const HeapState& after, Duration took, TimePoint now) {
  after_ = after;
  next_ = now + kShare * took;
}

HeapTrimmer::HeapTrimmer(std::function<int64_t()> resident_bytes)
    : resident_bytes_(std::move(resident_bytes)), thread_([this] { Run(); }) {}

HeapTrimmer::~HeapTrimmer() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

void HeapTrimmer::Run() {
  // Where there is no memory to look with, as it was.
  HeapState seen;
  const auto look = [this, &seen] {
    IfMemoryAllows([&] { seen = {static_cast<int64_t>(mallinfo2().fordblks), resident_bytes_()}; });
    return seen;
  };
  TrimPolicy policy;
  MutexLock lock(mutex_);
  while (!stopping_) {
    const TimePoint next = Now() + TrimPolicy::kInterval;
    while (!stopping_ && changed_.WaitUntil(mutex_, next)) {
    }
    const TimePoint begin = Now();
    if (stopping_ || !policy.ShouldTrim(look(), begin)) continue;
    malloc_trim(0);
    const TimePoint end = Now();
    policy.OnTrimmed(look(), end - begin, end);
  }
}

}  // namespace quantd
