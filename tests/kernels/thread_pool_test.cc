#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace quantd::cpu {
namespace {

TEST(ThreadPoolTest, RunsEveryTaskOnce) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.size(), threads);
    for (int64_t tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
      pool.For(tasks, [&](int64_t task, int thread) {
        EXPECT_GE(thread, 0);
        EXPECT_LT(thread, threads);
        runs[static_cast<size_t>(task)].fetch_add(1, std::memory_order_relaxed);
      });
      for (const auto& run : runs) EXPECT_EQ(run.load(), 1);
    }
  }
}

// What a job wrote is visible to the caller and to the next job, without atomics: TSan proves it.
TEST(ThreadPoolTest, JobsAreOrdered) {
  ThreadPool pool(4);
  std::vector<int64_t> cells(64, 0);
  for (int job = 0; job < 2000; ++job) {
    pool.For(64, [&](int64_t task, int) { cells[static_cast<size_t>(task)] += task; });
  }
  for (int64_t task = 0; task < 64; ++task) EXPECT_EQ(cells[static_cast<size_t>(task)], 2000 * task);
}

TEST(ThreadPoolTest, NoTwoThreadsShareANumber) {
  ThreadPool pool(4);
  std::vector<int> inside(4, 0);  // plain: a shared number would be a race
  for (int job = 0; job < 200; ++job) {
    pool.For(256, [&](int64_t, int thread) { ++inside[static_cast<size_t>(thread)]; });
  }
  int total = 0;
  for (int n : inside) total += n;
  EXPECT_EQ(total, 200 * 256);
}

TEST(ThreadPoolTest, SleepersWakeForTheNextJob) {
  ThreadPool pool(2);
  std::atomic<int> runs{0};
  for (int round = 0; round < 20; ++round) {
    // Longer than the workers spin: they fall asleep meanwhile.
    volatile double busy = 1;
    for (int i = 0; i < 300000; ++i) busy = busy * 1.0000001;
    pool.For(8, [&](int64_t, int) { runs.fetch_add(1); });
  }
  EXPECT_EQ(runs.load(), 160);
}

TEST(ThreadPoolTest, EndsWithoutEverRunning) { ThreadPool pool(8); }

TEST(AvailableCpusTest, IsAtLeastOne) { EXPECT_GE(AvailableCpus(), 1); }

TEST(CpusOfQuotaTest, RoundsDownToWholeCpus) {
  EXPECT_EQ(CpusOfQuota("200000 100000"), 2);
  EXPECT_EQ(CpusOfQuota("150000 100000"), 1);
  EXPECT_EQ(CpusOfQuota("50000 100000"), 1);
  EXPECT_EQ(CpusOfQuota("1600000 100000"), 16);
}

TEST(CpusOfQuotaTest, IsZeroWithoutALimit) {
  for (const char* text : {"max 100000", "-1 100000", "", " ", "100000", "100000 ", "100000 0", "x y"}) {
    EXPECT_EQ(CpusOfQuota(text), 0) << text;
  }
}

}  // namespace
}  // namespace quantd::cpu
