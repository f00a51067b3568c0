#include "server/work_pool.h"

#include <atomic>

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

}  // namespace
}  // namespace quantd
