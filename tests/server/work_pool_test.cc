#include "server/work_pool.h"

#include <atomic>
#include <string>

#include <gtest/gtest.h>

#include "tests/server/fakes.h"

namespace quantd {
namespace {
using quantd::testing::Event;

TEST(WorkPoolTest, RefusesBeyondItsBoundAndRunsWhatItTook) {
  std::atomic<int> ran{0};
  Event started, go;
  {
    WorkPool pool(1, 2);
    ASSERT_TRUE(pool.Post([&] {
      started.Set();
      EXPECT_TRUE(go.Wait());
      ++ran;
    }));
    ASSERT_TRUE(started.Wait());  // its thread is busy: the next ones wait
    EXPECT_TRUE(pool.Post([&] { ++ran; }));
    EXPECT_TRUE(pool.Post([&] { ++ran; }));
    EXPECT_FALSE(pool.Post([&] { ++ran; }));
    go.Set();
  }
  EXPECT_EQ(ran, 3) << "the destructor runs what waits";
}

TEST(WorkPoolTest, LanesTakeTurns) {
  std::string order;
  Event started, go;
  {
    WorkPool pool(1, 16);
    ASSERT_TRUE(pool.Post("a", [&] {
      started.Set();
      EXPECT_TRUE(go.Wait());
    }));
    ASSERT_TRUE(started.Wait());
    for (const char* lane : {"a", "a", "a", "b", "b", "c"}) {
      ASSERT_TRUE(pool.Post(lane, [&order, lane] { order += lane; }));
    }
    go.Set();
  }
  EXPECT_EQ(order, "abcaba");
}

TEST(WorkPoolTest, ALaneLeavesAThreadToTheOthers) {
  Event slow_started, second_started, quick_done, go;
  {
    WorkPool pool(2, 16, 1);
    ASSERT_TRUE(pool.Post("slow", [&] {
      slow_started.Set();
      EXPECT_TRUE(go.Wait());
    }));
    ASSERT_TRUE(slow_started.Wait());
    ASSERT_TRUE(pool.Post("slow", [&] { second_started.Set(); }));
    ASSERT_TRUE(pool.Post("quick", [&] { quick_done.Set(); }));
    EXPECT_TRUE(quick_done.Wait()) << "while both of the slow lane hold or wait for its one thread";
    EXPECT_EQ(second_started.count(), 0);
    go.Set();
    EXPECT_TRUE(second_started.Wait());
  }
}

}  // namespace
}  // namespace quantd
