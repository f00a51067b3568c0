// Engine: one loaded model as its worker sees it. Made, used and destroyed on the worker's thread.
#pragma once

#include <optional>

#include <absl/status/status.h>

#include "base/clock.h"
#include "scheduler/quantum.h"

namespace quantd {

class Engine {
 public:
  virtual ~Engine() = default;
  // Does what time alone brings.
  virtual void Tick(TimePoint now) = 0;
  virtual std::optional<TimePoint> NextWakeup() const = 0;
  // Nothing where there is no step to run. The worker fills in `engine`.
  virtual std::optional<Offer> Peek(TimePoint now) const = 0;
  // Runs one quantum. Whatever fails ends requests, never the engine.
  virtual void Run() = 0;
  // Ends every request with this status.
  virtual void EndAll(const absl::Status& status) = 0;
};

}  // namespace quantd
