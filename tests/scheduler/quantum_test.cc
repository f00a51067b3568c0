#include "scheduler/quantum.h"

#include <algorithm>
#include <array>

#include <gtest/gtest.h>

namespace quantd {
namespace {

Offer MakeOffer(int engine, Priority p) { return {.engine = engine, .priority = p, .deadline = std::nullopt}; }

TEST(PickQuantum, NothingWhereNobodyOffers) {
  FairShares shares;
  EXPECT_EQ(PickQuantum({}, shares), -1);
}

// Device seconds that each engine gets when all always have work; quantum lengths in seconds.
template <size_t N>
std::array<double, N> Share(std::array<Priority, N> classes, std::array<double, N> quanta, double seconds) {
  FairShares shares;
  std::array<double, N> got{};
  std::vector<Offer> offers;
  for (size_t i = 0; i < N; ++i) offers.push_back(MakeOffer(static_cast<int>(i), classes[i]));
  for (double t = 0; t < seconds;) {
    const size_t pick = static_cast<size_t>(PickQuantum(offers, shares));
    got[pick] += quanta[pick];
    t += quanta[pick];
    shares.Charge(static_cast<int>(pick), classes[pick], quanta[pick]);
  }
  return got;
}

TEST(PickQuantum, SameClassSharesTimeEquallyWhateverTheQuantaCost) {
  const auto got = Share<3>({Priority::kStandard, Priority::kStandard, Priority::kStandard}, {0.01, 0.25, 0.03}, 300);
  for (double g : got) EXPECT_NEAR(g, 100, 0.5);  // one longest quantum either way
}

TEST(PickQuantum, ClassesShareByWeight) {
  const auto got = Share<2>({Priority::kInteractive, Priority::kBatch}, {0.01, 0.02}, 170);
  EXPECT_NEAR(got[0], 160, 0.5);
  EXPECT_NEAR(got[1], 10, 0.5);
}

TEST(PickQuantum, NobodyStarves) {
  FairShares shares;
  const std::vector<Offer> offers = {MakeOffer(0, Priority::kInteractive), MakeOffer(1, Priority::kBatch)};
  double waited = 0, longest = 0;
  for (int i = 0; i < 10000; ++i) {
    const int pick = PickQuantum(offers, shares);
    if (pick == 1) {
      waited = 0;
    } else {
      longest = std::max(longest, waited += 0.01);
    }
    shares.Charge(pick, offers[static_cast<size_t>(pick)].priority, 0.01);
  }
  EXPECT_LE(longest, 16 * 0.01 + 0.01 + 1e-9);  // the weight ratio times its own quantum, and one of the other's
}

TEST(PickQuantum, WhoWasIdleHasSavedUpNothing) {
  FairShares shares;
  const std::vector<Offer> one = {MakeOffer(0, Priority::kStandard)};
  for (int i = 0; i < 1000; ++i) shares.Charge(0, Priority::kStandard, (PickQuantum(one, shares), 0.01));
  const std::vector<Offer> both = {MakeOffer(0, Priority::kStandard), MakeOffer(1, Priority::kStandard)};
  int in_a_row = 0;
  while (PickQuantum(both, shares) == 1) {
    shares.Charge(1, Priority::kStandard, 0.01);
    ASSERT_LE(++in_a_row, 2);
  }
}

TEST(PickQuantum, TheEarlierDeadlineBreaksATie) {
  FairShares shares;
  std::vector<Offer> offers = {MakeOffer(0, Priority::kStandard), MakeOffer(1, Priority::kStandard)};
  offers[1].deadline = TimePoint(std::chrono::seconds(5));
  EXPECT_EQ(PickQuantum(offers, shares), 1);
}

}  // namespace
}  // namespace quantd
