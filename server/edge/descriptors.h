// How the process's file descriptors are shared out, so that whoever takes many leaves enough to the others.
#pragma once

#include <cstdint>

#include <absl/status/statusor.h>

namespace quantd {

struct Descriptors {
  int64_t open = 0, limit = 0;
};
Descriptors CountDescriptors();  // of this process; 0 where the system does not tell

struct DescriptorPlan {
  int connections;          // of clients, three descriptors each: its socket and both ends of the pair behind it
  int metrics_connections;  // of the metrics port, one each
};
// ResourceExhausted where `limit` is too low to serve anybody.
absl::StatusOr<DescriptorPlan> PlanDescriptors(int64_t limit, int connections, int metrics_connections);

}  // namespace quantd
