// What everybody but the worker holds of a loaded language model. Thread-safe. It never blocks on a step and never
// touches a device.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <absl/status/statusor.h>

#include "runtime/text_codec.h"
#include "scheduler/request.h"

namespace quantd {

struct QueueLimits {
  int64_t max_waiting_requests = 256;
  int64_t max_waiting_tokens = 256 * 1024;  // prompt tokens of waiting requests
};

struct LlmLimits {
  int64_t max_context = 0;  // tokens of prompt and output together
  int64_t vocab_size = 0;
  int64_t kv_blocks = 0, kv_block_tokens = 0;
  int64_t max_sequences = 0, max_batch_tokens = 0;
  QueueLimits queue;

  // Tokens that one sequence can have: the context, where the KV cache holds that many.
  int64_t max_sequence_tokens() const { return std::min(max_context, kv_blocks * kv_block_tokens); }
};

struct EngineLoad {
  int64_t running = 0, waiting = 0, waiting_tokens = 0;
  int64_t blocks_used = 0, blocks_cached = 0, blocks_free = 0;
  int64_t blocks_touched = 0;  // used at least once: on a host, those whose memory is resident
  // Of a new request, by its priority: what is ahead of it. Requests of a worse priority that have aged past it are not
  // counted.
  std::array<Duration, kNumPriorities> estimated_queue_time{};
};

// Prompt tokens of a request before it is tokenized.
struct PromptSize {
  int64_t tokens = 0;
  bool exact = true;  // false: an estimate, which refuses nothing for good
};

class LlmHandle;

// A place in the queue's bounds, given back when it is destroyed unused. Move-only.
class Reservation {
 public:
  Reservation() = default;
  Reservation(LlmHandle* owner, int64_t tokens) : owner_(owner), tokens_(tokens) {}
  Reservation(Reservation&& o) noexcept { *this = std::move(o); }
  Reservation& operator=(Reservation&& o) noexcept;
  ~Reservation();
  int64_t tokens() const { return tokens_; }
  bool held() const { return owner_ != nullptr; }

 private:
  friend class LlmHandle;
  LlmHandle* owner_ = nullptr;  // the holder keeps the handle alive
  int64_t tokens_ = 0;
};

// What a request's owner may say to the engine afterwards. Posting never blocks and never fails; after OnDone it does
// nothing.
class RequestControl {
 public:
  virtual ~RequestControl() = default;
  virtual void Cancel() = 0;
  virtual void Expire() = 0;  // its deadline has passed by its client's clock
  virtual void ReaderReady() = 0;
};

class LlmHandle {
 public:
  virtual ~LlmHandle() = default;
  virtual const std::string& name() const = 0;
  virtual const std::string& revision() const = 0;  // of the checkpoint
  virtual const LlmLimits& limits() const = 0;
  virtual const TextCodec& codec() const = 0;
  // Takes a place for a request with that prompt, before any work; of the request, priority and deadline are looked at.
  // ResourceExhausted QUEUE_FULL or TOKEN_BUDGET with a retry delay; InvalidArgument CONTEXT_TOO_LONG or
  // FailedPrecondition EXCEEDS_CAPACITY where the size is exact and an empty queue would not take it either;
  // DeadlineExceeded CANNOT_MEET where the estimated queue time goes beyond the deadline; Unavailable DRAINING.
  virtual absl::StatusOr<Reservation> Reserve(const LlmRequest& request, PromptSize prompt) = 0;
  // Corrects the reservation to the exact prompt length and hands the request to the worker. InvalidArgument
  // CONTEXT_TOO_LONG, FailedPrecondition EXCEEDS_CAPACITY, ResourceExhausted TOKEN_BUDGET, DeadlineExceeded
  // EXPIRED_IN_QUEUE, Unavailable DRAINING: then the sink hears nothing. After OK the sink hears OnDone once.
  virtual absl::StatusOr<std::shared_ptr<RequestControl>> Submit(Reservation reservation, LlmRequest request,
                                                                 std::shared_ptr<LlmSink> sink) = 0;
  // A request whose end no sink heard (refused by Reserve or Submit, bad text, cancelled while tokenizing) is counted
  // and logged through here by its caller, once, as rejected too where that is its reason; Reserve and Submit count
  // nothing. So every request is counted once. Takes no memory that it cannot do without.
  virtual void RecordEnded(const LlmRequest& request, const absl::Status& status) = 0;
  virtual EngineLoad load() const = 0;

 protected:
  friend class Reservation;
  virtual void Release(int64_t tokens) = 0;
  static int64_t Consume(Reservation& r) {  // the place is now the engine's to give back
    r.owner_ = nullptr;
    return std::exchange(r.tokens_, 0);
  }
};

}  // namespace quantd
