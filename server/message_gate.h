// MessageGate: where the bytes of a request become its message. gRPC 1.51 would decompress and parse whatever a client
// sends before a service hears of it, without a bound on either. Here gRPC hands over what was sent; the gate bounds
// it, says what is wrong with it and in which field, and parses only then. Its services register their methods through
// it (Gated below).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <absl/status/statusor.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <grpcpp/grpcpp.h>

#include "base/allocation_failure.h"
#include "base/error.h"
#include "server/status.h"
#include "server/wire_check.h"

namespace quantd {

class MessageGate {
 public:
  struct Limits {
    int64_t max_bytes = 16 << 20;         // of one message, decompressed
    int64_t max_total_bytes = 256 << 20;  // of all that are open, as they lie in memory
    WireLimits wire;
  };
  // Told of each call that ends here, on a thread of gRPC: its method ("/quantd.v1.Generation/Generate") and its
  // answer.
  using OnRefused = std::function<void(const std::string& method, const absl::Status& status)>;

  MessageGate(Limits limits, OnRefused on_refused) : limits_(limits), on_refused_(std::move(on_refused)) {}

  // What one message takes of max_total_bytes, given back at its end.
  class Charge {
   public:
    Charge() = default;
    Charge(Charge&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)), bytes_(other.bytes_) {}
    Charge& operator=(Charge&& other) noexcept {
      std::swap(gate_, other.gate_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Charge();

   private:
    friend class MessageGate;
    Charge(MessageGate* gate, int64_t bytes) : gate_(gate), bytes_(bytes) {}
    MessageGate* gate_ = nullptr;
    int64_t bytes_ = 0;
  };

  // Any thread. Parses what was sent into `message`. InvalidArgument FIELD_INVALID, with the field's path where there
  // is one. ResourceExhausted: LIMIT, a bound of one request; OUT_OF_MEMORY, the total (try again).
  absl::StatusOr<Charge> Open(grpc::ByteBuffer& sent, google::protobuf::Message& message);
  // Any thread. For what was made of a message and outlives it. ResourceExhausted OUT_OF_MEMORY.
  absl::StatusOr<Charge> Hold(int64_t bytes);
  int64_t open_bytes() const { return open_bytes_; }
  const Limits& limits() const { return limits_; }
  void TellRefused(const std::string& method, const absl::Status& status) const {
    IfMemoryAllows([&] { on_refused_(method, status); });
  }

 private:
  const Limits limits_;
  const OnRefused on_refused_;
  std::atomic<int64_t> open_bytes_{0};
};

// What gRPC makes of a request's bytes: nothing. gRPC knows it as const; it is its call's own.
template <typename Message>
struct Incoming {
  mutable grpc::ByteBuffer sent;
  mutable MessageGate::Charge charge;
  mutable std::optional<Message> message;  // while the method may read it
};

// Until when a method reads its request.
enum class RequestLife { kMethod, kCall };  // until the method returns; until the call has ended

// A method of `service` as gRPC's table of methods takes it.
struct GatedMethod {
  int index;
  grpc::internal::MethodHandler* handler;  // the table owns it
};
template <typename Service, typename Request, typename Response>
GatedMethod Gated(MessageGate& gate, Service& service, const google::protobuf::ServiceDescriptor& descriptor,
                  const char* name,
                  grpc::ServerUnaryReactor* (Service::*method)(grpc::CallbackServerContext*, const Request*, Response*),
                  RequestLife life = RequestLife::kCall);
template <typename Service, typename Request, typename Response>
GatedMethod Gated(MessageGate& gate, Service& service, const google::protobuf::ServiceDescriptor& descriptor,
                  const char* name,
                  grpc::ServerWriteReactor<Response>* (Service::*method)(grpc::CallbackServerContext*, const Request*),
                  RequestLife life = RequestLife::kCall);

// The service of a file of protos, by its short name.
const google::protobuf::ServiceDescriptor& ServiceIn(const google::protobuf::Descriptor* any_message_of_the_file,
                                                     const char* name);

// --- How it is done.

// A call that never reaches its method.
template <typename Reactor>
class RefusedCall final : public Reactor {
 public:
  // With no message at all the client may have reset its call: gRPC knows when the call is done.
  RefusedCall(const grpc::CallbackServerContext& context, const MessageGate& gate, const std::string& method,
              const absl::Status& status, bool has_message) noexcept
      : context_(context), gate_(gate), method_(method), status_(status), has_message_(has_message) {
    if (has_message_) gate_.TellRefused(method_, status_);
    this->Finish(ToGrpc(status));
  }

 private:
  void OnDone() override {
    if (!has_message_)
      gate_.TellRefused(method_, context_.IsCancelled() ? CatchAllocationFailure(ClientGone) : status_);
    delete this;
  }
  static absl::Status ClientGone() { return WithReason(absl::CancelledError("cancelled by the client"), "CLIENT"); }

  const grpc::CallbackServerContext& context_;
  const MessageGate& gate_;
  const std::string& method_;  // of the handler, which lives as long as the service
  const absl::Status status_;
  const bool has_message_;
};

// The reactor of a call: that which `start` makes of the opened message, or a refusal.
template <typename Reactor, typename Request, typename Start>
Reactor* OpenAndStart(MessageGate& gate, grpc::CallbackServerContext& context, const std::string& method,
                      RequestLife life, const Incoming<Request>& incoming, Start start) {
  const bool has_message = incoming.sent.Valid();
  Reactor* reactor = nullptr;
  absl::Status status = CatchAllocationFailure([&] {
    absl::StatusOr<MessageGate::Charge> charge = gate.Open(incoming.sent, incoming.message.emplace());
    if (!charge.ok()) return charge.status();
    incoming.charge = *std::move(charge);
    reactor = start(&*incoming.message);
    return absl::OkStatus();
  });
  if (!status.ok() || life == RequestLife::kMethod) {
    incoming.message.reset();
    incoming.charge = MessageGate::Charge();
  }
  if (reactor != nullptr || status.ok()) return reactor;
  auto* refused = new (std::nothrow) RefusedCall<Reactor>(context, gate, method, status, has_message);
  if constexpr (std::is_same_v<Reactor, grpc::ServerUnaryReactor>) {
    if (refused == nullptr) {  // that one of the context takes no memory
      grpc::ServerUnaryReactor* own = context.DefaultReactor();
      own->Finish(ToGrpc(status));
      return own;
    }
  }
  return refused;  // a stream for which there is not even that much memory is UNIMPLEMENTED, which gRPC says for null
}

template <typename Service, typename Request, typename Response>
GatedMethod Gated(MessageGate& gate, Service& service, const google::protobuf::ServiceDescriptor& descriptor,
                  const char* name,
                  grpc::ServerUnaryReactor* (Service::*method)(grpc::CallbackServerContext*, const Request*, Response*),
                  RequestLife life) {
  const std::string path = "/" + descriptor.full_name() + "/" + name;
  return {descriptor.FindMethodByName(name)->index(),
          new grpc::internal::CallbackUnaryHandler<Incoming<Request>, Response>(
              [=, &gate, &service](grpc::CallbackServerContext* context, const Incoming<Request>* incoming,
                                   Response* response) {
                return OpenAndStart<grpc::ServerUnaryReactor>(
                    gate, *context, path, life, *incoming,
                    [&](const Request* request) { return (service.*method)(context, request, response); });
              })};
}

template <typename Service, typename Request, typename Response>
GatedMethod Gated(MessageGate& gate, Service& service, const google::protobuf::ServiceDescriptor& descriptor,
                  const char* name,
                  grpc::ServerWriteReactor<Response>* (Service::*method)(grpc::CallbackServerContext*, const Request*),
                  RequestLife life) {
  const std::string path = "/" + descriptor.full_name() + "/" + name;
  return {descriptor.FindMethodByName(name)->index(),
          new grpc::internal::CallbackServerStreamingHandler<Incoming<Request>, Response>(
              [=, &gate, &service](grpc::CallbackServerContext* context, const Incoming<Request>* incoming) {
                return OpenAndStart<grpc::ServerWriteReactor<Response>>(
                    gate, *context, path, life, *incoming,
                    [&](const Request* request) { return (service.*method)(context, request); });
              })};
}

}  // namespace quantd

namespace grpc {
template <typename Message>
class SerializationTraits<quantd::Incoming<Message>, void> {
 public:
  // Nothing is sent where the client ends its stream without a message, or resets it.
  static Status Deserialize(ByteBuffer* sent, quantd::Incoming<Message>* incoming) {
    incoming->sent.Swap(sent);
    return Status::OK;
  }
};
}  // namespace grpc
