#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace quantd::cpu {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Panels of one task: as many as the scratch holds, fewer where that leaves threads without work.
int64_t PanelsPerTask(const Cpu& cpu, int64_t panels, int64_t row_chunks, int64_t least) {
  int64_t wanted_tasks = 4 * cpu.pool.size();
  int64_t taken = kMaxTilePanels;
  while (taken > least && CeilDiv(panels, taken) * row_chunks < wanted_tasks) taken /= 2;
  return std::max(taken, least);
}

}  // namespace

void RunLinear(const Cpu& cpu, const LinearJob& job) {
  int64_t panels = job.w.panels();
  int64_t row_chunks = CeilDiv(job.rows, kMaxTileRows);
  if (row_chunks == 0) return;
  int64_t chunk_rows = CeilDiv(job.rows, row_chunks);
  int64_t taken = PanelsPerTask(cpu, panels, row_chunks, job.rows == 1 ? cpu.ops.single_row_panels : 2);
  // All rows of some panels, then the next panels: weights come from memory once, x stays in a cache.
  cpu.pool.For(CeilDiv(panels, taken) * row_chunks, [&](int64_t task, int thread) {
    int64_t row = task % row_chunks * chunk_rows, panel = task / row_chunks * taken;
    cpu.ops.linear(job, row, std::min(row + chunk_rows, job.rows), panel, std::min(panel + taken, panels),
                   cpu.scratch[thread].linear);
  });
}

}  // namespace quantd::cpu
