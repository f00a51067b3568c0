// Everything that /metrics says: a prometheus-cpp registry, fed by the engines' observers as things happen and by the
// model registry when it is scraped. docs/metrics.md is the table; a test compares the two.
#pragma once

#include <memory>
#include <string>

#include <absl/status/status.h>

#include "kernels/backend.h"
#include "scheduler/model_registry.h"
#include "scheduler/observer.h"
#include "server/edge/edge.h"
#include "server/message_gate.h"

namespace quantd {

// Thread-safe.
class Metrics {
 public:
  // `device` is what computes.
  explicit Metrics(const DeviceInfo& device);
  ~Metrics();

  // Registers every label set of the model, all zero: absent is not zero. The observer also writes the request log.
  // Must outlive neither the engines nor their observers: an observer keeps what it needs.
  std::shared_ptr<EngineObserver> MakeObserver(const std::string& model);
  // A request that named no model that it could have, counted under model="unknown", and logged, one line a second and
  // code.
  void OnUnrouted(const LlmRequest& request, const absl::Status& status);

  // The text format, version 0.0.4. Reads the models' memory and state from `registry` first, and what `edge`
  // and `gate` count.
  std::string Scrape(const ModelRegistry& registry, const Edge& edge, const MessageGate& gate);

 private:
  struct Families;
  class Observer;
  std::shared_ptr<Families> families_;
  const std::string device_id_;
};

}  // namespace quantd
