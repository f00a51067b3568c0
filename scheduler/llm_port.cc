#include "scheduler/llm_port.h"

#include <algorithm>

#include "base/allocation_failure.h"
#include "base/check.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "scheduler/llm_engine.h"

namespace quantd {
namespace {

// Adds `amount` unless the sum would pass `limit`.
bool TakeUpTo(std::atomic<int64_t>& value, int64_t amount, int64_t limit) {
  int64_t seen = value.load();
  do {
    if (amount > limit - seen) return false;
  } while (!value.compare_exchange_weak(seen, seen + amount));
  return true;
}

// Under which label a request that never reached the engine counts as rejected; empty: it was at fault itself.
std::string_view RejectedLabel(std::string_view reason) {
  if (reason == "QUEUE_FULL") return "queue_full";
  if (reason == "TOKEN_BUDGET") return "token_budget";
  if (reason == "CONTEXT_TOO_LONG" || reason == "EXCEEDS_CAPACITY") return "too_large";
  if (reason == "CANNOT_MEET" || reason == "EXPIRED_IN_QUEUE") return "deadline";
  if (reason == "DRAINING") return "draining";
  return "";
}

absl::Status OverQueue(int64_t tokens, const QueueLimits& queue) {
  return WithReason(absl::FailedPreconditionError(absl::StrCat(
                        "prompt of ", tokens, " tokens can never fit into the queue's ", queue.max_waiting_tokens)),
                    "EXCEEDS_CAPACITY");
}

}  // namespace

Reservation& Reservation::operator=(Reservation&& o) noexcept {
  if (this != &o) {
    if (owner_ != nullptr) owner_->Release(tokens_);
    owner_ = std::exchange(o.owner_, nullptr);
    tokens_ = std::exchange(o.tokens_, 0);
  }
  return *this;
}

Reservation::~Reservation() {
  if (owner_ != nullptr) owner_->Release(tokens_);
}

void RequestSignals::Notify() {
  if (!notified_.exchange(true)) mailbox_->PostNotice(shared_from_this());
}

void RequestSignals::Deliver() {
  notified_ = false;  // before the flags are read: whoever sets one later posts anew
  if (cancelled_.exchange(false)) engine_->Cancel(id_);
  if (expired_.exchange(false)) engine_->Expire(id_);
  if (reader_ready_.exchange(false)) engine_->ReaderReady(id_);
}

absl::StatusOr<Reservation> LlmPort::Reserve(const LlmRequest& request, PromptSize prompt) {
  // What an estimate has beyond the context will never wait: it is refused once it is counted.
  const int64_t longest = prompt.exact ? prompt.tokens : std::min(prompt.tokens, options_.limits.max_context);
  int64_t tokens = std::max<int64_t>(longest, 0);
  if (draining_) return WithReason(absl::UnavailableError("the model is draining"), "DRAINING");
  if (const int64_t most = options_.limits.queue.max_waiting_tokens; tokens > most) {
    if (prompt.exact && tokens > options_.limits.max_context) {
      return WithReason(absl::InvalidArgumentError(absl::StrCat("prompt of ", tokens, " tokens exceeds the context of ",
                                                                options_.limits.max_context)),
                        "CONTEXT_TOO_LONG");
    }
    if (prompt.exact) return OverQueue(tokens, options_.limits.queue);
    tokens = most;  // whether it can ever fit is for the exact count to say
  }
  if (request.deadline) {
    const Duration wait = load().estimated_queue_time[static_cast<size_t>(request.priority)];
    const Duration left = *request.deadline - options_.clock();
    if (left > Duration::zero() && wait > left) {  // else it is Submit that says it has expired
      return WithReason(absl::DeadlineExceededError(
                            absl::StrCat("the deadline is ", ToSeconds(left), " s away, the queue about ",
                                         ToSeconds(wait), " s long for priority ", ToAbsl(Name(request.priority)))),
                        "CANNOT_MEET");
    }
  }
  if (!TakeUpTo(waiting_requests_, 1, options_.limits.queue.max_waiting_requests)) {
    return WithRetryAfter(
        WithReason(absl::ResourceExhaustedError(absl::StrCat("the queue holds its most of ",
                                                             options_.limits.queue.max_waiting_requests, " requests")),
                   "QUEUE_FULL"),
        RetryDelay());
  }
  if (!TakeTokens(tokens)) {
    --waiting_requests_;
    return WithRetryAfter(WithReason(absl::ResourceExhaustedError(
                                         absl::StrCat("about ", tokens, " prompt tokens do not fit into the queue's ",
                                                      options_.limits.queue.max_waiting_tokens)),
                                     "TOKEN_BUDGET"),
                          RetryDelay());
  }
  return Reservation(this, tokens);
}

absl::StatusOr<std::shared_ptr<RequestControl>> LlmPort::Submit(Reservation reservation, LlmRequest request,
                                                                std::shared_ptr<LlmSink> sink) {
  QD_CHECK(reservation.held() && sink != nullptr);
  const TimePoint now = options_.clock();
  QD_RETURN_IF_ERROR(Check(request, now));
  // Whatever allocates, then what changes a bound.
  auto signals = std::make_shared<RequestSignals>(engine_, options_.mailbox, ++last_id_);
  auto submission = std::make_shared<LlmSubmission>();
  Mailbox::Mail mail = [engine = engine_, submission] { engine->Submit(std::move(*submission)); };
  const int64_t tokens = static_cast<int64_t>(request.prompt.size());
  const int64_t reserved = reservation.tokens();
  if (tokens > reserved && !TakeTokens(tokens - reserved)) {
    return WithRetryAfter(
        WithReason(absl::ResourceExhaustedError(absl::StrCat(tokens, " prompt tokens do not fit into the queue's ",
                                                             options_.limits.queue.max_waiting_tokens)),
                   "TOKEN_BUDGET"),
        RetryDelay());
  }
  if (tokens < reserved) waiting_tokens_ -= reserved - tokens;
  *submission = {std::move(request), std::move(sink), signals};
  Consume(reservation);
  {
    MutexLock lock(idle_mutex_);
    ++live_;
  }
  int64_t none = 0;
  work_since_.compare_exchange_strong(none, now.time_since_epoch().count());
  // Asked after `live_` rose, so that whoever drains either refuses this request or waits for it.
  const absl::Status posted = CatchAllocationFailure([&] {
    if (!draining_ && options_.mailbox->Post(std::move(mail))) return absl::OkStatus();
    return WithReason(absl::UnavailableError("the model is draining"), "DRAINING");
  });
  if (!posted.ok()) {
    Release(tokens);
    Finished();
    return posted;
  }
  return signals;
}

absl::Status LlmPort::Check(const LlmRequest& request, TimePoint now) const {
  const LlmLimits& limits = options_.limits;
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  if (prompt == 0) {
    return WithField(
        WithReason(absl::InvalidArgumentError("the prompt has no tokens, expected at least one"), "FIELD_INVALID"),
        "input");
  }
  for (int32_t id : request.prompt) {
    if (id < 0 || id >= limits.vocab_size) {
      return WithField(WithReason(absl::InvalidArgumentError(
                                      absl::StrCat("token id ", id, ", expected 0 to ", limits.vocab_size - 1)),
                                  "FIELD_INVALID"),
                       "input");
    }
  }
  // min_new_tokens is never more than a max_new_tokens that was given.
  const StopConditions& stopping = request.stopping;
  const int64_t wanted = prompt + std::max<int64_t>({stopping.max_new_tokens, stopping.min_new_tokens, 1});
  const std::string asked = stopping.max_new_tokens > 0   ? absl::StrCat("max_new_tokens of ", stopping.max_new_tokens)
                            : stopping.min_new_tokens > 0 ? absl::StrCat("min_new_tokens of ", stopping.min_new_tokens)
                                                          : std::string("a first new token");
  if (wanted > limits.max_context) {
    const char* field = prompt >= limits.max_context  ? "input"
                        : stopping.max_new_tokens > 0 ? "stopping.max_new_tokens"
                                                      : "stopping.min_new_tokens";
    return WithField(WithReason(absl::InvalidArgumentError(absl::StrCat("prompt of ", prompt, " tokens and ", asked,
                                                                        " exceed the context of ", limits.max_context)),
                                "CONTEXT_TOO_LONG"),
                     field);
  }
  if (wanted > limits.kv_blocks * limits.kv_block_tokens + 1) {
    return WithReason(absl::FailedPreconditionError(absl::StrCat("prompt of ", prompt, " tokens and ", asked,
                                                                 " can never fit in the KV cache of ",
                                                                 limits.kv_blocks * limits.kv_block_tokens, " tokens")),
                      "EXCEEDS_CAPACITY");
  }
  if (prompt > limits.queue.max_waiting_tokens) {
    return OverQueue(prompt, limits.queue);
  }
  if (request.deadline && *request.deadline <= now) {
    return WithReason(absl::DeadlineExceededError("the deadline passed before the request was queued"),
                      "EXPIRED_IN_QUEUE");
  }
  return absl::OkStatus();
}

void LlmPort::RecordEnded(const LlmRequest& request, const absl::Status& status) {
  IfMemoryAllows([&] {
    if (const std::string_view label = RejectedLabel(GetReason(status)); !label.empty()) {
      options_.observer->OnRejected(label);
    }
  });
  RequestRecord record;
  record.id = request.id;
  record.priority = request.priority;
  record.usage.prompt_tokens = static_cast<int64_t>(request.prompt.size());
  record.timing.total = std::max(Duration::zero(), options_.clock() - request.arrival);
  Record(record, status);
}

void LlmPort::Record(RequestRecord record, const absl::Status& status, std::string_view why) noexcept {
  std::string reason;
  if (why.empty()) IfMemoryAllows([&] { reason = GetReason(status); });
  record.code = status.code();
  record.reason = why.empty() ? std::string_view(reason) : why;
  options_.observer->OnEnded(record);
}

EngineLoad LlmPort::load() const {
  MutexLock lock(load_mutex_);
  return load_;
}

bool LlmPort::WaitUntilIdle(TimePoint deadline) {
  MutexLock lock(idle_mutex_);
  while (live_ > 0) {
    if (!idle_.WaitUntil(idle_mutex_, deadline) && live_ > 0) return false;
  }
  return true;
}

Duration LlmPort::step_age() const {
  const int64_t since = work_since_;
  if (since == 0) return Duration::zero();
  return std::max(Duration::zero(), options_.clock() - TimePoint(Duration(since)));
}

void LlmPort::Finished() {
  MutexLock lock(idle_mutex_);
  if (--live_ == 0) idle_.NotifyAll();
}

void LlmPort::Publish(const EngineLoad& load) {
  MutexLock lock(load_mutex_);
  load_ = load;
}

void LlmPort::PublishWork(TimePoint now, bool has_work, bool stepped) {
  if (!has_work) {
    work_since_ = 0;
  } else if (stepped || work_since_ == 0) {
    work_since_ = now.time_since_epoch().count();
  }
}

void LlmPort::Release(int64_t tokens) {
  --waiting_requests_;
  waiting_tokens_ -= tokens;
}

bool LlmPort::TakeTokens(int64_t tokens) {
  return TakeUpTo(waiting_tokens_, tokens, options_.limits.queue.max_waiting_tokens);
}

// A second where nothing has been measured yet: long enough not to be a busy loop, short enough to be tried again.
Duration LlmPort::RetryDelay() const {
  const Duration estimate = load().estimated_queue_time.back();
  if (estimate <= Duration::zero()) return std::chrono::seconds(1);
  return std::clamp<Duration>(estimate, std::chrono::milliseconds(50), std::chrono::minutes(1));
}

}  // namespace quantd
