// LanguageModel: what a decoder-only model is to the rest of the product.
#pragma once

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/ragged_batch.h"

namespace quantd {

class KvCache;
class Workspace;

struct StepContext {
  Backend& backend;
  Workspace& workspace;
};

struct LanguageModelShape {
  int64_t vocab_size = 0, hidden_size = 0, layers = 0, kv_heads = 0, head_dim = 0, max_context = 0;
  DType activations = DType::kF32;  // f32 or bf16
};

struct ContextLimits {
  int64_t max_tokens = 0;  // of one sequence
  int64_t positions = 0;   // that the KV cache has room for, at most max_tokens: tables by position need no more rows
};

// Belongs to the thread that owns its backend. Nothing is allocated in Forward or Logits but from the step's workspace.
class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  virtual const LanguageModelShape& shape() const = 0;
  // hidden f32 [T, hidden_size] of every token before the final norm. The residual stream is f32 whatever the
  // activations are: rounding it would cost more than all the other roundings together.
  virtual void Forward(StepContext& context, const RaggedBatch& batch, KvCache& cache, const Tensor& hidden) = 0;
  // logits f32 [R, vocab_size] of hidden_rows [R, hidden_size], which the final norm is applied to first.
  virtual void Logits(StepContext& context, const Tensor& hidden_rows, const Tensor& logits) = 0;
};

}  // namespace quantd
