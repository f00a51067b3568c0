// A token bucket: `burst` at once, `per_second` in the long run. Time is passed in and must not go back.
#pragma once

#include <algorithm>

#include "base/clock.h"

namespace quantd {

class TokenBucket {
 public:
  struct Rate {
    double burst;
    double per_second;
  };

  explicit TokenBucket(Rate rate) : rate_(rate), tokens_(rate.burst) {}

  bool Has(double tokens, TimePoint now) {
    Refill(now);
    return tokens_ >= tokens;
  }
  // Of tokens that are there (Has).
  void Take(double tokens) { tokens_ -= tokens; }
  void Give(double tokens) { tokens_ = std::min(rate_.burst, tokens_ + tokens); }
  // When `tokens` will be there if nobody takes any; more than the burst never are, and it says how long they would
  // take.
  TimePoint When(double tokens, TimePoint now) {
    Refill(now);
    return now + FromSeconds(std::max(0.0, tokens - tokens_) / rate_.per_second) + std::chrono::microseconds(1);
  }
  bool IsFull(TimePoint now) {
    Refill(now);
    return tokens_ >= rate_.burst;
  }

 private:
  void Refill(TimePoint now) {
    if (last_ == TimePoint()) last_ = now;
    Give(ToSeconds(now - last_) * rate_.per_second);
    last_ = now;
  }

  Rate rate_;
  double tokens_;
  TimePoint last_;  // of the last refill
};

}  // namespace quantd
