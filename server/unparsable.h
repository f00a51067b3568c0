// gRPC's callback API answers UNIMPLEMENTED, without a word, where it cannot parse a request. This answers
// INVALID_ARGUMENT instead, on every service of the server.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <absl/status/status.h>
#include <grpcpp/support/server_interceptor.h>

namespace quantd {

// `on_refused` is told of each on a thread of gRPC: the method ("/quantd.v1.Generation/Generate") and its answer.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeUnparsableInterceptors(
    std::function<void(const std::string& method, const absl::Status& status)> on_refused);

}  // namespace quantd
