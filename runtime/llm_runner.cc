#include "runtime/llm_runner.h"

#include <numeric>
#include <vector>

#include "base/status_macros.h"
#include "base/strings.h"

namespace quantd {
namespace {

Tensor ToDevice(Backend& backend, Workspace& workspace, std::span<const int32_t> host, Shape shape) {
  Tensor tensor = workspace.New(DType::kI32, shape);
  backend.CopyIn(host.data(), tensor);
  return tensor;
}

// The step on the device: logits f32 [R, vocab] in the workspace, whose scope is the caller's.
Tensor RunStep(Backend& backend, Workspace& workspace, LanguageModel& model, KvCache& cache,
               const LlmStepInput& input) {
  StepContext step{backend, workspace};
  const int64_t T = static_cast<int64_t>(input.token_ids.size()), S = static_cast<int64_t>(input.seq_starts.size()) - 1;
  const int64_t R = static_cast<int64_t>(input.logit_rows.size());
  const LanguageModelShape& shape = model.shape();
  RaggedBatch batch;
  batch.token_ids = ToDevice(backend, workspace, input.token_ids, {T});
  batch.positions = ToDevice(backend, workspace, input.positions, {T});
  batch.seq_starts = ToDevice(backend, workspace, input.seq_starts, {S + 1});
  batch.block_tables = ToDevice(backend, workspace, input.block_tables, {S, input.block_table_width});
  Tensor hidden = workspace.New(DType::kF32, {T, shape.hidden_size});
  model.Forward(step, batch, cache, hidden);
  if (R == 0) return Tensor();
  Tensor rows = ToDevice(backend, workspace, input.logit_rows, {R});
  Tensor hidden_rows = workspace.New(DType::kF32, {R, shape.hidden_size});
  backend.GatherRows(hidden, rows, hidden_rows);
  Tensor logits = workspace.New(DType::kF32, {R, shape.vocab_size});
  model.Logits(step, hidden_rows, logits);
  return logits;
}

}  // namespace

LlmRunner::LlmRunner(Backend& backend, LanguageModel& model, KvCache& cache, const StepLimits& limits, Buffer workspace)
    : backend_(backend), model_(model), cache_(cache), limits_(limits), workspace_(std::move(workspace)) {}

absl::StatusOr<std::unique_ptr<LlmRunner>> LlmRunner::Create(Backend& backend, LanguageModel& model, KvCache& cache,
                                                             const StepLimits& limits, int64_t workspace_bytes,
                                                             MemoryTag tag) {
  QD_ASSIGN_OR_RETURN(Buffer buffer, backend.Allocate(workspace_bytes, tag));
  return std::unique_ptr<LlmRunner>(new LlmRunner(backend, model, cache, limits, std::move(buffer)));
}

int64_t LlmRunner::MeasureWorkspace(Backend& planner, LanguageModel& plan_model, KvCache& plan_cache,
                                    const StepLimits& limits) {
  const int64_t S = limits.max_sequences, T = limits.max_tokens, width = limits.max_blocks_per_sequence();
  std::vector<int32_t> zeros(static_cast<size_t>(std::max({T, S * width, S + 1})), 0);
  LlmStepInput largest;
  largest.token_ids = largest.positions = std::span(zeros).first(static_cast<size_t>(T));
  largest.seq_starts = std::span(zeros).first(static_cast<size_t>(S + 1));
  largest.block_tables = std::span(zeros).first(static_cast<size_t>(S * width));
  largest.block_table_width = width;
  largest.logit_rows = std::span(zeros).first(static_cast<size_t>(S));
  Workspace measuring;
  RunStep(planner, measuring, plan_model, plan_cache, largest);
  return measuring.high_water_bytes();
}

absl::Status LlmRunner::Check(const LlmStepInput& in) const {
  const int64_t T = static_cast<int64_t>(in.token_ids.size()), S = static_cast<int64_t>(in.seq_starts.size()) - 1;
  auto wrong = [](auto&&... what) { return absl::InternalError(absl::StrCat("step input: ", what...)); };
  if (T < 1 || T > limits_.max_tokens) return wrong(T, " tokens, expected 1 to ", limits_.max_tokens);
  if (S < 1 || S > limits_.max_sequences) return wrong(S, " sequences, expected 1 to ", limits_.max_sequences);
  if (static_cast<int64_t>(in.positions.size()) != T)
    return wrong(in.positions.size(), " positions for ", T, " tokens");
  if (in.block_table_width < 1 || in.block_table_width > limits_.max_blocks_per_sequence() ||
      static_cast<int64_t>(in.block_tables.size()) != S * in.block_table_width) {
    return wrong("block tables of ", in.block_tables.size(), " entries, width ", in.block_table_width);
  }
  if (static_cast<int64_t>(in.logit_rows.size()) > limits_.max_sequences)
    return wrong(in.logit_rows.size(), " logit rows");
  return absl::OkStatus();
}

absl::Status LlmRunner::Step(const LlmStepInput& input, std::span<SampleResult> results) {
  QD_RETURN_IF_ERROR(Check(input));
  if (input.sampling.size() != input.logit_rows.size() || results.size() < input.logit_rows.size()) {
    return absl::InternalError("step input: sampling rows and logit rows differ");
  }
  Workspace::Scope scope(workspace_);
  Tensor logits = RunStep(backend_, workspace_, model_, cache_, input);
  if (logits.present()) backend_.Sample(logits, input.sampling, results);
  return backend_.Synchronize();
}

absl::Status LlmRunner::StepLogits(const LlmStepInput& input, std::span<float> logits) {
  QD_RETURN_IF_ERROR(Check(input));
  Workspace::Scope scope(workspace_);
  Tensor on_device = RunStep(backend_, workspace_, model_, cache_, input);
  if (on_device.present()) {
    QD_CHECK(static_cast<int64_t>(logits.size()) == on_device.shape().elements());
    backend_.CopyOut(on_device, logits.data());
  }
  return backend_.Synchronize();
}

}  // namespace quantd
