// WorkPool: a few threads with a bounded queue, for work that neither gRPC's callback threads nor the worker may do:
// chat templates and tokenizers (the codec pool), plans.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "base/mutex.h"

namespace quantd {

class WorkPool {
 public:
  WorkPool(int threads, size_t max_waiting);
  ~WorkPool();  // runs what waits, then joins

  // Any thread. False: the queue is full, `work` will not run.
  [[nodiscard]] bool Post(std::function<void()> work) QD_EXCLUDES(mutex_);

 private:
  void Run();

  const size_t max_waiting_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> queue_ QD_GUARDED_BY(mutex_);
  bool stopping_ QD_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace quantd
