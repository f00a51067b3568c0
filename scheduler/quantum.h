// Which engine of a device runs the next quantum: one language model step, later one denoising step. Pure.
//
// Weighted fair queueing by measured time (start-time fair queueing, Goyal et al. 1996): each engine has a virtual time
// that grows by seconds / weight of the class it served; the engine that is furthest behind runs. So two engines that
// always have work of the same class get the same device time whatever their steps cost, and an engine that has work
// waits at most for the others to catch up with it: weight ratio times their longest quantum, for each of them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>

#include "base/clock.h"
#include "scheduler/request.h"

namespace quantd {

struct Offer {
  int engine = 0;                           // the worker's number for it
  Priority priority = Priority::kStandard;  // best class among what would run
  std::optional<TimePoint> deadline;        // earliest
};

// Device time that a class gets for each second of kBatch where both always have work.
inline constexpr double Weight(Priority p) {
  return p == Priority::kInteractive ? 16 : p == Priority::kStandard ? 4 : 1;
}

class FairShares {
 public:
  void Add(int engine) { virtual_time_[engine]; }  // afterwards nothing allocates for it
  // The engine's quantum at this class took so long.
  void Charge(int engine, Priority priority, double seconds);

 private:
  friend int PickQuantum(std::span<const Offer> offers, FairShares& shares);
  std::map<int, double> virtual_time_;
  double now_ = 0;  // virtual time at which the last pick started: who was idle re-enters here and has saved up nothing
};

// Index of the offer to run, -1 where there is none: the engine furthest behind in virtual time, between equals the
// earlier deadline, then the lower number.
int PickQuantum(std::span<const Offer> offers, FairShares& shares);

}  // namespace quantd
