#include "scheduler/quantum.h"

#include <algorithm>
#include <tuple>

namespace quantd {

void FairShares::Charge(int engine, Priority priority, double seconds) {
  virtual_time_[engine] += seconds / Weight(priority);
}

int PickQuantum(std::span<const Offer> offers, FairShares& shares) {
  int best = -1;
  std::tuple<double, TimePoint, int> best_key;
  for (size_t i = 0; i < offers.size(); ++i) {
    const Offer& offer = offers[i];
    double& start = shares.virtual_time_[offer.engine];
    start = std::max(start, shares.now_);
    const std::tuple key(start, offer.deadline.value_or(TimePoint::max()), offer.engine);
    if (best < 0 || key < best_key) {
      best = static_cast<int>(i);
      best_key = key;
    }
  }
  if (best >= 0) shares.now_ = std::get<0>(best_key);
  return best;
}

}  // namespace quantd
