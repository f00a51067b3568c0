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

// Which sequence a task belongs to: the first tasks of every `stride`-th sequence are kept, so that finding one is a
// search among them and a short walk, and no memory grows with the batch.
class TaskIndex {
 public:
  TaskIndex(const RaggedBatch& batch, int64_t token_begin, int64_t token_end, const AttentionJob& job)
      : batch_(batch),
        token_begin_(token_begin),
        token_end_(token_end),
        group_(job.heads / job.kv_heads),
        kv_heads_(job.kv_heads),
        stride_(batch.sequences() / kMarks + 1) {
    for (int64_t s = 0; s < batch.sequences(); ++s) {
      if (s % stride_ == 0) first_tasks_[marks_++] = tasks_;
      tasks_ += TasksOf(s);
    }
  }

  int64_t tasks() const { return tasks_; }
  Rows RowsAt(int64_t sequence) const { return RowsOf(batch_, sequence, token_begin_, token_end_, group_); }

  struct Place {
    int64_t sequence, task;  // `task` counts from the sequence's first
  };
  Place Find(int64_t task) const {
    const int64_t* mark = std::upper_bound(first_tasks_, first_tasks_ + marks_, task) - 1;
    Place place{(mark - first_tasks_) * stride_, task - *mark};
    for (int64_t own; place.task >= (own = TasksOf(place.sequence)); ++place.sequence) place.task -= own;
    return place;
  }

 private:
  static constexpr int64_t kMarks = 256;
  int64_t TasksOf(int64_t sequence) const { return RowsAt(sequence).tiles() * kv_heads_; }

  const RaggedBatch& batch_;
  const int64_t token_begin_, token_end_, group_, kv_heads_, stride_;
  int64_t tasks_ = 0, marks_ = 0;
  int64_t first_tasks_[kMarks + 1];
};

}  // namespace

void RunAttention(const Cpu& cpu, const AttentionJob& job, const RaggedBatch& batch, int64_t token_begin,
                  int64_t token_end) {
  const TaskIndex index(batch, token_begin, token_end, job);
  // A task is a tile of query rows of one sequence and one KV head. A head's tiles follow one another: its cache is
  // warm.
  cpu.pool.For(index.tasks(), [&](int64_t task, int thread) {
    const TaskIndex::Place place = index.Find(task);
    const Rows rows = index.RowsAt(place.sequence);
    const int64_t begin = rows.begin + place.task % rows.tiles() * kAttentionRows;
    cpu.ops.attention(job, begin, std::min<int64_t>(begin + kAttentionRows, rows.end), place.task / rows.tiles(),
                      static_cast<const int32_t*>(batch.block_tables.row(place.sequence)),
                      cpu.scratch[thread].attention);
  });
}

}  // namespace quantd::cpu
