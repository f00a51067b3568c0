// WorkPool: a few threads with a bounded queue, for work that neither gRPC's callback threads nor the worker may do:
// chat templates and tokenizers (the codec pool), plans.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace quantd {

// Work comes in lanes, which take turns: what waits in one holds up no other. Within a lane it runs in its order.
class WorkPool {
 public:
  // A lane runs on at most `threads_of_lane` threads at once; 0 is all of them. Throws std::system_error where the
  // system starts no more threads.
  WorkPool(int threads, size_t max_waiting, int threads_of_lane = 0);
  ~WorkPool();  // runs what waits, then joins

  // Any thread. False: the queue is full, `work` will not run; so it is where an allocation fails, which throws. What
  // `work` throws is lost: it has to end its own request.
  [[nodiscard]] bool Post(std::string_view lane, std::function<void()> work) QD_EXCLUDES(mutex_);
  [[nodiscard]] bool Post(std::function<void()> work) { return Post({}, std::move(work)); }

 private:
  struct Lane {
    std::deque<std::function<void()>> queue;
    int running = 0;
    std::list<Lane*> turn{this};  // its place in turns_ while it has none there: taking turns needs no memory
  };

  void Run();
  void Join() QD_EXCLUDES(mutex_);
  // Waits for work that may run; null where the pool ends. Leave when it is done.
  Lane* Take(std::function<void()>& work) QD_EXCLUDES(mutex_);
  void Leave(Lane* lane) QD_EXCLUDES(mutex_);
  // The lane whose turn it is, with work that may run now; null where there is none.
  Lane* NextLane() QD_REQUIRES(mutex_);

  const size_t max_waiting_;
  const int threads_of_lane_;
  Mutex mutex_;
  CondVar changed_;
  std::map<std::string, Lane, std::less<>> lanes_ QD_GUARDED_BY(mutex_);  // that have work, waiting or running
  std::list<Lane*> turns_ QD_GUARDED_BY(mutex_);                          // lanes with work that waits
  size_t waiting_ QD_GUARDED_BY(mutex_) = 0;
  bool stopping_ QD_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace quantd
