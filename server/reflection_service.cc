#include "server/reflection_service.h"

#include <memory>
#include <utility>

#include "base/allocation_failure.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "server/status.h"

namespace quantd {
namespace {
using grpc::reflection::v1::ServerReflectionRequest;

absl::Status CheckSize(size_t bytes) {
  if (bytes <= ReflectionService::kMaxRequestBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("a reflection request has ", bytes, " bytes, expected at most ",
                                                 ReflectionService::kMaxRequestBytes));
}

// Its size as it was sent, and, where it was compressed, as it is.
absl::Status Parse(MessageGate& gate, grpc::ByteBuffer& bytes, ServerReflectionRequest& out) {
  QD_RETURN_IF_ERROR(CheckSize(bytes.Length()));
  QD_RETURN_IF_ERROR(gate.Open(bytes, out).status());
  return CheckSize(out.ByteSizeLong());
}

grpc::ByteBuffer ToBytes(const google::protobuf::Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

absl::Status ShutsDown() { return WithReason(absl::UnavailableError("the server shuts down"), "DRAINING"); }

}  // namespace

// One question at a time: the next is read when the answer is written. All state is guarded by the service's lock;
// gRPC's operations never call back on the calling thread.
class ReflectionService::Stream final : public grpc::ServerBidiReactor<Bytes, Bytes> {
 public:
  explicit Stream(ReflectionService& service) : service_(service) {}

  // With the service's lock held.
  void Start() { StartRead(&request_); }
  void End(const absl::Status& status) {
    if (end_.ok()) end_ = status;
    if (!writing_) FinishOnce();
  }

 private:
  void OnReadDone(bool ok) override {
    const absl::Status status = ok ? CatchAllocationFailure([this] { return Answer(); }) : absl::OkStatus();
    MutexLock lock(service_.mutex_);
    if (finished_) return;
    if (!ok) return FinishOnce();  // the client has no more questions, or is gone
    if (!status.ok()) return End(status);
    writing_ = true;
    StartWrite(&answer_);
  }
  void OnWriteDone(bool ok) override {
    MutexLock lock(service_.mutex_);
    writing_ = false;
    if (!ok || !end_.ok()) return FinishOnce();
    StartRead(&request_);
  }
  void OnDone() override {
    {
      MutexLock lock(service_.mutex_);
      service_.streams_.erase(this);
    }
    delete this;
  }
  absl::Status Answer() {
    if (++requests_ > kMaxRequests) {
      return WithReason(
          absl::ResourceExhaustedError(absl::StrCat("a stream has at most ", kMaxRequests, " reflection requests")),
          "LIMIT");
    }
    ServerReflectionRequest request;
    QD_RETURN_IF_ERROR(Parse(service_.gate_, request_, request));
    answer_ = ToBytes(service_.schema_.Answer(request));
    return absl::OkStatus();
  }
  void FinishOnce() {
    if (!std::exchange(finished_, true)) Finish(ToGrpc(end_));
  }

  ReflectionService& service_;
  Bytes request_, answer_;  // of the one reaction that runs between a read and a write
  int requests_ = 0;
  absl::Status end_;
  bool writing_ = false, finished_ = false;
};

void ReflectionService::RegisterWith(grpc::ServerBuilder& builder) {
  builder.RegisterService(&v1_);
  builder.RegisterService(&v1alpha_);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* ReflectionService::Open() {
  auto stream = std::make_unique<Stream>(*this);
  MutexLock lock(mutex_);
  streams_.insert(stream.get());
  stream->Start();
  if (closed_) stream->End(CatchAllocationFailure(ShutsDown));
  return stream.release();
}

void ReflectionService::CloseStreams() {
  MutexLock lock(mutex_);
  closed_ = true;
  for (Stream* stream : streams_) stream->End(CatchAllocationFailure(ShutsDown));
}

}  // namespace quantd
