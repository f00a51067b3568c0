// One step's tokens of several sequences, and the paged KV cache they read and write.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace quantd {

inline constexpr int kKvBlockTokens = 32;  // tokens a KV block; 32 lets per-channel key groups of 32 tokens fit a block

// T tokens of S sequences, each sequence's tokens adjacent. All tensors are i32 and on the device.
struct RaggedBatch {
  Tensor token_ids;     // [T]
  Tensor positions;     // [T] position of each token in its sequence
  Tensor seq_starts;    // [S + 1] first token of each sequence in the batch; the last entry is T
  Tensor block_tables;  // [S, max blocks a sequence] KV block ids; block b holds positions [32b, 32b + 32)
  int64_t tokens() const { return token_ids.rows(); }
  int64_t sequences() const { return seq_starts.rows() - 1; }
};

enum class KvFormat : uint8_t { kF32, kBF16, kInt8 };
// int8 is per token and head: s = max(amax/127, 1e-5) in f32, NaN where a value is not finite; q = clamp(rne(x*(1/s)),
// -127, 127).
inline DType KvDType(KvFormat f) {
  return f == KvFormat::kF32 ? DType::kF32 : f == KvFormat::kBF16 ? DType::kBF16 : DType::kI8;
}
inline int64_t KvElementBytes(KvFormat f) { return SizeOf(KvDType(f)); }
inline int64_t KvScaleBytes(KvFormat f) { return f == KvFormat::kInt8 ? 4 : 0; }  // per token and head

// Keys and values of one layer.
struct PagedKv {
  KvFormat key_format = KvFormat::kBF16, value_format = KvFormat::kBF16;
  Tensor keys, values;              // [blocks, H_kv, 32, D] f32, bf16 or i8
  Tensor key_scales, value_scales;  // f32 [blocks, H_kv, 32]; absent unless int8
};

}  // namespace quantd
