#include "server/work_pool.h"

#include <utility>

namespace quantd {

WorkPool::WorkPool(int threads, size_t max_waiting, int threads_of_lane)
    : max_waiting_(max_waiting), threads_of_lane_(threads_of_lane > 0 ? threads_of_lane : threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

WorkPool::~WorkPool() {
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
  std::string name(lane);
  Lane& into = lanes_[name];
  if (into.queue.empty()) turns_.push_back(std::move(name));
  into.queue.push_back(std::move(work));
  ++waiting_;
  changed_.NotifyOne();
  return true;
}

WorkPool::Lane* WorkPool::NextLane() {
  for (size_t i = turns_.size(); i > 0; --i) {
    std::string name = std::move(turns_.front());
    turns_.pop_front();
    Lane& lane = lanes_.find(name)->second;
    const bool runs = lane.running < threads_of_lane_;
    if (!runs || lane.queue.size() > 1) turns_.push_back(std::move(name));
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
    work();
    work = nullptr;  // before the lane is free: what it holds may take a while to go
    Leave(lane);
  }
}

}  // namespace quantd
