#include "scheduler/queue_estimate.h"

#include <gtest/gtest.h>

namespace quantd {
namespace {
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kNone{};

QueueEstimate Fresh() { return {/*max_batch_tokens=*/100, /*max_sequences=*/4}; }

TEST(QueueEstimate, CountsNothingBeforeTheFirstStep) { EXPECT_EQ(Fresh().For(1000, 100'000, 0), kNone); }

TEST(QueueEstimate, StepsStandForAServiceTimeUntilOneIsMeasured) {
  QueueEstimate estimate = Fresh();
  for (int i = 1; i <= 40; ++i) {
    estimate.OnStep(1, milliseconds(100));
    EXPECT_NEAR(ToSeconds(estimate.For(8, 0, 0)), 2 * 0.1 * i, 1e-6) << "8 requests, 4 places, the first runs on";
  }
  estimate.OnEnded(seconds(2));
  estimate.OnStep(1, milliseconds(100));
  EXPECT_EQ(estimate.For(8, 0, 0), seconds(4));
}

TEST(QueueEstimate, APlaceBecomesFreeEveryServiceTimeOverThePlaces) {
  QueueEstimate estimate = Fresh();
  estimate.OnEnded(seconds(8));
  EXPECT_EQ(estimate.For(0, 0, 0), kNone);
  EXPECT_EQ(estimate.For(3, 0, 0), seconds(6));
  EXPECT_EQ(estimate.For(3, 0, 1), seconds(4)) << "one of them takes the free place at once";
  EXPECT_EQ(estimate.For(3, 0, 4), kNone);
}

TEST(QueueEstimate, PromptsAheadAreComputedFirst) {
  QueueEstimate estimate = Fresh();
  estimate.OnStarted(100, 0);
  estimate.OnStep(1, seconds(1));
  EXPECT_EQ(estimate.For(1, 500, 4), seconds(5)) << "five full steps, none shorter than a lone decode";
  estimate.OnStep(100, seconds(2));
  estimate.OnStep(1, seconds(1));  // says no more of prompts
  EXPECT_EQ(estimate.For(1, 500, 4), seconds(10));
  estimate.OnEnded(seconds(80));
  EXPECT_EQ(estimate.For(1, 500, 0), seconds(20)) << "the larger of the two";
}

TEST(QueueEstimate, WhatThePrefixCacheHoldsIsNotComputed) {
  QueueEstimate estimate = Fresh();
  estimate.OnStarted(100, 75);
  estimate.OnStep(100, seconds(2));
  EXPECT_EQ(estimate.For(1, 400, 4), seconds(2));
}

TEST(QueueEstimate, FollowsAChange) {
  QueueEstimate estimate = Fresh();
  estimate.OnEnded(seconds(100));
  for (int i = 0; i < 60; ++i) estimate.OnEnded(seconds(4));
  EXPECT_GT(estimate.For(1, 0, 0), milliseconds(999));
  EXPECT_LT(estimate.For(1, 0, 0), milliseconds(1100));
}

}  // namespace
}  // namespace quantd
