// One step of a language model: host-side inputs in, sampled tokens out. The scheduler's engine, `quantd plan`'s dry
// run and the tests all go through it, so the plan cannot drift from the truth.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include <absl/status/statusor.h>

#include "kernels/sampling.h"
#include "runtime/kv_cache.h"
#include "runtime/language_model.h"
#include "runtime/workspace.h"

namespace quantd {

struct StepLimits {
  int64_t max_tokens = 512;    // of one step, all sequences together
  int64_t max_sequences = 16;  // in one step
  int64_t max_context = 0;     // tokens of one sequence; a multiple of nothing
  int64_t max_blocks_per_sequence() const { return (max_context + kKvBlockTokens - 1) / kKvBlockTokens; }
};

// Borrowed for the call. T tokens of S sequences.
struct LlmStepInput {
  std::span<const int32_t> token_ids, positions;  // [T]
  std::span<const int32_t> seq_starts;            // [S + 1]
  std::span<const int32_t> block_tables;          // [S, block_table_width], unused entries 0
  int64_t block_table_width = 0;                  // at most max_blocks_per_sequence
  std::span<const int32_t> logit_rows;            // batch rows whose next token is wanted
  SamplingRows sampling;                          // one for each logit row
};

// What the scheduler's engine needs of a model: an interface, so that policy is tested without one.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  // Runs the step and fills results[i] for logit_rows[i]. A failed step has changed nothing that anyone may rely on.
  virtual absl::Status Step(const LlmStepInput& input, std::span<SampleResult> results) = 0;
};

// Owned by the worker thread. Model, cache and backend must outlive it.
class LlmRunner : public StepRunner {
 public:
  // `workspace_bytes` is what MeasureWorkspace said. ResourceExhausted: the device has not got the memory.
  static absl::StatusOr<std::unique_ptr<LlmRunner>> Create(Backend& backend, LanguageModel& model, KvCache& cache,
                                                           const StepLimits& limits, int64_t workspace_bytes,
                                                           MemoryTag tag);
  // Bytes of workspace that the largest step takes: that step, run on a dry-run backend of the same kind.
  static int64_t MeasureWorkspace(Backend& planner, LanguageModel& plan_model, KvCache& plan_cache,
                                  const StepLimits& limits);

  absl::Status Step(const LlmStepInput& input, std::span<SampleResult> results) override;
  // The same step, but the logits of logit_rows instead of samples: f32 [R, vocab]. For scoring and tests.
  absl::Status StepLogits(const LlmStepInput& input, std::span<float> logits);

 private:
  LlmRunner(Backend& backend, LanguageModel& model, KvCache& cache, const StepLimits& limits, Buffer workspace);
  absl::Status Check(const LlmStepInput& input) const;

  Backend& backend_;
  LanguageModel& model_;
  KvCache& cache_;
  StepLimits limits_;
  Workspace workspace_;
};

}  // namespace quantd
