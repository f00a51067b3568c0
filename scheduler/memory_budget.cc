#include "scheduler/memory_budget.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>

#include <absl/strings/numbers.h>

namespace quantd {
namespace {

// The file's number; the largest there is where the file is missing or says "max".
int64_t ReadLimit(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  int64_t value = 0;
  if (!(file >> word) || !absl::SimpleAtoi(word, &value) || value <= 0) return std::numeric_limits<int64_t>::max();
  return value;
}

// The group's own limit and those of the groups above it. In a container the path of /proc/self/cgroup may not exist
// below the mount; then the mount's root is the container's group.
int64_t GroupLimit(const std::string& mount, std::string group, const std::string& file) {
  int64_t limit = ReadLimit(mount + "/" + file);
  while (!group.empty() && group != "/") {
    limit = std::min(limit, ReadLimit(mount + group + "/" + file));
    group.erase(group.rfind('/'));
  }
  return limit;
}

}  // namespace

int64_t MachineMemoryLimit(const std::string& root) {
  int64_t limit = std::numeric_limits<int64_t>::max();
  std::ifstream meminfo(root + "/proc/meminfo");
  for (std::string key, rest; meminfo >> key && std::getline(meminfo, rest);) {
    int64_t kib = 0;
    if (key == "MemTotal:" && std::istringstream(rest) >> kib) limit = kib * 1024;
  }
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "0::/path" (v2), "4:memory:/path" (v1)
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    if (path.empty() || path[0] != '/') continue;
    if (controllers.empty()) limit = std::min(limit, GroupLimit(root + "/sys/fs/cgroup", path, "memory.max"));
    if ((',' + controllers + ',').find(",memory,") != std::string::npos) {
      limit = std::min(limit, GroupLimit(root + "/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"));
    }
  }
  return limit;
}

}  // namespace quantd
