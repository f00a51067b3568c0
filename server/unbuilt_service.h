// Answers every call that no other service takes: the RPCs of the protos that are not built yet, each with what is
// missing and what to use meanwhile, and whatever else a client may ask for.
#pragma once

#include <string_view>

#include <absl/status/status.h>
#include <grpcpp/generic/async_generic_service.h>

namespace quantd {

// `path` as on the wire: "/quantd.v1.Models/LoadModel". Unimplemented: NOT_BUILT for an RPC of the protos,
// METHOD_UNKNOWN for any other, whose name may hold anything.
absl::Status UnbuiltError(std::string_view path);

class UnbuiltService final : public grpc::CallbackGenericService {
 public:
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override;
};

}  // namespace quantd
