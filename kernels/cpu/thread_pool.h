// ThreadPool: the compute threads of one backend. The thread that owns the backend takes part; the others spin for some
// tens of microseconds between jobs, then sleep. Running a job takes no lock and allocates nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>
#include <thread>
#include <vector>

namespace quantd::cpu {

// CPUs that the affinity mask and the cgroup quotas (v1 and v2) allow; at least 1.
int AvailableCpus();
// The quota in a cgroup v2 `cpu.max` ("150000 100000", "max 100000"), or v1's quota and period joined by a space ("-1
// 100000"), rounded down to whole CPUs, at least 1; 0 where there is no limit or the text is not understood. Down,
// because a thread beyond the quota has all of them throttled for the rest of every period.
int CpusOfQuota(std::string_view quota_and_period);

class ThreadPool {
 public:
  // `threads` counts the caller. The system may refuse some; size() says how many there are.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls function(task, thread) once for each task in [0, tasks), thread in [0, size()), and returns when all are
  // done. Tasks are handed out in order, one at a time; a thread that the system has not woken in time is not waited
  // for. Not reentrant.
  template <typename Function>
  void For(int64_t tasks, const Function& function) {
    Run(tasks, &function,
        [](const void* f, int64_t task, int thread) { (*static_cast<const Function*>(f))(task, thread); });
  }

 private:
  using Call = void (*)(const void* function, int64_t task, int thread);
  void Run(int64_t tasks, const void* function, Call call);
  void TakeTasks(int thread);
  void Work(int thread);

  // The job. Written by the owner while no worker is inside, read by workers that have entered.
  const void* function_ = nullptr;
  Call call_ = nullptr;
  int64_t tasks_ = 0;
  alignas(64) std::atomic<int64_t> next_task_{0};

  // kOpen while a job takes workers in, plus the number of workers inside.
  alignas(64) std::atomic<uint32_t> gate_{0};
  // Counts jobs; workers sleep on it.
  alignas(64) std::atomic<uint32_t> epoch_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace quantd::cpu
