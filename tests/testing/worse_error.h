// The worst of many errors, for comparisons with a golden.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

namespace quantd::testing {

// The larger of two errors. A NaN counts as infinite: std::max(worst, NaN) is `worst`, and the NaN would pass.
inline double WorseError(double worst, double error) {
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
}

}  // namespace quantd::testing
