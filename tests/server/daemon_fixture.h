// A daemon over real gRPC, with the test as its engine (tests/server/fakes.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include "grpc/health/v1/health.grpc.pb.h"
#include "quantd/v1/generation.grpc.pb.h"
#include "server/daemon.h"
#include "tests/server/fakes.h"
#include "tests/testing/temp_dir.h"

namespace quantd::testing {

class DaemonTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(Outbox::Limits{}); }
  void Start(Outbox::Limits outbox, Duration flush_time = ServerOptions().flush_time) {
    ServerOptions options;
    options.listen.port = options.metrics_listen.port = 0;
    options.outbox = outbox;
    options.flush_time = flush_time;
    options.ready_file = ready_file_;
    options.model_roots = model_roots_;
    options.models.push_back({"tiny", {}, {}});
    options.models[0].spec.path = TinyModelPath();
    auto daemon = Daemon::Start(options, [this](const RegistryOptions&, ModelRegistry::Hooks hooks) {
      auto registry = std::make_unique<FakeRegistry>(std::move(hooks));
      registry_ = registry.get();
      return absl::StatusOr<std::unique_ptr<ModelRegistry>>(std::move(registry));
    });
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
    handle_ = registry_->handle;
    channel_ =
        grpc::CreateChannel("127.0.0.1:" + std::to_string(daemon_->grpc_port()), grpc::InsecureChannelCredentials());
    generation_ = v1::Generation::NewStub(channel_);
    health_ = grpc::health::v1::Health::NewStub(channel_);
  }

  grpc::health::v1::HealthCheckResponse::ServingStatus Health(const std::string& name) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(name);
    grpc::health::v1::HealthCheckResponse response;
    const grpc::Status status = health_->Check(&context, request, &response);
    return status.ok() ? response.status() : grpc::health::v1::HealthCheckResponse::SERVICE_UNKNOWN;
  }
  // The status of a unary request that the engine never sees.
  grpc::Status Refused(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    return generation_->Generate(&context, request, &response);
  }
  httplib::Result Get(const char* path) { return httplib::Client("127.0.0.1", daemon_->metrics_port()).Get(path); }

  const TempDir files_;
  const std::string ready_file_ = files_.path() + "/ready";
  std::vector<std::string> model_roots_;  // set before Start
  FakeRegistry* registry_ = nullptr;
  std::unique_ptr<Daemon> daemon_;
  std::shared_ptr<FakeHandle> handle_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Generation::Stub> generation_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

inline v1::GenerateRequest TextRequest(const std::string& text = "hello") {
  v1::GenerateRequest request;
  request.set_text(text);
  return request;
}

}  // namespace quantd::testing
