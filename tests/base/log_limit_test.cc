#include "base/log_limit.h"

#include <gtest/gtest.h>

namespace quantd {
namespace {
using std::chrono::milliseconds;

TEST(LogLimiterTest, OneLineASecondAndKindSaysWhatWasLeftOut) {
  LogLimiter limiter;
  TimePoint now{};
  EXPECT_EQ(limiter.Admit("a", now), 0);
  for (int i = 0; i < 500; ++i) EXPECT_EQ(limiter.Admit("a", now += milliseconds(1)), std::nullopt);
  EXPECT_EQ(limiter.Admit("b", now), 0) << "another kind";
  EXPECT_EQ(limiter.Admit("a", now += milliseconds(499)), std::nullopt);
  EXPECT_EQ(limiter.Admit("a", now += milliseconds(1)), 501);
  EXPECT_EQ(limiter.Admit("a", now += milliseconds(999)), std::nullopt);
  EXPECT_EQ(limiter.Admit("a", now += milliseconds(60'000)), 1);
  EXPECT_EQ(limiter.Admit("a", now += milliseconds(60'000)), 0);
}

TEST(LogLimiterTest, ItsKindsAreBounded) {
  LogLimiter limiter;
  const TimePoint now{};
  for (size_t i = 0; i < LogLimiter::kMaxKinds; ++i) EXPECT_EQ(limiter.Admit("kind " + std::to_string(i), now), 0);
  EXPECT_EQ(limiter.Admit("one more", now), 0);
  EXPECT_EQ(limiter.Admit("and another", now), std::nullopt) << "they share one";
  EXPECT_EQ(limiter.Admit("kind 7", now + LogLimiter::kInterval), 0);
}

TEST(LogLimiterTest, SaysHowManyWereLeftOut) {
  EXPECT_EQ(LeftOut(0), "");
  EXPECT_EQ(LeftOut(12), " (and 12 like it)");
}

}  // namespace
}  // namespace quantd
