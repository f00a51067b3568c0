// What /metrics says of the edge of the network and of the process's file descriptors.
#pragma once

#include <array>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include "server/edge/edge.h"

namespace quantd {

class EdgeMetrics {
 public:
  // Every label set is there from now on. `registry` outlives it.
  explicit EdgeMetrics(prometheus::Registry& registry);
  // Brings all up to date. One thread at a time.
  void Set(const Edge& edge);

 private:
  using Counter = prometheus::Counter;
  using Gauge = prometheus::Gauge;

  Gauge &connections_, &connections_limit_, &streams_, &streams_limit_, &receiving_bytes_, &receive_budget_bytes_,
      &sending_bytes_, &send_budget_bytes_, &open_fds_, &max_fds_;
  Counter& accepted_;
  std::array<Counter*, kNumRefusals> refused_;
  std::array<Counter*, kNumCuts> cut_;
  std::array<Counter*, kNumPaces> paced_;
  std::array<Counter*, kNumStreamResets> streams_reset_;
};

}  // namespace quantd
