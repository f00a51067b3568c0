// Argument checks of the ops, shared by the backends. Each returns InvalidArgument naming the op, its operands and what
// does not fit; a check that passes allocates nothing.
//
// Check<Op> looks at shapes, dtypes and presence, so it also runs in a dry run. Check<Op>Values looks at what index
// tensors hold: it needs their memory on the host, and the shapes checked before.
#pragma once

#include <cstdint>
#include <span>

#include <absl/status/status.h>

#include "kernels/backend.h"

namespace quantd {

// A copy between host memory and a whole device tensor: the tensor is present and contiguous.
absl::Status CheckCopy(const char* op, const Tensor& device);

absl::Status CheckLinear(const Activation& x, const DeviceWeight& w, const LinearArgs& args, const Tensor& out);

absl::Status CheckEmbedding(const Tensor& ids, const DeviceWeight& table, const Tensor& out);
absl::Status CheckEmbeddingValues(const Tensor& ids, const DeviceWeight& table);

// What RmsNorm rounds its results to: bf16 where out.values is, else x's dtype.
DType NormDType(const Tensor& x, const Activation& out);
absl::Status CheckRmsNorm(const Tensor& x, const Tensor& weight, float eps, const Activation& out);
absl::Status CheckGatedActivation(ActivationKind kind, const Tensor& gate_up, const Activation& out);

absl::Status CheckRope(RopeStyle style, const Tensor& cos_sin, const Tensor& positions, const Tensor& x);
absl::Status CheckRopeValues(const Tensor& cos_sin, const Tensor& positions);

absl::Status CheckAppendKv(const Tensor& k, const Tensor& v, const RaggedBatch& batch, const PagedKv& kv);
absl::Status CheckPagedAttention(const Tensor& q, const PagedKv& kv, const RaggedBatch& batch, const Activation& out);
// For both: seq_starts runs from 0 to T, positions lie inside the block table, and every block that is written
// (AppendKv: the token's own) or read (PagedAttention: positions 0..p) lies inside the pool.
absl::Status CheckAppendKvValues(const RaggedBatch& batch, const PagedKv& kv);
absl::Status CheckPagedAttentionValues(const RaggedBatch& batch, const PagedKv& kv);

absl::Status CheckGatherRows(const Tensor& x, const Tensor& rows, const Tensor& out);
absl::Status CheckGatherRowsValues(const Tensor& x, const Tensor& rows);

absl::Status CheckCopyKvBlocks(const PagedKv& kv, std::span<const int32_t> src, std::span<const int32_t> dst);

absl::Status CheckSample(const Tensor& logits, SamplingRows rows, std::span<const SampleResult> results);

}  // namespace quantd
