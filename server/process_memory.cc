#include "server/process_memory.h"

#include <unistd.h>

#include <fstream>
#include <limits>

#include "base/strings.h"
#include "server/options.h"

namespace quantd {

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, resident = 0;
  if (!(file >> total >> resident)) return 0;
  return resident * sysconf(_SC_PAGESIZE);
}

int64_t AvailableBytes(const std::string& meminfo) {
  std::ifstream file(meminfo);
  int64_t kib = 0;
  for (std::string word; file >> word;) {
    if (word == "MemAvailable:" && file >> kib) return kib * 1024;
  }
  return std::numeric_limits<int64_t>::max();
}

std::string KvMemoryWarning(int64_t reserved_bytes, int64_t resident_bytes, int64_t available_bytes) {
  const int64_t growth = reserved_bytes - resident_bytes;
  if (growth <= available_bytes) return "";
  return absl::StrCat("the KV cache becomes resident as it is used and may grow by ", FormatBytes(growth),
                      ", but the machine has ", FormatBytes(available_bytes),
                      " left: where that runs out the system ends a process; a smaller kv_cache_bytes is safe");
}

}  // namespace quantd
