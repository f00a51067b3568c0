#include "server/edge/descriptors.h"

#include <dirent.h>
#include <sys/resource.h>

#include <algorithm>

#include "base/strings.h"

namespace quantd {
namespace {

constexpr int64_t kPerConnection = 3;
constexpr int64_t kLeast = 64;  // for a handful of clients
// For everything else: gRPC's pollers, standard streams, the files of models while they load.
constexpr int64_t kLeastOthers = 40, kMostOthers = 128;

}  // namespace

Descriptors CountDescriptors() {
  Descriptors d;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) d.limit = static_cast<int64_t>(limit.rlim_cur);
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) {
    d.open = d.limit;  // the one reason that there is: none is left
    return d;
  }
  while (const dirent* entry = readdir(folder)) d.open += entry->d_name[0] != '.' ? 1 : 0;
  --d.open;  // the folder itself
  closedir(folder);
  return d;
}

absl::StatusOr<DescriptorPlan> PlanDescriptors(int64_t limit, int connections, int metrics_connections) {
  if (limit < kLeast) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the limit of open files (ulimit -n) is ", limit, ", expected at least ", kLeast));
  }
  const int64_t left = limit - std::clamp(limit / 4, kLeastOthers, kMostOthers);
  DescriptorPlan plan{connections, metrics_connections};
  plan.metrics_connections = static_cast<int>(std::min<int64_t>(metrics_connections, left / 8));
  plan.connections =
      static_cast<int>(std::min<int64_t>(connections, (left - plan.metrics_connections) / kPerConnection));
  return plan;
}

}  // namespace quantd
