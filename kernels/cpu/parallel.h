// How the ops' work is split over the threads. Results never depend on the split.
#pragma once

#include <cstdint>

#include "kernels/cpu/cpu_ops.h"

namespace quantd::cpu {

void RunLinear(const Cpu& cpu, const LinearJob& job);

// Attention of the tokens [token_begin, token_end) of the batch. Position and table tensors are on the host.
void RunAttention(const Cpu& cpu, const AttentionJob& job, const RaggedBatch& batch, int64_t token_begin,
                  int64_t token_end);

// Calls function(row) for rows [0, rows) of about `elements` elements each: rows too small to share stay on this
// thread.
template <typename Function>
void ForRows(const Cpu& cpu, int64_t rows, int64_t elements, const Function& function) {
  constexpr int64_t kTaskElements = 4096;  // about a microsecond, several times what handing out a task costs
  int64_t rows_per_task = elements >= kTaskElements ? 1 : kTaskElements / (elements + 1) + 1;
  cpu.pool.For((rows + rows_per_task - 1) / rows_per_task, [&](int64_t task, int) {
    int64_t begin = task * rows_per_task, end = begin + rows_per_task < rows ? begin + rows_per_task : rows;
    for (int64_t row = begin; row < end; ++row) function(row);
  });
}

}  // namespace quantd::cpu
