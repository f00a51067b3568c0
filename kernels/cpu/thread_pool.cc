#include "kernels/cpu/thread_pool.h"

#include <emmintrin.h>
#include <sched.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>
#include <system_error>

namespace quantd::cpu {
namespace {

constexpr uint32_t kOpen = 1u << 31;
// A pause takes 40 to 140 cycles on processors since 2017: 25 to 50 us in all, about the time that a sleeper needs to
// wake.
constexpr int kSpins = 1000;

// Waits until `word` is not `old`: spinning, then asleep.
uint32_t WaitWhile(const std::atomic<uint32_t>& word, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    uint32_t now = word.load(std::memory_order_acquire);
    if (now != old) return now;
    _mm_pause();
  }
  word.wait(old, std::memory_order_acquire);
  return word.load(std::memory_order_acquire);
}

int CpusOfAffinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());  // more CPUs than the mask holds
}

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The tightest quota from the process's group up to the root. `read` gives "quota period" of a group's folder.
template <typename Read>
int TightestQuota(const std::string& root, std::string group, Read read) {
  int tightest = 0;
  while (true) {
    int cpus = CpusOfQuota(read(root + group));
    if (cpus > 0 && (tightest == 0 || cpus < tightest)) tightest = cpus;
    if (group.empty()) return tightest;
    group.resize(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
  }
}

std::string ReadV1(const std::string& folder) {
  return FirstLine(folder + "/cpu.cfs_quota_us") + " " + FirstLine(folder + "/cpu.cfs_period_us");
}
std::string ReadV2(const std::string& folder) { return FirstLine(folder + "/cpu.max"); }

// Lines of /proc/self/cgroup are "id:controllers:group"; v2's has no controllers.
int CpusOfCgroups() {
  int tightest = 0;
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",", group = line.substr(second + 1);
    if (group == "/") group.clear();
    int cpus = 0;
    if (controllers == ",,") {
      cpus = TightestQuota("/sys/fs/cgroup", group, ReadV2);
    } else if (controllers.find(",cpu,") != std::string::npos) {
      cpus = TightestQuota("/sys/fs/cgroup/cpu", group, ReadV1);
    }
    if (cpus > 0 && (tightest == 0 || cpus < tightest)) tightest = cpus;
  }
  return tightest;
}

}  // namespace

int CpusOfQuota(std::string_view text) {
  const char *p = text.data(), *end = p + text.size();
  int64_t quota = 0, period = 0;
  auto first = std::from_chars(p, end, quota);
  if (first.ec != std::errc() || quota <= 0 || first.ptr == end) return 0;
  auto second = std::from_chars(first.ptr + 1, end, period);
  if (second.ec != std::errc() || period <= 0) return 0;
  return static_cast<int>(std::clamp<int64_t>(quota / period, 1, 1 << 16));
}

int AvailableCpus() {
  int affinity = CpusOfAffinity(), quota = CpusOfCgroups();
  return quota > 0 ? std::min(affinity, quota) : affinity;
}

ThreadPool::ThreadPool(int threads) {
  for (int i = 1; i < threads; ++i) {
    try {
      workers_.emplace_back([this, i] { Work(i); });
    } catch (const std::system_error&) {
      return;  // the system's limit of threads
    }
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(int64_t tasks, const void* function, Call call) {
  if (tasks <= 0) return;
  if (workers_.empty() || tasks == 1) {
    for (int64_t task = 0; task < tasks; ++task) call(function, task, 0);
    return;
  }
  function_ = function;
  call_ = call;
  tasks_ = tasks;
  next_task_.store(0, std::memory_order_relaxed);
  gate_.store(kOpen, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  TakeTasks(0);
  uint32_t inside = gate_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
  while (inside != 0) inside = WaitWhile(gate_, inside);
}

void ThreadPool::TakeTasks(int thread) {
  while (true) {
    int64_t task = next_task_.fetch_add(1, std::memory_order_relaxed);
    if (task >= tasks_) return;
    call_(function_, task, thread);
  }
}

void ThreadPool::Work(int thread) {
  uint32_t seen = 0;
  while (true) {
    seen = WaitWhile(epoch_, seen);
    if (stop_.load(std::memory_order_relaxed)) return;
    uint32_t gate = gate_.load(std::memory_order_relaxed);
    while ((gate & kOpen) != 0 && !gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire)) {
    }
    if ((gate & kOpen) == 0) continue;  // woken too late
    TakeTasks(thread);
    gate_.fetch_sub(1, std::memory_order_release);
    gate_.notify_one();
  }
}

}  // namespace quantd::cpu
