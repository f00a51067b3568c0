// A text generation request as the scheduler sees it: tokens in, events out. Plain values.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>

#include "base/clock.h"
#include "kernels/sampling.h"

namespace quantd {

enum class Priority : uint8_t { kInteractive, kStandard, kBatch };  // served in this order
inline constexpr int kNumPriorities = 3;
inline constexpr std::string_view Name(Priority p) {
  constexpr std::string_view kNames[] = {"interactive", "standard", "batch"};
  return kNames[static_cast<int>(p)];
}

struct StopConditions {
  int64_t max_new_tokens = 0;           // 0 = as many as the context holds
  int64_t min_new_tokens = 0;           // no end or stop token is chosen before
  std::vector<std::string> stop;        // texts; output ends before the earliest match
  std::vector<int32_t> stop_token_ids;  // besides the model's end tokens
  bool ignore_eos = false;
  bool include_stop = false;           // the matched stop text is part of the output
  std::optional<Duration> time_limit;  // soft, from arrival: ends OK with kTimeLimit
};

struct LlmRequest {
  std::string id;
  Priority priority = Priority::kStandard;
  std::vector<int32_t> prompt;  // at least one token
  SamplingParams sampling;
  StopConditions stopping;
  bool skip_special_tokens = true;
  bool prompt_is_text_start = false;  // for StreamDecoder: the output opens a text
  int32_t stream_interval = 1;        // tokens a delta, at least 1
  bool bypass_prefix_cache = false;
  std::string cache_salt;  // isolates cached prefixes
  TimePoint arrival{};
  std::optional<TimePoint> deadline;       // hard
  std::optional<Duration> max_queue_time;  // from arrival to the first step
};

enum class FinishReason : uint8_t { kStopToken, kStopText, kEos, kMaxTokens, kContextFull, kTimeLimit };
inline constexpr size_t kNumFinishReasons = 6;
inline constexpr std::string_view Name(FinishReason r) {
  constexpr std::string_view kNames[] = {"stop_token", "stop_text", "eos", "max_tokens", "context_full", "time_limit"};
  return kNames[static_cast<int>(r)];
}

struct OutputEnd {
  FinishReason reason = FinishReason::kEos;
  int32_t stop_token_id = -1;  // kStopToken, kEos
  std::string stop_text;       // kStopText
  int64_t new_tokens = 0;
};

struct Usage {
  int64_t prompt_tokens = 0, cached_tokens = 0, new_tokens = 0;
};
struct Timing {
  Duration queued{}, prefill{}, first_output{}, compute{},
      total{};  // first_output from arrival; zero where it never came
  int32_t preemptions = 0;
};

struct Delta {
  std::string text;
  std::vector<int32_t> token_ids;
};

// What one request's owner hears, on the worker thread; calls never block and take no scheduler lock. Order:
// OnAccepted, OnPrompt (at the first token), OnDelta…, OnOutputEnd (only where the output ended), OnDone — always,
// once, last. An allocation that fails in one of them may leave it as an exception and ends the request; OnDone throws
// nothing.
class LlmSink {
 public:
  enum class Flow { kReady, kFull };  // kFull: pause this sequence until RequestControl::ReaderReady
  virtual ~LlmSink() = default;
  virtual void OnAccepted(int64_t queue_position) = 0;
  virtual void OnPrompt(int64_t prompt_tokens, int64_t cached_tokens) = 0;
  virtual Flow OnDelta(Delta delta) = 0;
  virtual void OnOutputEnd(const OutputEnd& end) = 0;
  // OK, or why it ended early (reason and retry delay as in base/error.h).
  virtual void OnDone(const absl::Status& status, const Usage& usage, const Timing& timing) = 0;
};

}  // namespace quantd
