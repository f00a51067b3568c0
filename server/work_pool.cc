#include "server/work_pool.h"

#include <utility>

#include "base/allocation_failure.h"

namespace quantd {

WorkPool::WorkPool(int threads, size_t max_waiting, int threads_of_lane)
    : max_waiting_(max_waiting), threads_of_lane_(threads_of_lane > 0 ? threads_of_lane : threads) {
  try {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
  } catch (...) {  // a thread that runs must not be destroyed
    Join();
    throw;
  }
}

WorkPool::~WorkPool() { Join(); }

void WorkPool::Join() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

bool WorkPool::Post(std::string_view lane, std::function<void()> work) {
  MutexLock lock(mutex_);
  if (stopping_ || waiting_ >= max_waiting_) return false;
  auto found = lanes_.find(lane);
  if (found == lanes_.end()) found = lanes_.try_emplace(std::string(lane)).first;
  Lane& into = found->second;
  into.queue.push_back(std::move(work));
  if (into.queue.size() == 1) turns_.splice(turns_.end(), into.turn);
  ++waiting_;
  changed_.NotifyOne();
  return true;
}

WorkPool::Lane* WorkPool::NextLane() {
  for (size_t i = turns_.size(); i > 0; --i) {
    Lane& lane = *turns_.front();
    const bool runs = lane.running < threads_of_lane_;
    const bool stays = !runs || lane.queue.size() > 1;
    std::list<Lane*>& into = stays ? turns_ : lane.turn;
    into.splice(into.end(), turns_, turns_.begin());
    if (runs) return &lane;
  }
  return nullptr;
}

WorkPool::Lane* WorkPool::Take(std::function<void()>& work) {
  MutexLock lock(mutex_);
  Lane* lane = NextLane();
  while (lane == nullptr) {
    if (stopping_ && waiting_ == 0) return nullptr;
    changed_.Wait(mutex_);
    lane = NextLane();
  }
  work = std::move(lane->queue.front());
  lane->queue.pop_front();
  ++lane->running;
  --waiting_;
  return lane;
}

void WorkPool::Leave(Lane* lane) {
  MutexLock lock(mutex_);
  --lane->running;
  if (lane->running == 0 && lane->queue.empty()) {
    std::erase_if(lanes_, [lane](const auto& entry) { return &entry.second == lane; });
  }
  changed_.NotifyAll();  // it may run again
}

void WorkPool::Run() {
  for (;;) {
    std::function<void()> work;
    Lane* lane = Take(work);
    if (lane == nullptr) return;
    IfMemoryAllows(work);
    work = nullptr;  // before the lane is free: what it holds may take a while to go
    Leave(lane);
  }
}

}  // namespace quantd
