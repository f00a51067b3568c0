// What belongs to the daemon as a whole: what is not built, health, readiness, reflection, taken ports.
#include "server/daemon.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>

#include "quantd/v1/control.pb.h"
#include "quantd/v1/diffusion.pb.h"
#include "quantd/v1/models.pb.h"
#include "server/reflection_service.h"
#include "server/status.h"
#include "tests/server/daemon_fixture.h"

namespace quantd {
namespace {
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using grpc::reflection::v1::ServerReflectionRequest;
using grpc::reflection::v1::ServerReflectionResponse;
using quantd::testing::DaemonTest;
using quantd::testing::FakeRegistry;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

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

  const auto listed = [&] {
    grpc::ClientContext list;
    grpc::health::v1::HealthListResponse all;
    EXPECT_TRUE(health_->List(&list, {}, &all).ok());
    std::map<std::string, int> out;
    for (const auto& [name, one] : all.statuses()) out[name] = one.status();
    return out;
  };
  std::map<std::string, int> expected = {{"", HealthCheckResponse::NOT_SERVING},
                                         {"model:tiny", HealthCheckResponse::NOT_SERVING},
                                         {"quantd.v1.Control", HealthCheckResponse::NOT_SERVING},
                                         {"quantd.v1.Diffusion", HealthCheckResponse::NOT_SERVING},
                                         {"quantd.v1.Generation", HealthCheckResponse::NOT_SERVING},
                                         {"quantd.v1.Models", HealthCheckResponse::SERVING}};
  EXPECT_EQ(listed(), expected);

  ASSERT_TRUE(daemon_->WaitUntilReady().ok());
  for (const char* name : {"", "model:tiny", "quantd.v1.Generation"}) expected[name] = HealthCheckResponse::SERVING;
  EXPECT_EQ(listed(), expected);
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

// What one stream of reflection answers, and how it ended.
struct Reflected {
  std::vector<ServerReflectionResponse> answers;
  grpc::Status status;
};
Reflected Ask(const std::shared_ptr<grpc::Channel>& channel, const std::vector<ServerReflectionRequest>& requests) {
  Reflected out;
  grpc::ClientContext context;
  auto stream = grpc::reflection::v1::ServerReflection::NewStub(channel)->ServerReflectionInfo(&context);
  for (const ServerReflectionRequest& request : requests) {
    ServerReflectionResponse answer;
    if (!stream->Write(request) || !stream->Read(&answer)) break;
    out.answers.push_back(std::move(answer));
  }
  stream->WritesDone();
  out.status = stream->Finish();
  return out;
}
ServerReflectionRequest AskForServices() {
  ServerReflectionRequest request;
  request.set_list_services("");
  return request;
}
ServerReflectionRequest AskForSymbol(const std::string& name) {
  ServerReflectionRequest request;
  request.set_file_containing_symbol(name);
  return request;
}

TEST_F(DaemonTest, BothReflectionsListEveryService) {
  const Reflected answer = Ask(channel_, {AskForServices()});
  EXPECT_TRUE(answer.status.ok());
  ASSERT_EQ(answer.answers.size(), 1u);
  std::vector<std::string> names;
  for (const auto& service : answer.answers[0].list_services_response().service()) names.push_back(service.name());
  EXPECT_THAT(names, ElementsAre("grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                                 "grpc.reflection.v1alpha.ServerReflection", "quantd.v1.Control", "quantd.v1.Diffusion",
                                 "quantd.v1.Generation", "quantd.v1.Models"));
  const RawAnswer alpha = CallRaw(channel_, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                                  AskForServices().SerializeAsString());
  EXPECT_EQ(alpha.message, answer.answers[0].SerializeAsString());
  EXPECT_TRUE(alpha.status.ok());
}

TEST_F(DaemonTest, ReflectionHasHealthAndTheMessagesOfErrorDetails) {
  std::vector<ServerReflectionRequest> requests;
  for (const char* name :
       {"grpc.health.v1.Health.List", "quantd.v1.Generation.GenerateStream", "google.rpc.Status",
        "google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo", "google.protobuf.Duration"}) {
    requests.push_back(AskForSymbol(name));
  }
  const Reflected answer = Ask(channel_, requests);
  EXPECT_TRUE(answer.status.ok());
  ASSERT_EQ(answer.answers.size(), requests.size());
  for (const ServerReflectionResponse& a : answer.answers)
    EXPECT_TRUE(a.has_file_descriptor_response()) << a.DebugString();
}

TEST_F(DaemonTest, AReflectionStreamHasBounds) {
  const Reflected large = Ask(channel_, {AskForSymbol(std::string(ReflectionService::kMaxRequestBytes, 'x'))});
  EXPECT_EQ(large.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(large.answers.empty());

  const std::vector<ServerReflectionRequest> many(ReflectionService::kMaxRequests + 1, AskForSymbol("none"));
  const Reflected answer = Ask(channel_, many);
  EXPECT_EQ(answer.answers.size(), size_t{ReflectionService::kMaxRequests});
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReadDetails(answer.status).reason, "LIMIT");

  const RawAnswer unparsable = CallRaw(channel_, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "\xff");
  EXPECT_EQ(unparsable.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(DaemonTest, ADrainEndsReflectionStreams) {
  grpc::ClientContext context;
  auto stream = grpc::reflection::v1::ServerReflection::NewStub(channel_)->ServerReflectionInfo(&context);
  ServerReflectionResponse answer;
  ASSERT_TRUE(stream->Write(AskForServices()));
  ASSERT_TRUE(stream->Read(&answer));
  daemon_->Drain(std::chrono::seconds(1));
  EXPECT_FALSE(stream->Read(&answer));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReadDetails(status).reason, "DRAINING") << "ended by the service, not cut at the server's deadline";
}

TEST_F(DaemonTest, EveryUnbuiltRpcSaysWhatIsNotBuilt) {
  const std::set<std::string> built = {"Generate",   "GenerateStream", "Tokenize", "Detokenize",
                                       "ListModels", "GetModel",       "PlanModel"};
  int unbuilt = 0;
  for (const auto* file : {v1::GenerateRequest::descriptor()->file(), v1::Model::descriptor()->file(),
                           v1::ImageRequest::descriptor()->file(), v1::ServerInfo::descriptor()->file()}) {
    for (int i = 0; i < file->service(0)->method_count(); ++i) {
      const auto* method = file->service(0)->method(i);
      if (built.count(method->name()) > 0) continue;
      const std::string name = method->service()->full_name() + "/" + method->name();
      const grpc::Status status = CallRaw(channel_, "/" + name, "").status;
      EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << name;
      EXPECT_THAT(status.error_message(), StartsWith(name + ": not built yet: "));
      EXPECT_EQ(ReadDetails(status).reason, "NOT_BUILT") << name;
      ++unbuilt;
    }
  }
  EXPECT_EQ(unbuilt, 15);
}

TEST_F(DaemonTest, AnUnknownMethodIsUnimplementedByName) {
  for (const std::string name : {"quantd.v1.Generation/Genrate", "openai.v1.Chat/Complete"}) {
    const grpc::Status status = CallRaw(channel_, "/" + name, "any message").status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
    EXPECT_THAT(status.error_message(), StartsWith(name + ": no such method"));
    EXPECT_EQ(ReadDetails(status).reason, "METHOD_UNKNOWN");
  }
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
      EXPECT_THAT(answer.status.error_message(),
                  ::testing::AnyOf("the request is not a message of its type: it has a broken field tag",
                                   "model is not UTF-8 at byte 0", "text is not UTF-8 at byte 0"));
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
  const auto channel =
      grpc::CreateChannel("127.0.0.1:" + std::to_string((*daemon)->grpc_port()), grpc::InsecureChannelCredentials());
  for (const char* version : {"v1", "v1alpha"}) {
    const std::string method = std::string("/grpc.reflection.") + version + ".ServerReflection/ServerReflectionInfo";
    const grpc::Status status = CallRaw(channel, method, AskForServices().SerializeAsString()).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << version;
    EXPECT_THAT(status.error_message(), HasSubstr("--no-reflection"));
  }
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
