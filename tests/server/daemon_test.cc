// What belongs to the daemon as a whole: what is not built, health, readiness, reflection, taken ports.
#include "server/daemon.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>

#include "quantd/v1/control.grpc.pb.h"
#include "quantd/v1/diffusion.grpc.pb.h"
#include "quantd/v1/models.grpc.pb.h"
#include "server/status.h"
#include "tests/server/daemon_fixture.h"

namespace quantd {
namespace {
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using quantd::testing::DaemonTest;
using quantd::testing::FakeRegistry;
using ::testing::EndsWith;
using ::testing::HasSubstr;

TEST_F(DaemonTest, WhatIsNotBuiltAnswersUnimplemented) {
  const auto expect = [](const grpc::Status& s) { EXPECT_EQ(s.error_code(), grpc::StatusCode::UNIMPLEMENTED); };
  {
    grpc::ClientContext c;
    v1::ScoreResponse r;
    expect(generation_->Score(&c, {}, &r));
  }
  {
    grpc::ClientContext c;
    v1::ServerInfo r;
    expect(v1::Control::NewStub(channel_)->GetServerInfo(&c, {}, &r));
  }
  {
    grpc::ClientContext c;
    v1::UnloadModelResponse r;
    expect(v1::Models::NewStub(channel_)->UnloadModel(&c, {}, &r));
  }
  {
    grpc::ClientContext c;
    expect(v1::Diffusion::NewStub(channel_)->GenerateImage(&c, {})->Finish());
  }
}

TEST_F(DaemonTest, HealthTellsServerServicesAndModels) {
  EXPECT_EQ(Health(""), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Health("model:tiny"), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Health("model:none"), HealthCheckResponse::SERVICE_UNKNOWN);
  EXPECT_EQ(Get("/readyz")->status, 503);
  EXPECT_EQ(Get("/livez")->status, 200);

  grpc::ClientContext watch;
  HealthCheckRequest request;
  request.set_service("model:tiny");
  auto reader = health_->Watch(&watch, request);
  HealthCheckResponse seen;
  ASSERT_TRUE(reader->Read(&seen));
  EXPECT_EQ(seen.status(), HealthCheckResponse::NOT_SERVING);
  grpc::ClientContext watch_none;
  request.set_service("model:none");
  auto reader_none = health_->Watch(&watch_none, request);
  ASSERT_TRUE(reader_none->Read(&seen));
  EXPECT_EQ(seen.status(), HealthCheckResponse::SERVICE_UNKNOWN);

  grpc::ClientContext watch_long, check_long;
  request.set_service(std::string(257, 'x'));
  EXPECT_EQ(health_->Watch(&watch_long, request)->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(health_->Check(&check_long, request, &seen).error_code(), grpc::StatusCode::INVALID_ARGUMENT);

  ASSERT_TRUE(daemon_->WaitUntilReady().ok());
  ASSERT_TRUE(reader->Read(&seen));
  EXPECT_EQ(seen.status(), HealthCheckResponse::SERVING);
  EXPECT_EQ(Health(""), HealthCheckResponse::SERVING);
  EXPECT_EQ(Health("quantd.v1.Generation"), HealthCheckResponse::SERVING);
  EXPECT_EQ(Health("quantd.v1.Diffusion"), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Get("/readyz")->status, 200);
  std::stringstream ready;
  ready << std::ifstream(ready_file_).rdbuf();
  EXPECT_THAT(ready.str(), HasSubstr("\"grpc\":\"127.0.0.1:" + std::to_string(daemon_->grpc_port()) + "\""));

  daemon_->Drain(std::chrono::seconds(1));
  EXPECT_FALSE(std::ifstream(ready_file_)) << "nobody finds a daemon that has gone";
  EXPECT_EQ(registry_->drained.count(), 1);
  ASSERT_TRUE(reader->Read(&seen));
  EXPECT_EQ(seen.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_FALSE(reader->Read(&seen)) << "draining ends the watchers, it does not wait for them";
  EXPECT_EQ(Get("/readyz")->status, 503);
}

TEST_F(DaemonTest, AModelThatIsLoadedWhileItDrainsMakesNothingReady) {
  daemon_->Drain(std::chrono::seconds(1));
  ASSERT_TRUE(daemon_->WaitUntilReady().ok());
  EXPECT_EQ(Get("/readyz")->status, 503);
  EXPECT_FALSE(std::ifstream(ready_file_));
}

// One message to `method` and one back, as bytes: nothing of ours is in between.
struct RawAnswer {
  std::string message;
  grpc::Status status;
};
RawAnswer CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& method, const std::string& bytes) {
  RawAnswer answer;
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  auto call = stub.PrepareCall(&context, method, &queue);
  const auto next = [&] {
    void* tag;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok));
    return ok;
  };
  call->StartCall(nullptr);
  next();
  const grpc::Slice slice(bytes);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  next();
  grpc::ByteBuffer response;
  call->Read(&response, nullptr);
  if (next()) {
    std::vector<grpc::Slice> slices;
    EXPECT_TRUE(response.Dump(&slices).ok());
    for (const grpc::Slice& s : slices) answer.message.append(reinterpret_cast<const char*>(s.begin()), s.size());
  }
  call->Finish(&answer.status, nullptr);
  next();
  return answer;
}

// By hand: a second copy of reflection.proto cannot be linked beside gRPC's own.
RawAnswer ListServices(const std::shared_ptr<grpc::Channel>& channel) {
  const std::string list_services("\x3a\x00", 2);  // field 7, an empty string
  return CallRaw(channel, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", list_services);
}

TEST_F(DaemonTest, ReflectionListsEveryService) {
  const RawAnswer answer = ListServices(channel_);
  for (const char* name : {"quantd.v1.Generation", "quantd.v1.Models", "quantd.v1.Diffusion", "quantd.v1.Control",
                           "grpc.health.v1.Health"}) {
    EXPECT_THAT(answer.message, HasSubstr(name));
  }
  EXPECT_TRUE(answer.status.ok());
}

TEST_F(DaemonTest, ARequestThatCannotBeParsedIsInvalidArgumentAndCounted) {
  const std::string no_utf8("\x12\x01\xff", 3);  // field 2, a string of one byte
  for (const char* method :
       {"/quantd.v1.Generation/Generate", "/quantd.v1.Generation/GenerateStream", "/quantd.v1.Generation/Tokenize",
        "/quantd.v1.Models/GetModel", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"}) {
    for (const std::string& bytes : {std::string("\xff"), no_utf8}) {
      if (bytes == no_utf8 && std::string(method).find("Generat") == std::string::npos) continue;  // has no such field
      const RawAnswer answer = CallRaw(channel_, method, bytes);
      EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
      EXPECT_THAT(answer.status.error_message(), HasSubstr(method));
      EXPECT_EQ(ReadDetails(answer.status).reason, "FIELD_INVALID") << method;
    }
  }
  EXPECT_THAT(Get("/metrics")->body,
              HasSubstr("quantd_requests_total{code=\"INVALID_ARGUMENT\",kind=\"generate\",model=\"unknown\"} 4"));
}

absl::StatusOr<std::unique_ptr<ModelRegistry>> MakeFakeRegistry(const RegistryOptions&, ModelRegistry::Hooks hooks) {
  return std::make_unique<FakeRegistry>(std::move(hooks));
}

ServerOptions AnyPorts() {
  ServerOptions options;
  options.listen.port = options.metrics_listen.port = 0;
  return options;
}

TEST(DaemonOptionsTest, WithoutReflectionItIsNoService) {
  ServerOptions options = AnyPorts();
  options.reflection = false;
  auto daemon = Daemon::Start(options, MakeFakeRegistry);
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  const RawAnswer answer = ListServices(
      grpc::CreateChannel("127.0.0.1:" + std::to_string((*daemon)->grpc_port()), grpc::InsecureChannelCredentials()));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST(DaemonOptionsTest, AReadyFileThatCannotBeWrittenIsFoundBeforeTheModelsAreLoaded) {
  const quantd::testing::TempDir files;
  ServerOptions options = AnyPorts();
  options.ready_file = files.path() + "/missing/ready";
  const absl::Status status = Daemon::Start(options, MakeFakeRegistry).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), EndsWith("/missing/ready: No such file or directory"));
}

TEST(DaemonOptionsTest, AReadyFileReplacesFilesAlone) {
  const quantd::testing::TempDir files;
  ServerOptions options = AnyPorts();
  options.ready_file = files.path() + "/folder";
  std::filesystem::create_directory(options.ready_file);
  EXPECT_EQ(Daemon::Start(options, MakeFakeRegistry).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::exists(options.ready_file));
}

TEST(DaemonBindTest, ATakenPortIsAnErrorAndLeavesTheReadyFileOfWhoHasIt) {
  const quantd::testing::TempDir files;
  ServerOptions options = AnyPorts();
  options.ready_file = files.path() + "/ready";
  auto first = Daemon::Start(options, MakeFakeRegistry);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE((*first)->WaitUntilReady().ok());
  options.listen.port = (*first)->grpc_port();
  auto second = Daemon::Start(options, MakeFakeRegistry);
  EXPECT_EQ(ReasonOf(second.status()), "BIND_FAILED");
  EXPECT_THAT(std::string(second.status().message()), EndsWith(": Address already in use"));
  options.listen.port = 0;
  options.metrics_listen.port = (*first)->metrics_port();
  second = Daemon::Start(options, MakeFakeRegistry);
  EXPECT_EQ(ReasonOf(second.status()), "BIND_FAILED");
  EXPECT_THAT(std::string(second.status().message()), EndsWith(": Address already in use"));
  EXPECT_TRUE(std::filesystem::exists(options.ready_file));

  std::ofstream(options.ready_file) << "a successor's";
  (*first)->Drain(std::chrono::seconds(1));
  EXPECT_TRUE(std::filesystem::exists(options.ready_file));
}

}  // namespace
}  // namespace quantd
