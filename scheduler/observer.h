// What the outside may know of a model's engine: one interface for metrics and the request log. Called on the worker
// thread; OnRejected, and OnEnded of a request that never reached the worker, on their caller's. Never blocks. All
// durations come from one steady clock. Nothing is thrown: what an implementation cannot do for lack of memory, such as
// a line of the log, it leaves out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <absl/status/status.h>

#include "scheduler/request.h"

namespace quantd {

struct RequestRecord {  // of one ended request
  std::string_view id;
  Priority priority = Priority::kStandard;
  absl::StatusCode code = absl::StatusCode::kOk;
  std::string_view reason;  // ErrorInfo reason, or the finish reason's name
  Usage usage;
  Timing timing;
};

enum class StepPhase : uint8_t { kPrefill, kDecode, kMixed };

// What a step brought its requests. Nothing is counted twice: not a prompt token that is computed anew after a
// preemption, nor one of the prompt that the prefix cache held as computed.
struct StepTokens {
  int64_t prompt = 0, prompt_cached = 0, generated = 0;
};

struct EngineGauges {  // after every step and every change
  int64_t running = 0, waiting = 0, waiting_tokens = 0;
  int64_t blocks_used = 0, blocks_cached = 0, blocks_free = 0;
  double oldest_waiting_seconds = 0, estimated_queue_seconds = 0;
};

class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnRejected(std::string_view reason) = 0;  // refused at the door: "queue_full", "token_budget", …
  virtual void OnStarted(Priority priority, Duration queued) = 0;  // first step
  virtual void OnFirstToken(Duration since_arrival) = 0;
  virtual void OnInterToken(Duration gap) = 0;
  virtual void OnPrefixLookup(int64_t queried_tokens, int64_t hit_tokens) = 0;
  virtual void OnPreempted(int64_t lost_tokens) = 0;
  virtual void OnStep(StepPhase phase, int64_t tokens, int64_t sequences, Duration duration) = 0;
  virtual void OnTokens(const StepTokens& tokens) = 0;  // after each step
  virtual void OnEnded(const RequestRecord& record) = 0;
  virtual void OnGauges(const EngineGauges& gauges) = 0;
};

}  // namespace quantd
