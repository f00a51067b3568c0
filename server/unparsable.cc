#include "server/unparsable.h"

#include <utility>

#include "base/strings.h"
#include "server/status.h"

namespace quantd {
namespace {

using grpc::experimental::InterceptionHookPoints;
using OnRefused = std::function<void(const std::string&, const absl::Status&)>;

class UnparsableInterceptor final : public grpc::experimental::Interceptor {
 public:
  UnparsableInterceptor(grpc::experimental::ServerRpcInfo& call, const OnRefused& on_refused)
      : call_(call), on_refused_(on_refused) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_MESSAGE)) {
      unparsable_ = methods->GetRecvMessage() == nullptr;
    }
    if (unparsable_ && methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      const absl::Status status = absl::InvalidArgumentError(
          absl::StrCat(call_.method(), ": the request is no message of this method, or a string of it is no UTF-8"));
      methods->ModifySendStatus(ToGrpc(status));
      on_refused_(call_.method(), status);
    }
    methods->Proceed();
  }

 private:
  grpc::experimental::ServerRpcInfo& call_;
  const OnRefused& on_refused_;
  bool unparsable_ = false;
};

class UnparsableInterceptors final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit UnparsableInterceptors(OnRefused on_refused) : on_refused_(std::move(on_refused)) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override {
    using Type = grpc::experimental::ServerRpcInfo::Type;
    // Where the client streams, as to reflection, no message is how its stream ends.
    if (info->type() != Type::UNARY && info->type() != Type::SERVER_STREAMING) return nullptr;
    return new UnparsableInterceptor(*info, on_refused_);
  }

 private:
  const OnRefused on_refused_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeUnparsableInterceptors(
    OnRefused on_refused) {
  return std::make_unique<UnparsableInterceptors>(std::move(on_refused));
}

}  // namespace quantd
