#include "kernels/memory_ledger.h"

#include <algorithm>

namespace quantd {

void MemoryLedger::Add(MemoryTag tag, int64_t bytes) {
  QD_CHECK(bytes >= 0);
  MemoryUsage& usage = snapshot_.models[tag.model];
  usage.bytes[static_cast<size_t>(tag.component)] += bytes;
  int64_t& peak = snapshot_.peak_bytes[tag.model];
  peak = std::max(peak, usage.total());
}

void MemoryLedger::Remove(MemoryTag tag, int64_t bytes) {
  int64_t& counted = snapshot_.models[tag.model].bytes[static_cast<size_t>(tag.component)];
  counted -= bytes;
  QD_CHECK(counted >= 0);
}

}  // namespace quantd
