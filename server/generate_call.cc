#include "server/generate_call.h"

#include <algorithm>
#include <random>
#include <utility>

#include "base/allocation_failure.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "server/length_defaults.h"
#include "server/status.h"

namespace quantd {
namespace {

uint64_t Random64() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

// A client whose deadline passes resets its stream a little before our own clock gets there: gRPC rounds the timeout up
// (1/100 of it at most) on its way. So whoever leaves that close to the deadline has met the deadline.
bool IsTheDeadline(TimePoint now, TimePoint arrival, TimePoint deadline) {
  return now + std::max<Duration>((deadline - arrival) / 64, std::chrono::milliseconds(50)) >= deadline;
}

// Of a request that the engine has not heard of.
absl::Status GoneError(bool expired) {
  if (!expired) return WithReason(absl::CancelledError("cancelled by the client"), "CLIENT");
  return WithReason(absl::DeadlineExceededError("the deadline passed before the request was queued"),
                    "EXPIRED_IN_QUEUE");
}

// Of the codec pool. A template that takes long holds up no other model and no plain text, a long prompt no short one.
std::string Lane(const std::string& model, bool is_chat, int64_t estimated_tokens) {
  constexpr int64_t kLong = 16384;
  return absl::StrCat(model, is_chat ? " chat" : " text", estimated_tokens > kLong ? " long" : "");
}

}  // namespace

std::string NewRequestId() { return absl::StrCat("r-", absl::Hex(Random64(), absl::kZeroPad16)); }

GenerateCall::GenerateCall(const GenerateDeps& deps, EventWriter& writer, const v1::RequestOptions& options,
                           TimePoint arrival, std::optional<TimePoint> deadline)
    : deps_(deps), writer_(writer) {
  record_.arrival = arrival;
  record_.deadline = deadline;
  options_status_ = ParseOptions(options, record_);
  if (record_.id.empty()) record_.id = NewRequestId();
}

void GenerateCall::Start(const v1::GenerateRequest& proto) {
  const absl::Status status = CatchAllocationFailure([&] { return Route(proto); });
  if (!status.ok()) Fail(status);
}

// Where it is OK the codec pool has the call.
absl::Status GenerateCall::Route(const v1::GenerateRequest& proto) {
  QD_ASSIGN_OR_RETURN(handle_, deps_.registry.Find(proto.model()));
  QD_RETURN_IF_ERROR(options_status_);
  QD_RETURN_IF_ERROR(deps_.active.Add(record_.id));
  {
    MutexLock lock(mutex_);
    active_ = true;
  }
  if (Expired()) return GoneError(/*expired=*/true);
  const PromptSize size = EstimatePromptTokens(proto);
  QD_ASSIGN_OR_RETURN(reservation_, handle_->Reserve(record_, size));
  QD_ASSIGN_OR_RETURN(charge_, deps_.gate.Hold(static_cast<int64_t>(proto.ByteSizeLong())));
  QD_ASSIGN_OR_RETURN(parsed_, ParseGenerate(proto, handle_->codec(), handle_->limits(), record_));
  if (!parsed_.seed_given) parsed_.request.sampling.seed = Random64();
  seed_ = parsed_.request.sampling.seed;
  if (deps_.codec_pool.Post(Lane(handle_->name(), proto.has_chat(), size.tokens),
                            [self = shared_from_this()] { self->Encode(); })) {
    return absl::OkStatus();
  }
  return WithReason(
      WithRetryAfter(absl::ResourceExhaustedError("too many prompts wait to be tokenized"), std::chrono::seconds(1)),
      "QUEUE_FULL");
}

void GenerateCall::Encode() {
  const MessageGate::Charge until_encoded = std::move(charge_);
  std::shared_ptr<RequestControl> submitted;
  absl::Status status = CatchAllocationFailure([&] {
    if (IsGone()) return absl::CancelledError();
    QD_RETURN_IF_ERROR(EncodePrompt());
    QD_RETURN_IF_ERROR(ApplyLengthDefaults(handle_->codec().defaults(), handle_->limits(), parsed_));
    QD_ASSIGN_OR_RETURN(submitted,
                        handle_->Submit(std::move(reservation_), std::move(parsed_.request), shared_from_this()));
    return absl::OkStatus();
  });
  if (absl::IsCancelled(status)) status = CatchAllocationFailure([&] { return GoneError(LeftAtTheDeadline()); });
  if (!status.ok()) return Fail(status);
  bool gone, ready;
  {
    MutexLock lock(mutex_);
    control_ = submitted;
    gone = given_up_;
    ready = ready_;
  }
  if (gone) Tell(*submitted);
  if (ready) submitted->ReaderReady();
}

bool GenerateCall::IsGone() {
  MutexLock lock(mutex_);
  return given_up_ || Expired();
}

absl::Status GenerateCall::EncodePrompt() {
  std::vector<int32_t>& prompt = parsed_.request.prompt;
  if (auto* tokens = std::get_if<std::vector<int32_t>>(&parsed_.input)) {
    prompt = std::move(*tokens);
    return absl::OkStatus();
  }
  const bool is_text = std::holds_alternative<std::string>(parsed_.input);
  const Stop stop = [this] { return IsGone(); };
  parsed_.text_options.stop = stop;
  parsed_.text_options.max_tokens = handle_->limits().max_context;
  if (!is_text) std::get<ChatTemplateInput>(parsed_.input).stop = stop;
  absl::StatusOr<EncodedPrompt> encoded =
      is_text ? handle_->codec().EncodeText(std::move(std::get<std::string>(parsed_.input)), parsed_.text_options)
              : handle_->codec().EncodeChat(std::move(std::get<ChatTemplateInput>(parsed_.input)),
                                            handle_->limits().max_context);
  const char* field = is_text ? "text" : "chat";
  if (!encoded.ok()) return AtInput(encoded.status(), field);
  if (encoded->ids.empty()) {
    return WithField(absl::InvalidArgumentError(absl::StrCat(field, ": gives no token, expected at least one")), field);
  }
  // A tokenizer may be longer than the model.
  const int64_t vocab_size = handle_->limits().vocab_size;
  for (const int32_t id : encoded->ids) {
    if (id < vocab_size) continue;
    return WithField(absl::InvalidArgumentError(absl::StrCat(
                         field, ": has the token ", id, ", which the model's vocabulary of ", vocab_size, " lacks")),
                     field);
  }
  prompt = std::move(encoded->ids);
  return absl::OkStatus();
}

void GenerateCall::Leave() {
  {
    MutexLock lock(mutex_);
    if (!std::exchange(active_, false)) return;
  }
  deps_.active.Remove(record_.id);
}

void GenerateCall::Fail(const absl::Status& status) {
  Leave();
  reservation_ = Reservation();
  absl::Status said = status;
  IfMemoryAllows([&] { said = WithReason(status, ReasonOf(status)); });  // what the client is told
  IfMemoryAllows([&] {  // whatever becomes of the record, the client hears
    if (handle_ == nullptr) {
      deps_.on_unrouted(record_, status);
    } else {
      handle_->RecordEnded(record_, said);
    }
  });
  writer_.Close(status);
}

void GenerateCall::GiveUp() {
  Leave();  // at once, not when the engine has ended it: who gave up on a call may send it again
  std::shared_ptr<RequestControl> control;
  {
    MutexLock lock(mutex_);
    given_up_ = true;
    control = control_;
  }
  if (control != nullptr) Tell(*control);
}

bool GenerateCall::LeftAtTheDeadline() const {
  return record_.deadline.has_value() && IsTheDeadline(Now(), record_.arrival, *record_.deadline);
}

void GenerateCall::Tell(RequestControl& control) const {
  if (LeftAtTheDeadline()) {
    control.Expire();
  } else {
    control.Cancel();
  }
}

void GenerateCall::ReaderReady() {
  std::shared_ptr<RequestControl> control;
  {
    MutexLock lock(mutex_);
    ready_ = control_ == nullptr;
    control = control_;
  }
  if (control != nullptr) control->ReaderReady();
}

void GenerateCall::OnAccepted(int64_t queue_position) {
  v1::GenerateEvent event;
  v1::Accepted& accepted = *event.mutable_accepted();
  accepted.set_request_id(record_.id);
  accepted.set_model(handle_->name());
  accepted.set_revision(handle_->revision());
  accepted.set_queue_position(static_cast<uint32_t>(queue_position));
  accepted.set_seed(seed_);
  writer_.Write(std::move(event));
}

void GenerateCall::OnPrompt(int64_t prompt_tokens, int64_t cached_tokens) {
  v1::GenerateEvent event;
  event.mutable_prompt()->set_prompt_tokens(static_cast<uint32_t>(prompt_tokens));
  event.mutable_prompt()->set_cached_tokens(static_cast<uint32_t>(cached_tokens));
  writer_.Write(std::move(event));
}

LlmSink::Flow GenerateCall::OnDelta(Delta delta) {
  v1::GenerateEvent event;
  FillDelta(std::move(delta), parsed_.want_text, parsed_.want_token_ids, *event.mutable_delta());
  if (event.delta().text().empty() && event.delta().token_ids().empty()) return Flow::kReady;
  return writer_.Write(std::move(event));
}

void GenerateCall::OnOutputEnd(const OutputEnd& end) {
  v1::GenerateEvent event;
  FillOutputEnd(end, *event.mutable_output_end());
  writer_.Write(std::move(event));
}

void GenerateCall::OnDone(const absl::Status& status, const Usage& usage, const Timing& timing) {
  Leave();  // before the client can hear of the end
  absl::Status said = status;
  if (status.ok()) {
    said = CatchAllocationFailure([&] {
      v1::GenerateEvent event;
      FillUsage(usage, *event.mutable_finished()->mutable_usage());
      FillTiming(timing, *event.mutable_finished()->mutable_timing());
      writer_.Write(std::move(event));
      return absl::OkStatus();
    });
  }
  writer_.Close(said);
}

}  // namespace quantd
