// One Generate or GenerateStream request between gRPC and the engine: checks it, tokenizes it on the codec pool,
// submits it, and turns what its engine says into events.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <absl/status/status.h>

#include "base/mutex.h"
#include "quantd/v1/generation.pb.h"
#include "scheduler/engine_handle.h"
#include "scheduler/model_registry.h"
#include "server/active_requests.h"
#include "server/convert.h"
#include "server/message_gate.h"
#include "server/work_pool.h"

namespace quantd {

// An id for a request that brought none: "r-" and 16 hexadecimal digits.
std::string NewRequestId();

// Where a request's events go: a stream's outbox, or the response of a unary call.
class EventWriter {
 public:
  virtual ~EventWriter() = default;
  virtual LlmSink::Flow Write(v1::GenerateEvent event) = 0;
  virtual void Close(const absl::Status& status) = 0;  // once, last: the writer may be gone when it returns
};

struct GenerateDeps {
  ModelRegistry& registry;
  WorkPool& codec_pool;
  ActiveRequests& active;
  // A request that named no model that it could have: there is no handle to count it.
  std::function<void(const LlmRequest&, const absl::Status&)> on_unrouted;
  MessageGate& gate;  // whose memory a prompt takes until it is tokens
};

class GenerateCall final : public LlmSink, public std::enable_shared_from_this<GenerateCall> {
 public:
  // `writer` lives until its Close. `deadline` is the client's.
  GenerateCall(const GenerateDeps& deps, EventWriter& writer, const v1::RequestOptions& options, TimePoint arrival,
               std::optional<TimePoint> deadline);

  const std::string& id() const { return record_.id; }
  void Start(const v1::GenerateRequest& proto);  // once; does no work that a long text makes long
  void GiveUp() QD_EXCLUDES(mutex_);             // the client is gone; any thread, any time
  void ReaderReady() QD_EXCLUDES(mutex_);        // any thread

 private:
  absl::Status Route(const v1::GenerateRequest& proto);
  void Encode();  // codec pool
  absl::Status EncodePrompt();
  bool IsGone() QD_EXCLUDES(mutex_);         // nobody waits for it: the client has left, or its deadline has passed
  bool LeftAtTheDeadline() const;            // a client that leaves now: because of its deadline?
  void Tell(RequestControl& control) const;  // that the client is gone
  bool Expired() const { return record_.deadline.has_value() && *record_.deadline <= Now(); }
  void Fail(const absl::Status& status);  // gives its place back; no sink has heard, or will hear, of this request
  void Leave() QD_EXCLUDES(mutex_);       // its id is free for another request

  // LlmSink, on the worker thread.
  void OnAccepted(int64_t queue_position) override;
  void OnPrompt(int64_t prompt_tokens, int64_t cached_tokens) override;
  Flow OnDelta(Delta delta) override;
  void OnOutputEnd(const OutputEnd& end) override;
  void OnDone(const absl::Status& status, const Usage& usage, const Timing& timing) override;

  const GenerateDeps& deps_;
  EventWriter& writer_;
  LlmRequest record_;            // the request without its prompt: who it is, when it came
  absl::Status options_status_;  // of its options
  std::shared_ptr<LlmHandle> handle_;
  ParsedGenerate parsed_;
  MessageGate::Charge charge_;  // for parsed_, until it is encoded
  Reservation reservation_;
  uint64_t seed_ = 0;

  Mutex mutex_;
  std::shared_ptr<RequestControl> control_ QD_GUARDED_BY(mutex_);  // once submitted
  bool given_up_ QD_GUARDED_BY(mutex_) = false, ready_ QD_GUARDED_BY(mutex_) = false;
  bool active_ QD_GUARDED_BY(mutex_) = false;  // its id is taken
};

}  // namespace quantd
