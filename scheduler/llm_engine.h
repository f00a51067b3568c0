// LlmEngine: one loaded language model at work. It turns plans into steps, tokens into text, endings into statuses, and
// tells sinks and the observer. Worker thread only.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include <absl/status/status.h>

#include "runtime/llm_runner.h"
#include "runtime/tokenizer.h"
#include "scheduler/engine.h"
#include "scheduler/llm_port.h"
#include "scheduler/llm_scheduler.h"
#include "scheduler/queue_estimate.h"

namespace quantd {

struct LlmEngineOptions {
  LlmPortOptions port;                   // limits: those of the runner and its cache
  const Tokenizer* tokenizer = nullptr;  // outlives the engine
  std::vector<int32_t> eos_token_ids;
  std::vector<int32_t> suppress_tokens, begin_suppress_tokens;  // never chosen; not as the first of an output
  Duration ageing = SchedulerOptions().ageing;
  int max_preemptions = SchedulerOptions().max_preemptions;
};

class LlmEngine final : public Engine {
 public:
  LlmEngine(LlmEngineOptions options, std::unique_ptr<StepRunner> runner);
  ~LlmEngine() override;

  const std::shared_ptr<LlmPort>& port() const { return port_; }
  const LlmScheduler& scheduler() const { return scheduler_; }

  // From the port's mail.
  void Submit(LlmSubmission submission);
  void Cancel(SequenceId id);
  void Expire(SequenceId id);
  void ReaderReady(SequenceId id);

  void Tick(TimePoint now) override;
  std::optional<TimePoint> NextWakeup() const override { return scheduler_.NextWakeup(); }
  std::optional<Offer> Peek(TimePoint now) const override;
  // An allocation that fails ends the request that it was for with ResourceExhausted OUT_OF_MEMORY; one within the
  // runner's step ends those of the step.
  void Run() override;
  void EndAll(const absl::Status& status) override;

 private:
  struct Request;
  struct Farewell;  // an OnDone that is still to be said

  Request& At(SequenceId id) { return *requests_.at(id); }
  void Take(LlmSubmission submission);
  void EndOne(SequenceId id, const absl::Status& status);
  void NotePlan(const StepPlan& plan, TimePoint now);
  LlmStepInput MakeInput(const StepPlan& plan);
  void TakeTokens(const StepPlan& plan, TimePoint now);
  void CountTokens(const StepPlan& plan);
  bool TakeToken(Request& r, int32_t token, TimePoint now);
  void TakeText(Request& r, int32_t token);
  void Deliver(const StepPlan& plan, TimePoint now);
  // `step` is the status of the step that ended it. They allocate nothing that they cannot do without.
  void Finish(std::span<const Ended> ended, const absl::Status& step) noexcept;
  void Finish(const Ended& ended, const absl::Status& step) noexcept;
  void FinishOutput(Request& r, const Ended& ended);
  absl::Status StatusOf(EndCause cause, const absl::Status& step) const;
  void Publish(TimePoint now, bool stepped) noexcept;

  const std::vector<int32_t> eos_token_ids_, suppress_tokens_;
  std::vector<int32_t> begin_suppress_tokens_;  // suppress_tokens_ among them
  const Tokenizer& tokenizer_;
  const Clock clock_;
  const std::shared_ptr<LlmPort> port_;
  const std::unique_ptr<StepRunner> runner_;
  LlmScheduler scheduler_;
  // std: abseil's tables are broken by an allocation that fails while they grow.
  std::unordered_map<SequenceId, std::unique_ptr<Request>> requests_;
  std::vector<Farewell> farewells_;  // with room for all of requests_ besides
  QueueEstimate queue_estimate_;

  // The step's inputs, sized once so that nothing is allocated between Plan and the end of Step.
  std::vector<int32_t> token_ids_, positions_, seq_starts_, block_tables_, logit_rows_;
  std::vector<SamplingRow> sampling_;
  std::vector<SampleResult> results_;
  std::vector<StepOutput> outputs_;
};

}  // namespace quantd
