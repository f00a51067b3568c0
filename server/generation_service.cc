#include "server/generation_service.h"

#include <memory>
#include <utility>

#include "base/allocation_failure.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "server/status.h"
#include "server/tokenize.h"

namespace quantd {
namespace {

// None, or years away, is no deadline. In gRPC's own time, which has no end: as a time_point of the system clock a
// deadline beyond 2262 lies in the past.
std::optional<TimePoint> Deadline(const grpc::CallbackServerContext& context, TimePoint now) {
  const gpr_timespec left =
      gpr_time_sub(gpr_convert_clock_type(context.raw_deadline(), GPR_CLOCK_MONOTONIC), gpr_now(GPR_CLOCK_MONOTONIC));
  constexpr int64_t kYear = 365 * 86400;
  if (left.tv_sec > kYear) return std::nullopt;
  return now + std::chrono::seconds(std::max<int64_t>(left.tv_sec, -3600)) + std::chrono::nanoseconds(left.tv_nsec);
}

// Owns itself until gRPC's OnDone, which comes after Finish and after every other reaction.
class StreamReactor final : public grpc::ServerWriteReactor<v1::GenerateEvent>,
                            public Outbox::Stream,
                            public EventWriter {
 public:
  StreamReactor(const GenerateDeps& deps, LiveStreams& streams, Outbox::Limits limits,
                grpc::CallbackServerContext& context, const v1::GenerateRequest& request)
      : streams_(streams), outbox_(*this, limits) {
    const TimePoint now = Now();
    call_ = std::make_shared<GenerateCall>(deps, *this, request.options(), now, Deadline(context, now));
    context.AddTrailingMetadata("request-id", call_->id());
    streams_.Add();  // after what may throw
    call_->Start(request);
  }

 private:
  void OnWriteDone(bool ok) override { outbox_.OnWriteDone(ok); }
  void OnCancel() override {
    call_->GiveUp();
    outbox_.Abandon();
  }
  void OnDone() override {
    streams_.Remove();
    delete this;
  }

  void StartWrite(const v1::GenerateEvent* event) override {
    grpc::ServerWriteReactor<v1::GenerateEvent>::StartWrite(event);
  }
  void Finish(const absl::Status& status) override {
    grpc::ServerWriteReactor<v1::GenerateEvent>::Finish(ToGrpc(status));
  }
  void ReaderReady() override { call_->ReaderReady(); }

  LlmSink::Flow Write(v1::GenerateEvent event) override { return outbox_.Push(std::move(event)); }
  void Close(const absl::Status& status) override {
    if (GetReason(status) == "SLOW_READER") outbox_.Abandon();  // what waits is what there was no room for
    outbox_.Close(status);
  }

  LiveStreams& streams_;
  Outbox outbox_;
  std::shared_ptr<GenerateCall> call_;
};

class UnaryReactor final : public grpc::ServerUnaryReactor, public EventWriter {
 public:
  UnaryReactor(const GenerateDeps& deps, grpc::CallbackServerContext& context, const v1::GenerateRequest& request,
               v1::GenerateResponse& response)
      : response_(response) {
    const TimePoint now = Now();
    call_ = std::make_shared<GenerateCall>(deps, *this, request.options(), now, Deadline(context, now));
    context.AddTrailingMetadata("request-id", call_->id());
    call_->Start(request);
  }

 private:
  void OnCancel() override { call_->GiveUp(); }
  void OnDone() override { delete this; }

  LlmSink::Flow Write(v1::GenerateEvent event) override {
    switch (event.event_case()) {
      case v1::GenerateEvent::kAccepted:
        response_.mutable_accepted()->Swap(event.mutable_accepted());
        response_.add_outputs();
        break;
      case v1::GenerateEvent::kPrompt:
        response_.mutable_prompt()->Swap(event.mutable_prompt());
        break;
      case v1::GenerateEvent::kDelta:
        response_.mutable_outputs(0)->mutable_text()->append(event.delta().text());
        response_.mutable_outputs(0)->mutable_token_ids()->MergeFrom(event.delta().token_ids());
        break;
      case v1::GenerateEvent::kOutputEnd:
        response_.mutable_outputs(0)->mutable_end()->Swap(event.mutable_output_end());
        break;
      case v1::GenerateEvent::kFinished:
        response_.mutable_usage()->Swap(event.mutable_finished()->mutable_usage());
        response_.mutable_timing()->Swap(event.mutable_finished()->mutable_timing());
        break;
      case v1::GenerateEvent::EVENT_NOT_SET:
        break;
    }
    return LlmSink::Flow::kReady;
  }
  void Close(const absl::Status& status) override { Finish(ToGrpc(status)); }

  v1::GenerateResponse& response_;
  std::shared_ptr<GenerateCall> call_;
};

// Request and response live until Finish. Nothing is done for a client that has gone, or whose deadline has passed;
// what was begun for one ends. Each model has a lane.
template <typename Request, typename Response, typename Work>
grpc::ServerUnaryReactor* OnPool(grpc::CallbackServerContext* context, const GenerateDeps& deps, WorkPool& pool,
                                 const Request* request, Response* response, const Work& work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto run = [=, &registry = deps.registry]() -> absl::Status {
    const Stop gone = [context] { return context->IsCancelled(); };
    QD_ASSIGN_OR_RETURN(const std::shared_ptr<LlmHandle> handle, registry.Find(request->model()));
    const absl::Status status = gone() ? absl::CancelledError() : work(*handle, *request, *response, gone);
    if (!absl::IsCancelled(status)) return status;
    return WithReason(absl::CancelledError("cancelled by the client"), "CLIENT");
  };
  const absl::StatusOr<std::shared_ptr<LlmHandle>> model = deps.registry.Find(request->model());
  const bool posted = pool.Post(model.ok() ? (*model)->name() : std::string(),
                                [=] { reactor->Finish(ToGrpc(CatchAllocationFailure(run))); });
  if (!posted) {
    reactor->Finish(ToGrpc(WithReason(
        WithRetryAfter(absl::ResourceExhaustedError("too many texts wait to be tokenized"), std::chrono::seconds(1)),
        "QUEUE_FULL")));
  }
  return reactor;
}

}  // namespace

void LiveStreams::Add() {
  MutexLock lock(mutex_);
  ++live_;
}

void LiveStreams::Remove() {
  MutexLock lock(mutex_);
  if (--live_ == 0) changed_.NotifyAll();
}

void LiveStreams::WaitUntilNone(TimePoint deadline) {
  MutexLock lock(mutex_);
  while (live_ > 0 && !stopped_) {
    if (!changed_.WaitUntil(mutex_, deadline)) return;
  }
}

void LiveStreams::Stop() {
  MutexLock lock(mutex_);
  stopped_ = true;
  changed_.NotifyAll();
}

GenerationService::GenerationService(GenerateDeps deps, WorkPool& text_pool, Outbox::Limits outbox, MessageGate& gate)
    : deps_(std::move(deps)), text_pool_(text_pool), outbox_(outbox) {
  const auto& service = ServiceIn(v1::GenerateRequest::descriptor(), "Generation");
  const auto mark = [this](GatedMethod m) { MarkMethodCallback(m.index, m.handler); };
  mark(Gated(gate, *this, service, "Generate", &GenerationService::Generate, RequestLife::kMethod));
  mark(Gated(gate, *this, service, "GenerateStream", &GenerationService::GenerateStream, RequestLife::kMethod));
  mark(Gated(gate, *this, service, "Tokenize", &GenerationService::Tokenize));
  mark(Gated(gate, *this, service, "Detokenize", &GenerationService::Detokenize));
}

grpc::ServerUnaryReactor* GenerationService::Generate(grpc::CallbackServerContext* context,
                                                      const v1::GenerateRequest* request,
                                                      v1::GenerateResponse* response) {
  return new UnaryReactor(deps_, *context, *request, *response);
}

grpc::ServerWriteReactor<v1::GenerateEvent>* GenerationService::GenerateStream(grpc::CallbackServerContext* context,
                                                                               const v1::GenerateRequest* request) {
  return new StreamReactor(deps_, streams_, outbox_, *context, *request);
}

grpc::ServerUnaryReactor* GenerationService::Tokenize(grpc::CallbackServerContext* context,
                                                      const v1::TokenizeRequest* request,
                                                      v1::TokenizeResponse* response) {
  return OnPool(context, deps_, text_pool_, request, response, &quantd::Tokenize);
}

grpc::ServerUnaryReactor* GenerationService::Detokenize(grpc::CallbackServerContext* context,
                                                        const v1::DetokenizeRequest* request,
                                                        v1::DetokenizeResponse* response) {
  return OnPool(context, deps_, text_pool_, request, response,
                [](const LlmHandle& model, const v1::DetokenizeRequest& ids, v1::DetokenizeResponse& text,
                   const Stop&) { return quantd::Detokenize(model, ids, text); });
}

}  // namespace quantd
