// Backend: the one op table. A model is straight calls on it; a device is one implementation of it.
//
// Threads: one backend belongs to one thread (the worker). Ops are asynchronous in principle: results are valid after
// Synchronize. Errors: an op that finds its arguments wrong or its device failing records the first error; later ops do
// nothing; Synchronize returns it and clears it. Precision: activations are f32 or bf16 (all operands of a call agree
// unless said), accumulation is f32, logits are f32. Results of a row never depend on the other rows of the call.
//
// Dry run: a backend made with `dry_run` computes nothing and allocates nothing, but Allocate and Pack count what they
// would have taken, by the same code. Ops check shapes and return.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include <absl/status/statusor.h>

#include "kernels/buffer.h"
#include "kernels/quant.h"
#include "kernels/ragged_batch.h"
#include "kernels/sampling.h"
#include "kernels/tensor.h"

namespace quantd {

struct DeviceInfo {
  std::string id;    // "cpu", "reference", "cuda:0"
  std::string name;  // "AMD EPYC …"
  std::string isa;   // what runs: "avx2", "portable"
  int threads = 1;
};

// What the tags add up to. Peak is of the current values' sum per model since the backend was made.
struct MemoryUsage {
  std::array<int64_t, kNumMemoryComponents> bytes{};
  int64_t total() const { return bytes[0] + bytes[1] + bytes[2]; }
};
struct MemorySnapshot {
  std::map<ModelId, MemoryUsage> models;
  std::map<ModelId, int64_t> peak_bytes;
};

// Weights of one linear layer on a device, in the order its kernels want. Opaque and move-only.
class DeviceWeight {
 public:
  virtual ~DeviceWeight() = default;
  const QuantScheme& scheme() const { return scheme_; }
  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  int64_t bytes() const { return bytes_; }                   // of its buffers, padding included
  std::string_view layout_id() const { return layout_id_; }  // names layout and version: "cpu.int4.n16.v1"

 protected:
  DeviceWeight(QuantScheme scheme, int64_t n, int64_t k, std::string layout_id)
      : scheme_(scheme), n_(n), k_(k), layout_id_(std::move(layout_id)) {}
  QuantScheme scheme_;
  int64_t n_, k_, bytes_ = 0;
  std::string layout_id_;
};

// What a linear layer multiplies: the values as they are and, where its scheme wants it, their quantized form, made by
// whoever produced them (norm, attention, activation). Absent forms are not written.
struct Activation {
  Tensor values;     // f32 or bf16 [T, K]
  Tensor quantized;  // i8 [T, K], ActivationFormat::kInt8PerToken
  Tensor scales;     // f32 [T]
};

enum class ActivationKind : uint8_t { kNone, kSilu };

// Applied in this order: + bias, activation, + residual.
struct LinearArgs {
  Tensor bias = {};      // f32 [N], or absent
  Tensor residual = {};  // dtype of out, [T, N], or absent; may be `out` itself
  ActivationKind activation = ActivationKind::kNone;
};

enum class RopeStyle : uint8_t { kHalves };  // pairs (i, i + D/2), as HF Llama; GGUF's q/k are un-permuted at load

struct BackendOptions {
  int threads = 0;  // 0 = as many as the affinity mask and the cgroup quota allow
  bool dry_run = false;
  std::string isa;  // cpu: "" = the best there is, capped by the environment's QUANTD_CPU_ISA; "portable", "avx2"
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual DeviceInfo device() const = 0;
  virtual bool dry_run() const = 0;

  // Memory. ResourceExhausted: the device has not got it. 64-byte aligned, not cleared. On a host, memory of the KV
  // cache need not be resident before it is written; all other is from the start.
  virtual absl::StatusOr<Buffer> Allocate(int64_t bytes, MemoryTag tag) = 0;
  virtual MemorySnapshot memory() const = 0;
  // In stream order; sizes are those of the device tensor, which is contiguous.
  virtual void CopyIn(const void* host, const Tensor& device) = 0;
  virtual void CopyOut(const Tensor& device, void* host) = 0;
  // The first failure since the last call.
  virtual absl::Status Synchronize() = 0;

  // OK, or InvalidArgument/Unimplemented saying why this scheme cannot run for W[N, K] here.
  virtual absl::Status Supports(const QuantScheme& scheme, int64_t n, int64_t k) const = 0;
  virtual absl::StatusOr<std::unique_ptr<DeviceWeight>> Pack(const QuantizedView& weight, MemoryTag tag) = 0;

  // out[T, N] = act(x W^T + bias) + residual. `out` is f32 or bf16, also with f32 out for bf16 x (logits).
  virtual void Linear(const Activation& x, const DeviceWeight& w, const LinearArgs& args, const Tensor& out) = 0;
  // out[T, K] = rows `ids` (i32 [T]) of the table, dequantized. The table may be the DeviceWeight of a tied head.
  virtual void Embedding(const Tensor& ids, const DeviceWeight& table, const Tensor& out) = 0;
  // x[T, K] * rsqrt(mean(x^2) + eps) * weight (f32 [K]). Writes whichever forms `out` has; the quantized form is made
  // from the values as rounded to their dtype, whether or not they are asked for (out.values' dtype, else x's). x may
  // be f32 with bf16 out.values: a residual stream keeps its precision.
  virtual void RmsNorm(const Tensor& x, const Tensor& weight, float eps, const Activation& out) = 0;
  // out[T, F] = act(gate) * up, gate_up = [T, 2F]: gate in the first F columns, up in the last.
  virtual void GatedActivation(ActivationKind kind, const Tensor& gate_up, const Activation& out) = 0;
  // In place on x [T, H, D]. cos_sin f32 [positions, D]: D/2 cosines, then D/2 sines. positions i32 [T].
  virtual void Rope(RopeStyle style, const Tensor& cos_sin, const Tensor& positions, const Tensor& x) = 0;
  // Writes k, v [T, H_kv, D] of the batch's tokens into their slots.
  virtual void AppendKv(const Tensor& k, const Tensor& v, const RaggedBatch& batch, const PagedKv& kv) = 0;
  // Causal attention of q [T, H, D] over the cache alone, which holds the step's own keys already: token at position p
  // reads positions 0..p. H is a multiple of H_kv. out.values is [T, H*D].
  virtual void PagedAttention(const Tensor& q, const PagedKv& kv, const RaggedBatch& batch, float scale,
                              const Activation& out) = 0;
  // out[i] = x[rows[i]], rows i32 [R].
  virtual void GatherRows(const Tensor& x, const Tensor& rows, const Tensor& out) = 0;
  // Copies KV block src[i] over dst[i] (both i32, on the host) in one layer's cache: a forked sequence's partial last
  // block.
  virtual void CopyKvBlocks(const PagedKv& kv, std::span<const int32_t> src, std::span<const int32_t> dst) = 0;
  // logits f32 [R, V]; results[i] of row i, valid on return. Changes the rows as kernels/logits_processors.h says.
  virtual void Sample(const Tensor& logits, SamplingRows rows, std::span<SampleResult> results) = 0;

 private:
  friend class Buffer;
  virtual void Free(void* data, int64_t bytes, MemoryTag tag) = 0;  // called by ~Buffer
};

// kind "cpu" or "reference". InvalidArgument: an unknown kind or instruction set; Unavailable: one that this machine
// lacks.
absl::StatusOr<std::unique_ptr<Backend>> CreateBackend(std::string_view kind, const BackendOptions& options);

}  // namespace quantd
