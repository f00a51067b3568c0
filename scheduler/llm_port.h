// LlmPort: the thread-safe half of a language model's engine. It keeps the queue's bounds, refuses at the door, carries
// submissions and notices to the worker, and holds what the engine publishes of itself.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "scheduler/engine_handle.h"
#include "scheduler/llm_scheduler.h"
#include "scheduler/mailbox.h"
#include "scheduler/observer.h"

namespace quantd {

class LlmEngine;

using Clock = TimePoint (*)();

// What may be said to a request is a flag here; a notice in the mailbox tells the worker to look. At most one notice is
// under way.
class RequestSignals final : public RequestControl,
                             public Mailbox::Notice,
                             public std::enable_shared_from_this<RequestSignals> {
 public:
  RequestSignals(LlmEngine* engine, std::shared_ptr<Mailbox> mailbox, SequenceId id)
      : engine_(engine), mailbox_(std::move(mailbox)), id_(id) {}
  void Cancel() override {
    cancelled_ = true;
    Notify();
  }
  void Expire() override {
    expired_ = true;
    Notify();
  }
  void ReaderReady() override {
    reader_ready_ = true;
    Notify();
  }
  SequenceId id() const { return id_; }

 private:
  void Notify();
  void Deliver() override;

  LlmEngine* const engine_;  // touched by mail only, which runs while the engine lives
  const std::shared_ptr<Mailbox> mailbox_;
  const SequenceId id_;
  std::atomic<bool> cancelled_{false}, expired_{false}, reader_ready_{false}, notified_{false};
};

struct LlmSubmission {
  LlmRequest request;
  std::shared_ptr<LlmSink> sink;
  std::shared_ptr<RequestSignals> signals;
};

struct LlmPortOptions {
  std::string name, revision;
  LlmLimits limits;
  std::shared_ptr<const TextCodec> codec;    // may be null where nobody asks for it (tests)
  std::shared_ptr<EngineObserver> observer;  // not null
  std::shared_ptr<Mailbox> mailbox;
  Clock clock = Now;
};

class LlmPort final : public LlmHandle {
 public:
  LlmPort(LlmPortOptions options, LlmEngine* engine) : options_(std::move(options)), engine_(engine) {}

  const std::string& name() const override { return options_.name; }
  const std::string& revision() const override { return options_.revision; }
  const LlmLimits& limits() const override { return options_.limits; }
  const TextCodec& codec() const override { return *options_.codec; }
  absl::StatusOr<Reservation> Reserve(const LlmRequest& request, PromptSize prompt) override;
  absl::StatusOr<std::shared_ptr<RequestControl>> Submit(Reservation reservation, LlmRequest request,
                                                         std::shared_ptr<LlmSink> sink) override;
  void RecordEnded(const LlmRequest& request, const absl::Status& status) override;
  EngineLoad load() const override;

  // For the registry.
  void StartDraining() { draining_ = true; }
  bool WaitUntilIdle(TimePoint deadline) QD_EXCLUDES(idle_mutex_);  // false at the deadline
  Duration step_age() const;  // since the last step while there is work; else zero

  Duration RetryDelay() const;  // by the measured throughput

  // For the engine, on the worker's thread.
  EngineObserver& observer() { return *options_.observer; }
  void LeaveQueue(int64_t prompt_tokens) { Release(prompt_tokens); }  // its place in the queue's bounds is free
  // Tells the observer of an end; `why` overrides the reason of the status. Takes no memory that it cannot do without.
  void Record(RequestRecord record, const absl::Status& status, std::string_view why = {}) noexcept;
  void Finished() QD_EXCLUDES(idle_mutex_);  // after OnDone
  void Publish(const EngineLoad& load) QD_EXCLUDES(load_mutex_);
  void PublishWork(TimePoint now, bool has_work, bool stepped);

 private:
  void Release(int64_t tokens) override;
  absl::Status Check(const LlmRequest& request, TimePoint now) const;
  bool TakeTokens(int64_t tokens);

  const LlmPortOptions options_;
  LlmEngine* const engine_;                                       // touched by mail only
  std::atomic<int64_t> waiting_requests_{0}, waiting_tokens_{0};  // reserved or submitted and not started
  std::atomic<SequenceId> last_id_{0};
  std::atomic<bool> draining_{false};
  std::atomic<int64_t> work_since_{0};  // when the last step ended or, if later, work came; clock ticks, 0 = no work

  Mutex idle_mutex_;
  CondVar idle_;
  int64_t live_ QD_GUARDED_BY(idle_mutex_) = 0;  // submitted, OnDone not yet heard

  mutable Mutex load_mutex_;
  EngineLoad load_ QD_GUARDED_BY(load_mutex_);
};

}  // namespace quantd
