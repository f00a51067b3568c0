#include "server/health_service.h"

#include <memory>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/strings.h"
#include "server/status.h"

namespace quantd {
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

namespace {

constexpr size_t kMaxNameBytes = 256;  // a watch keeps its name

grpc::Status NameTooLong(const std::string& name) {
  return ToGrpc(WithField(absl::InvalidArgumentError(absl::StrCat("service: the name has ", name.size(),
                                                                  " bytes, expected at most ", kMaxNameBytes)),
                          "service"));
}

grpc::Status ShutsDown() { return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server shuts down"); }

}  // namespace

// One Watch stream. It always sends the latest status and skips those in between, so it needs no queue. All state is
// guarded by the service's lock; gRPC's operations never call back on the calling thread.
class HealthService::Watcher final : public grpc::ServerWriteReactor<HealthCheckResponse> {
 public:
  Watcher(HealthService& service, std::string name) : service_(service), name_(std::move(name)) {}
  const std::string& name() const { return name_; }

  // With the service's lock held.
  void Tell(Status status) {
    if (!end_.has_value()) wanted_ = status;
    Next();
  }
  void End(grpc::Status status) {
    if (!end_.has_value()) end_ = std::move(status);
    Next();
  }

 private:
  void Next() {
    if (writing_ || finished_) return;
    if (wanted_ != sent_) {
      sent_ = wanted_;
      message_.set_status(*sent_);
      writing_ = true;
      StartWrite(&message_);
    } else if (end_.has_value()) {
      finished_ = true;
      Finish(*end_);
    }
  }
  void OnWriteDone(bool ok) override {
    MutexLock lock(service_.mutex_);
    writing_ = false;
    if (!ok) Leave();
    Next();
  }
  void OnCancel() override {
    MutexLock lock(service_.mutex_);
    Leave();
    Next();
  }
  void Leave() {  // the client is gone: nothing more is written
    wanted_ = sent_;
    end_ = grpc::Status::CANCELLED;
  }
  void OnDone() override {
    {
      MutexLock lock(service_.mutex_);
      service_.watchers_.erase(this);
    }
    delete this;
  }

  HealthService& service_;
  const std::string name_;
  HealthCheckResponse message_;
  std::optional<Status> wanted_, sent_;
  std::optional<grpc::Status> end_;
  bool writing_ = false, finished_ = false;
};

HealthService::HealthService(MessageGate& gate) {
  const auto& service = ServiceIn(HealthCheckRequest::descriptor(), "Health");
  const auto mark = [this](GatedMethod m) { MarkMethodCallback(m.index, m.handler); };
  mark(Gated(gate, *this, service, "Check", &HealthService::Check));
  mark(Gated(gate, *this, service, "List", &HealthService::List));
  mark(Gated(gate, *this, service, "Watch", &HealthService::Watch, RequestLife::kMethod));
}

void HealthService::Set(const std::string& name, bool serving) {
  MutexLock lock(mutex_);
  statuses_[name] = serving && !shutting_down_ ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
  for (Watcher* watcher : watchers_) {
    if (watcher->name() == name) watcher->Tell(statuses_[name]);
  }
}

void HealthService::BeginShutdown() {
  MutexLock lock(mutex_);
  shutting_down_ = true;
  for (auto& [name, status] : statuses_) status = HealthCheckResponse::NOT_SERVING;
  for (Watcher* watcher : watchers_) watcher->Tell(Get(watcher->name()));
}

void HealthService::CloseWatchers() {
  MutexLock lock(mutex_);
  closed_ = true;
  for (Watcher* watcher : watchers_) watcher->End(ShutsDown());
}

HealthService::Status HealthService::Get(const std::string& name) const {
  auto it = statuses_.find(name);
  return it == statuses_.end() ? HealthCheckResponse::SERVICE_UNKNOWN : it->second;
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* context, const HealthCheckRequest* request,
                                               HealthCheckResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (request->service().size() > kMaxNameBytes) {
    reactor->Finish(NameTooLong(request->service()));
    return reactor;
  }
  Status status;
  {
    MutexLock lock(mutex_);
    status = Get(request->service());
  }
  if (status == HealthCheckResponse::SERVICE_UNKNOWN) {
    reactor->Finish(ToGrpc(
        WithReason(absl::NotFoundError(absl::StrCat("unknown service ", request->service())), "SERVICE_UNKNOWN")));
  } else {
    response->set_status(status);
    reactor->Finish(grpc::Status::OK);
  }
  return reactor;
}

grpc::ServerWriteReactor<HealthCheckResponse>* HealthService::Watch(grpc::CallbackServerContext*,
                                                                    const HealthCheckRequest* request) {
  // Whatever allocates, then what others can see.
  const bool too_long = request->service().size() > kMaxNameBytes;
  auto watcher = std::make_unique<Watcher>(*this, too_long ? "" : request->service());
  grpc::Status end = too_long ? NameTooLong(request->service()) : ShutsDown();
  MutexLock lock(mutex_);
  watchers_.insert(watcher.get());
  if (!too_long) watcher->Tell(Get(request->service()));
  if (too_long || closed_) watcher->End(std::move(end));
  return watcher.release();
}

grpc::ServerUnaryReactor* HealthService::List(grpc::CallbackServerContext* context,
                                              const grpc::health::v1::HealthListRequest*,
                                              grpc::health::v1::HealthListResponse* response) {
  {
    MutexLock lock(mutex_);
    for (const auto& [name, status] : statuses_) (*response->mutable_statuses())[name].set_status(status);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace quantd
