#include "server/edge_metrics.h"

#include <string>

#include "server/edge/descriptors.h"

namespace quantd {
namespace {

prometheus::Gauge& NewGauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

// One counter for each value of an enum, labelled with its name.
template <typename Enum, size_t kCount>
std::array<prometheus::Counter*, kCount> NewCounters(prometheus::Registry& registry, const char* name, const char* help,
                                                     const char* label) {
  auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  std::array<prometheus::Counter*, kCount> counters;
  for (size_t i = 0; i < kCount; ++i) counters[i] = &family.Add({{label, std::string(Name(static_cast<Enum>(i)))}});
  return counters;
}

void Raise(prometheus::Counter& counter, int64_t to) { counter.Increment(static_cast<double>(to) - counter.Value()); }
template <size_t kCount>
void Raise(const std::array<prometheus::Counter*, kCount>& counters, const std::array<EdgeStats::Count, kCount>& to) {
  for (size_t i = 0; i < kCount; ++i) Raise(*counters[i], to[i]);
}

}  // namespace

EdgeMetrics::EdgeMetrics(prometheus::Registry& r)
    : connections_(NewGauge(r, "quantd_connections", "Open connections of the data port.")),
      connections_limit_(NewGauge(r, "quantd_connections_limit", "The most of them that there may be.")),
      streams_(NewGauge(r, "quantd_streams", "Open HTTP/2 streams, which are calls.")),
      streams_limit_(NewGauge(r, "quantd_streams_limit", "The most of them that there may be.")),
      receiving_bytes_(
          NewGauge(r, "quantd_receiving_bytes", "Of requests that are not whole yet, or wait with the edge.")),
      receive_budget_bytes_(NewGauge(r, "quantd_receive_budget_bytes", "The most of them that there may be.")),
      sending_bytes_(NewGauge(r, "quantd_sending_bytes", "Of answers that wait with the edge for their clients.")),
      send_budget_bytes_(NewGauge(r, "quantd_send_budget_bytes", "Beyond it little more is taken of gRPC.")),
      open_fds_(NewGauge(r, "process_open_fds", "Open file descriptors.")),
      max_fds_(NewGauge(r, "process_max_fds", "The limit of open file descriptors.")),
      accepted_(prometheus::BuildCounter()
                    .Name("quantd_connections_accepted_total")
                    .Help("Connections that were accepted.")
                    .Register(r)
                    .Add({})),
      refused_(NewCounters<Refusal, kNumRefusals>(r, "quantd_connections_refused_total",
                                                  "Connections that there was no place for.", "reason")),
      cut_(NewCounters<Cut, kNumCuts>(r, "quantd_connections_cut_total", "Connections that the edge ended.", "reason")),
      paced_(NewCounters<Pace, kNumPaces>(r, "quantd_connections_paced_total",
                                          "How often a connection was made to wait, by what it did too often.",
                                          "rate")),
      streams_reset_(NewCounters<StreamReset, kNumStreamResets>(r, "quantd_streams_reset_total",
                                                                "Streams that the edge ended.", "reason")) {}

void EdgeMetrics::Set(const Edge& edge) {
  const EdgeStats& stats = edge.stats();
  const EdgeLimits& limits = edge.limits();
  const auto set = [](Gauge& gauge, int64_t value) { gauge.Set(static_cast<double>(value)); };
  set(connections_, stats.connections);
  set(connections_limit_, limits.max_connections);
  set(streams_, stats.streams);
  set(streams_limit_, limits.max_open_streams);
  set(receiving_bytes_, stats.receiving_bytes);
  set(receive_budget_bytes_, limits.receive_budget);
  set(sending_bytes_, stats.sending_bytes);
  set(send_budget_bytes_, limits.send_budget);
  const Descriptors descriptors = CountDescriptors();
  set(open_fds_, descriptors.open);
  set(max_fds_, descriptors.limit);
  Raise(accepted_, stats.accepted);
  Raise(refused_, stats.refused);
  Raise(cut_, stats.cut);
  Raise(paced_, stats.paced);
  Raise(streams_reset_, stats.streams_reset);
}

}  // namespace quantd
