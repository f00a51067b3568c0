#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace quantd::cpu {
namespace {

// The part of sequence `s` that lies in [token_begin, token_end), as query rows of one KV head, and its tasks.
struct Rows {
  int64_t begin, end;
  int64_t tiles() const { return (end - begin + kAttentionRows - 1) / kAttentionRows; }
};

Rows RowsOf(const RaggedBatch& batch, int64_t s, int64_t token_begin, int64_t token_end, int64_t group) {
  const int32_t* starts = batch.seq_starts.as<int32_t>();
  int64_t begin = std::max<int64_t>(starts[s], token_begin), end = std::min<int64_t>(starts[s + 1], token_end);
  return {begin * group, std::max(begin, end) * group};
}

}  // namespace

void RunAttention(const Cpu& cpu, const AttentionJob& job, const RaggedBatch& batch, int64_t token_begin,
                  int64_t token_end) {
  int64_t group = job.heads / job.kv_heads, tasks = 0;
  for (int64_t s = 0; s < batch.sequences(); ++s) {
    tasks += RowsOf(batch, s, token_begin, token_end, group).tiles() * job.kv_heads;
  }
  // A task is a tile of query rows of one sequence and one KV head. A head's tiles follow one another: its cache is
  // warm.
  cpu.pool.For(tasks, [&](int64_t task, int thread) {
    for (int64_t s = 0;; ++s) {
      Rows rows = RowsOf(batch, s, token_begin, token_end, group);
      int64_t tiles = rows.tiles();
      if (task >= tiles * job.kv_heads) {
        task -= tiles * job.kv_heads;
        continue;
      }
      int64_t begin = rows.begin + task % tiles * kAttentionRows;
      cpu.ops.attention(job, begin, std::min<int64_t>(begin + kAttentionRows, rows.end), task / tiles,
                        static_cast<const int32_t*>(batch.block_tables.row(s)), cpu.scratch[thread].attention);
      return;
    }
  });
}

}  // namespace quantd::cpu
