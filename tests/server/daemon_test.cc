// The daemon over real gRPC, with the test as its engine (tests/server/fakes.h).
#include "server/daemon.h"

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include "base/error.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "quantd/v1/control.grpc.pb.h"
#include "quantd/v1/diffusion.grpc.pb.h"
#include "quantd/v1/generation.grpc.pb.h"
#include "quantd/v1/models.grpc.pb.h"
#include "server/convert.h"
#include "server/status.h"
#include "tests/server/fakes.h"
#include "tests/testing/temp_dir.h"

namespace quantd {
namespace {
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using quantd::testing::FakeHandle;
using quantd::testing::FakeRegistry;
using quantd::testing::Submitted;
using ::testing::HasSubstr;
using ::testing::Not;

class DaemonTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(Outbox::Limits{}); }
  void Start(Outbox::Limits outbox, Duration flush_time = ServerOptions().flush_time) {
    ServerOptions options;
    options.listen.port = options.metrics_listen.port = 0;
    options.outbox = outbox;
    options.flush_time = flush_time;
    options.ready_file = ::testing::TempDir() + "/quantd_ready";
    options.model_roots = model_roots_;
    options.models.push_back({"tiny", {}, {}});
    options.models[0].spec.path = quantd::testing::TinyModelPath();
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

  HealthCheckResponse::ServingStatus Health(const std::string& name) {
    grpc::ClientContext context;
    HealthCheckRequest request;
    request.set_service(name);
    HealthCheckResponse response;
    const grpc::Status status = health_->Check(&context, request, &response);
    return status.ok() ? response.status() : HealthCheckResponse::SERVICE_UNKNOWN;
  }
  // The status of a unary request that the engine never sees.
  grpc::Status Refused(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    return generation_->Generate(&context, request, &response);
  }
  httplib::Result Get(const char* path) { return httplib::Client("127.0.0.1", daemon_->metrics_port()).Get(path); }

  std::vector<std::string> model_roots_;  // set before Start
  FakeRegistry* registry_ = nullptr;
  std::unique_ptr<Daemon> daemon_;
  std::shared_ptr<FakeHandle> handle_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Generation::Stub> generation_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

v1::GenerateRequest TextRequest(const std::string& text = "hello") {
  v1::GenerateRequest request;
  request.set_text(text);
  return request;
}

TEST_F(DaemonTest, StreamsEventsInOrder) {
  grpc::ClientContext context;
  v1::GenerateRequest request = TextRequest();
  request.mutable_options()->set_request_id("my-id");
  request.mutable_options()->set_priority(v1::PRIORITY_BATCH);
  request.mutable_sampling()->set_seed(7);
  request.mutable_sampling()->set_temperature(0.5);
  request.mutable_output()->set_token_ids(true);
  auto reader = generation_->GenerateStream(&context, request);
  Submitted s = handle_->Next();
  EXPECT_EQ(s.request.id, "my-id");
  EXPECT_EQ(s.request.priority, Priority::kBatch);
  EXPECT_EQ(s.request.sampling.temperature, 0.5f);
  EXPECT_FALSE(s.request.prompt.empty());
  s.sink->OnAccepted(3);
  s.sink->OnPrompt(5, 2);
  s.sink->OnDelta({"Hel", {1, 2}});
  s.sink->OnDelta({"lo", {3}});
  s.sink->OnOutputEnd({.reason = FinishReason::kStopText, .stop_token_id = -1, .stop_text = "!", .new_tokens = 3});
  Timing timing;
  timing.total = std::chrono::milliseconds(1500);
  s.sink->OnDone(absl::OkStatus(), {.prompt_tokens = 5, .cached_tokens = 2, .new_tokens = 3}, timing);
  std::vector<v1::GenerateEvent> events;
  for (v1::GenerateEvent e; reader->Read(&e);) events.push_back(e);
  EXPECT_TRUE(reader->Finish().ok());
  ASSERT_EQ(events.size(), 6u);
  EXPECT_EQ(events[0].accepted().request_id(), "my-id");
  EXPECT_EQ(events[0].accepted().model(), "tiny");
  EXPECT_EQ(events[0].accepted().revision(), "0123abcd");
  EXPECT_EQ(events[0].accepted().seed(), 7u);
  EXPECT_EQ(events[0].accepted().queue_position(), 3u);
  EXPECT_EQ(events[1].prompt().cached_tokens(), 2u);
  EXPECT_EQ(events[2].delta().text(), "Hel");
  EXPECT_EQ(events[3].delta().token_ids(0), 3u);
  EXPECT_EQ(events[4].output_end().reason(), v1::FINISH_REASON_STOP_TEXT);
  EXPECT_EQ(events[4].output_end().stop_text(), "!");
  EXPECT_EQ(events[5].finished().usage().new_tokens(), 3u);
  EXPECT_EQ(events[5].finished().timing().total().nanos(), 500'000'000);
  const auto trailers = context.GetServerTrailingMetadata();
  ASSERT_EQ(trailers.count("request-id"), 1u);
  EXPECT_EQ(trailers.find("request-id")->second, "my-id");
}

TEST_F(DaemonTest, UnaryCollectsTheSameEvents) {
  std::jthread engine([&] {
    Submitted s = handle_->Next();
    s.sink->OnAccepted(0);
    s.sink->OnPrompt(1, 0);
    s.sink->OnDelta({"a", {}});
    s.sink->OnDelta({"b", {}});
    s.sink->OnOutputEnd({.reason = FinishReason::kEos, .stop_token_id = 2, .stop_text = "", .new_tokens = 2});
    s.sink->OnDone(absl::OkStatus(), {1, 0, 2}, {});
  });
  grpc::ClientContext context;
  v1::GenerateResponse response;
  ASSERT_TRUE(generation_->Generate(&context, TextRequest(), &response).ok());
  EXPECT_EQ(response.outputs(0).text(), "ab");
  EXPECT_EQ(response.outputs(0).end().stop_token_id(), 2u);
  EXPECT_EQ(response.usage().new_tokens(), 2u);
  EXPECT_FALSE(response.accepted().request_id().empty());
}

TEST_F(DaemonTest, ChatGoesThroughTheTemplate) {
  grpc::ClientContext context;
  v1::TokenizeRequest request;
  v1::ChatMessage& message = *request.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content("hi");
  v1::TokenizeResponse response;
  ASSERT_TRUE(generation_->Tokenize(&context, request, &response).ok());
  EXPECT_THAT(response.rendered(), HasSubstr("user\nhi"));
  EXPECT_EQ(response.ids_size(), response.byte_offsets_size());
  EXPECT_EQ(response.max_context(), 64u);
  grpc::ClientContext context2;
  v1::DetokenizeRequest back;
  back.mutable_ids()->CopyFrom(response.ids());
  v1::DetokenizeResponse text;
  ASSERT_TRUE(generation_->Detokenize(&context2, back, &text).ok());
  EXPECT_EQ(text.text(), response.rendered());
}

TEST_F(DaemonTest, CancelReachesTheEngine) {
  grpc::ClientContext context;
  auto reader = generation_->GenerateStream(&context, TextRequest());
  Submitted s = handle_->Next();
  s.sink->OnAccepted(0);
  context.TryCancel();
  EXPECT_TRUE(s.control->cancelled.Wait());
  s.sink->OnDone(WithReason(absl::CancelledError("x"), "CLIENT"), {}, {});
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(DaemonTest, AnIdInFlightIsRefusedUntilItsRequestEnds) {
  v1::GenerateRequest request = TextRequest();
  request.mutable_options()->set_request_id("mine");
  grpc::ClientContext first, third, other;
  auto reader = generation_->GenerateStream(&first, request);
  Submitted s = handle_->Next();
  const grpc::Status status = Refused(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(ReadDetails(status).reason, "REQUEST_EXISTS");
  EXPECT_EQ(ReadDetails(status).fields[0].first, "options.request_id");
  EXPECT_EQ(handle_->ended.size(), 1u) << "counted";

  s.sink->OnDone(WithReason(absl::InternalError("x"), "NAN_LOGITS"), {}, {});
  reader->Finish();
  reader = generation_->GenerateStream(&third, request);
  s = handle_->Next();
  third.TryCancel();  // the engine has not heard of it yet when its client comes back
  ASSERT_TRUE(s.control->cancelled.Wait());
  auto again = generation_->GenerateStream(&other, request);
  Submitted t = handle_->Next();
  s.sink->OnDone(WithReason(absl::CancelledError("x"), "CLIENT"), {}, {});
  EXPECT_EQ(Refused(request).error_code(), grpc::StatusCode::ALREADY_EXISTS) << "the end of one takes the other's id";
  t.sink->OnDone(absl::OkStatus(), {}, {});
  v1::GenerateEvent event;
  EXPECT_TRUE(again->Read(&event) && event.has_finished());
  EXPECT_TRUE(again->Finish().ok());
  reader->Finish();
}

TEST_F(DaemonTest, DeadlineIsTheRequestsDeadline) {
  grpc::ClientContext context;
  const TimePoint before = Now();
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::hours(1));
  auto reader = generation_->GenerateStream(&context, TextRequest());
  Submitted s = handle_->Next();
  ASSERT_TRUE(s.request.deadline.has_value());
  // gRPC sends an hour in whole seconds or minutes, rounded up.
  EXPECT_GE(*s.request.deadline, before + std::chrono::minutes(59));
  EXPECT_LE(*s.request.deadline, Now() + std::chrono::minutes(62));
  s.sink->OnDone(WithReason(absl::DeadlineExceededError("x"), "EXPIRED_RUNNING"), {}, {});
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(ReadDetails(status).reason, "EXPIRED_RUNNING");
}

TEST_F(DaemonTest, ClientsDeadlineIsNoClientsCancel) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  auto reader = generation_->GenerateStream(&context, TextRequest());
  Submitted s = handle_->Next();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(s.control->expired.Wait()) << "at once, and counted as what it is";
  EXPECT_EQ(s.control->cancelled.count(), 0);
  s.sink->OnDone(WithReason(absl::DeadlineExceededError("x"), "EXPIRED_RUNNING"), {}, {});
}

// Every error of docs/api.md that a request can get, raised where it arises.
TEST_F(DaemonTest, EveryErrorCarriesItsReason) {
  struct Case {
    absl::Status status;
    const char* reason;
    enum { kFind, kReserve, kSubmit, kDone } where;
  };
  const std::vector<Case> cases = {
      {absl::NotFoundError("m"), "MODEL_NOT_FOUND", Case::kFind},
      {absl::FailedPreconditionError("m"), "MODEL_NOT_LOADED", Case::kFind},
      {WithRetryAfter(absl::UnavailableError("m"), std::chrono::seconds(2)), "MODEL_LOADING", Case::kFind},
      {absl::UnavailableError("m"), "DRAINING", Case::kFind},
      {WithRetryAfter(absl::ResourceExhaustedError("m"), std::chrono::milliseconds(1500)), "QUEUE_FULL",
       Case::kReserve},
      {WithRetryAfter(absl::ResourceExhaustedError("m"), std::chrono::seconds(1)), "TOKEN_BUDGET", Case::kReserve},
      {absl::UnavailableError("m"), "DRAINING", Case::kReserve},
      {absl::InvalidArgumentError("m"), "CONTEXT_TOO_LONG", Case::kSubmit},
      {absl::FailedPreconditionError("m"), "EXCEEDS_CAPACITY", Case::kSubmit},
      {absl::DeadlineExceededError("m"), "CANNOT_MEET", Case::kReserve},
      {absl::DeadlineExceededError("m"), "EXPIRED_IN_QUEUE", Case::kSubmit},
      {absl::DeadlineExceededError("m"), "EXPIRED_RUNNING", Case::kDone},
      {WithRetryAfter(absl::ResourceExhaustedError("m"), std::chrono::seconds(1)), "QUEUE_TIMEOUT", Case::kDone},
      {absl::InternalError("m"), "NAN_LOGITS", Case::kDone},
      {absl::UnavailableError("m"), "DEVICE_LOST", Case::kDone},
      {absl::CancelledError("m"), "CLIENT", Case::kDone},
  };
  for (const Case& c : cases) {
    const absl::Status status = WithReason(c.status, c.reason);
    registry_->find_status = c.where == Case::kFind ? status : absl::OkStatus();
    handle_->reserve_status = c.where == Case::kReserve ? status : absl::OkStatus();
    handle_->submit_status = c.where == Case::kSubmit ? status : absl::OkStatus();
    handle_->ended.clear();
    grpc::ClientContext context;
    auto reader = generation_->GenerateStream(&context, TextRequest());
    if (c.where == Case::kDone) handle_->Next().sink->OnDone(status, {}, {});
    const grpc::Status got = reader->Finish();
    EXPECT_EQ(static_cast<int>(got.error_code()), static_cast<int>(status.code())) << c.reason;
    EXPECT_EQ(ReadDetails(got).reason, c.reason);
    EXPECT_EQ(ReadDetails(got).retry_after, GetRetryAfter(status)) << c.reason;
    // Counted once: by the engine where a sink heard of it, else through its handle.
    EXPECT_EQ(handle_->ended.size(), c.where == Case::kReserve || c.where == Case::kSubmit ? 1u : 0u) << c.reason;
    if (c.where != Case::kDone) {
      EXPECT_EQ(handle_->held(), 0) << "its place in the queue is given back";
    }
  }
  EXPECT_THAT(Get("/metrics")->body,
              HasSubstr("quantd_requests_total{code=\"NOT_FOUND\",kind=\"generate\",model=\"unknown\"} 1"));
}

TEST_F(DaemonTest, BadFieldsAreNamed) {
  struct Case {
    std::function<void(v1::GenerateRequest&)> set;
    const char* field;
    grpc::StatusCode code;
  };
  constexpr auto kInvalid = grpc::StatusCode::INVALID_ARGUMENT, kNotBuilt = grpc::StatusCode::UNIMPLEMENTED;
  using R = v1::GenerateRequest;
  const std::vector<Case> cases = {
      {[](R& r) { r.clear_input(); }, "input", kInvalid},
      {[](R& r) { r.mutable_tokens(); }, "tokens.ids", kInvalid},
      {[](R& r) { r.mutable_tokens()->add_ids(1u << 31); }, "tokens.ids[0]", kInvalid},
      {[](R& r) { r.mutable_chat(); }, "chat.messages", kInvalid},
      {[](R& r) { r.mutable_chat()->add_messages(); }, "chat.messages[0].role", kInvalid},
      {[](R& r) {
         r.mutable_tokens()->add_ids(1);
         r.set_parse_special(true);
       },
       "parse_special", kInvalid},
      {[](R& r) { r.mutable_sampling()->set_temperature(-1); }, "sampling.temperature", kInvalid},
      {[](R& r) { r.mutable_sampling()->set_temperature(std::nanf("")); }, "sampling.temperature", kInvalid},
      {[](R& r) { r.mutable_sampling()->set_top_p(0); }, "sampling.top_p", kInvalid},
      {[](R& r) { r.mutable_sampling()->set_top_p(1.5); }, "sampling.top_p", kInvalid},
      {[](R& r) { r.mutable_sampling()->set_min_p(2); }, "sampling.min_p", kInvalid},
      {[](R& r) { r.mutable_sampling()->set_num_outputs(0); }, "sampling.num_outputs", kInvalid},
      {[](R& r) { r.mutable_stopping()->set_max_new_tokens(0); }, "stopping.max_new_tokens", kInvalid},
      {[](R& r) {
         r.mutable_stopping()->set_max_new_tokens(1);
         r.mutable_stopping()->set_min_new_tokens(2);
       },
       "stopping.min_new_tokens", kInvalid},
      {[](R& r) { r.mutable_stopping()->add_stop(""); }, "stopping.stop[0]", kInvalid},
      {[](R& r) {
         for (int i = 0; i < 17; ++i) r.mutable_stopping()->add_stop("x");
       },
       "stopping.stop", kInvalid},
      {[](R& r) { r.mutable_stopping()->add_stop_token_ids(1u << 31); }, "stopping.stop_token_ids[0]", kInvalid},
      {[](R& r) { r.mutable_stopping()->set_time_limit_ms(0); }, "stopping.time_limit_ms", kInvalid},
      {[](R& r) { r.mutable_output()->set_stream_interval(0); }, "output.stream_interval", kInvalid},
      {[](R& r) { r.mutable_options()->set_request_id("a b"); }, "options.request_id", kInvalid},
      {[](R& r) { r.mutable_options()->mutable_max_queue_time()->set_seconds(-1); }, "options.max_queue_time",
       kInvalid},
      {[](R& r) { r.mutable_options()->mutable_max_queue_time(); }, "options.max_queue_time", kInvalid},
      {[](R& r) { r.mutable_options()->mutable_max_queue_time()->set_seconds(INT64_MAX); }, "options.max_queue_time",
       kInvalid},
      {[](R& r) { r.mutable_cache()->set_salt(std::string(257, 'x')); }, "cache.salt", kInvalid},
      {[](R& r) { r.mutable_options()->set_tenant("t"); }, "options.tenant", kNotBuilt},
      {[](R& r) { r.mutable_options()->set_keep_on_disconnect(true); }, "options.keep_on_disconnect", kNotBuilt},
      {[](R& r) { r.mutable_constraint()->set_regex("a"); }, "constraint", kNotBuilt},
      {[](R& r) { r.mutable_sampling()->set_num_outputs(2); }, "sampling.num_outputs", kNotBuilt},
      {[](R& r) { r.mutable_sampling()->set_repetition_penalty(1.1f); }, "sampling.repetition_penalty", kNotBuilt},
      {[](R& r) { r.mutable_sampling()->set_presence_penalty(1); }, "sampling.presence_penalty", kNotBuilt},
      {[](R& r) { r.mutable_sampling()->set_frequency_penalty(1); }, "sampling.frequency_penalty", kNotBuilt},
      {[](R& r) { (*r.mutable_sampling()->mutable_logit_bias())[1] = 1; }, "sampling.logit_bias", kNotBuilt},
      {[](R& r) { r.mutable_output()->set_logprobs(0); }, "output.logprobs", kNotBuilt},
      {[](R& r) { r.mutable_output()->set_prompt_logprobs(0); }, "output.prompt_logprobs", kNotBuilt},
      {[](R& r) { r.mutable_output()->set_echo(true); }, "output.echo", kNotBuilt},
  };
  for (const Case& c : cases) {
    R request = TextRequest();
    c.set(request);
    const grpc::Status status = Refused(request);
    EXPECT_EQ(status.error_code(), c.code) << c.field;
    const ErrorDetails details = ReadDetails(status);
    EXPECT_EQ(details.reason, c.code == kInvalid ? "FIELD_INVALID" : "NOT_BUILT");
    ASSERT_EQ(details.fields.size(), 1u) << c.field;
    EXPECT_EQ(details.fields[0].first, c.field);
  }
  EXPECT_EQ(handle_->ended.size(), cases.size()) << "every request is counted";
  EXPECT_EQ(handle_->submitted.count(), 0);
}

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
  ready << std::ifstream(::testing::TempDir() + "/quantd_ready").rdbuf();
  EXPECT_THAT(ready.str(), HasSubstr("\"grpc\":\"127.0.0.1:" + std::to_string(daemon_->grpc_port()) + "\""));

  daemon_->Drain(std::chrono::seconds(1));
  EXPECT_FALSE(std::ifstream(::testing::TempDir() + "/quantd_ready")) << "nobody finds a daemon that has gone";
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
  EXPECT_FALSE(std::ifstream(::testing::TempDir() + "/quantd_ready"));
}

TEST_F(DaemonTest, ReflectionListsEveryService) {
  // The request and the response by hand: a second copy of reflection.proto cannot be linked beside gRPC's own.
  grpc::GenericStub stub(channel_);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  auto call = stub.PrepareCall(&context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  const auto next = [&] {
    void* tag;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok));
    return ok;
  };
  call->StartCall(nullptr);
  ASSERT_TRUE(next());
  grpc::Slice list_services("\x3a\x00", 2);  // field 7, an empty string
  call->Write(grpc::ByteBuffer(&list_services, 1), nullptr);
  ASSERT_TRUE(next());
  grpc::ByteBuffer response;
  call->Read(&response, nullptr);
  ASSERT_TRUE(next());
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(response.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& s : slices) bytes.append(reinterpret_cast<const char*>(s.begin()), s.size());
  for (const char* name : {"quantd.v1.Generation", "quantd.v1.Models", "quantd.v1.Diffusion", "quantd.v1.Control",
                           "grpc.health.v1.Health"}) {
    EXPECT_THAT(bytes, HasSubstr(name));
  }
  call->WritesDone(nullptr);
  next();
  grpc::Status status;
  call->Finish(&status, nullptr);
  next();
  EXPECT_TRUE(status.ok());
}

TEST_F(DaemonTest, ModelsAreListedAndPlanned) {
  ASSERT_TRUE(daemon_->WaitUntilReady().ok());
  auto models = v1::Models::NewStub(channel_);
  {
    grpc::ClientContext c;
    v1::ListModelsResponse r;
    ASSERT_TRUE(models->ListModels(&c, {}, &r).ok());
    ASSERT_EQ(r.models_size(), 1);
    EXPECT_EQ(r.models(0).state(), v1::MODEL_STATE_READY);
    EXPECT_EQ(r.models(0).memory().weights_bytes(), 1000u);
    EXPECT_EQ(r.models(0).memory().peak_bytes(), 1300u);
  }
  {
    grpc::ClientContext c;
    v1::GetModelRequest q;
    q.set_name("none");
    v1::Model r;
    EXPECT_EQ(models->GetModel(&c, q, &r).error_code(), grpc::StatusCode::NOT_FOUND);
  }
  const auto plan = [&](const std::string& path, v1::MemoryPlan& r) {
    grpc::ClientContext c;
    v1::PlanModelRequest q;
    q.mutable_spec()->set_path(path);
    return models->PlanModel(&c, q, &r);
  };
  v1::MemoryPlan r;
  {
    grpc::ClientContext c;
    v1::PlanModelRequest q;
    q.set_name("tiny");
    ASSERT_TRUE(models->PlanModel(&c, q, &r).ok());
    EXPECT_THAT(r.explanation(), HasSubstr("of which 0 ")) << "what the model itself takes would be free for it";
  }
  {
    grpc::ClientContext c;
    v1::PlanModelRequest q;
    q.mutable_spec()->set_path(quantd::testing::TinyModelPath());
    q.mutable_spec()->add_devices("cuda:0");
    const grpc::Status s = models->PlanModel(&c, q, &r);
    EXPECT_EQ(s.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(ReadDetails(s).fields[0].first, "spec.devices");
  }
  ASSERT_TRUE(plan(quantd::testing::TinyModelPath(), r).ok());
  EXPECT_TRUE(r.fits());
  EXPECT_EQ(r.use().kv_cache_bytes(), 200u);
  EXPECT_EQ(r.max_cached_tokens(), 320u);
  EXPECT_EQ(r.concurrent_at_max_context(), 5u);
  // Outside the roots: the same answer whether or not it is there.
  for (const char* path : {"/etc/passwd", "/no/such/file"}) {
    const grpc::Status s = plan(path, r);
    EXPECT_EQ(s.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(ReadDetails(s).fields[0].first, "spec.path");
  }
  EXPECT_FALSE(plan(quantd::testing::TinyModelPath() + "/../../../../CMakeLists.txt", r).ok());
}

class ModelRootsTest : public DaemonTest {
 protected:
  void SetUp() override {
    model_roots_ = {dir_.path() + "/models"};
    for (const char* folder : {"/models/sub", "/models2"}) std::filesystem::create_directories(dir_.path() + folder);
    for (const char* file : {"/models/sub/a.gguf", "/models2/b.gguf"}) {
      std::filesystem::copy_file(quantd::testing::TinyModelPath(), dir_.path() + file);
    }
    std::filesystem::create_symlink(dir_.path() + "/models2/b.gguf", dir_.path() + "/models/out.gguf");
    DaemonTest::SetUp();
  }
  grpc::StatusCode Plan(const std::string& path) {
    grpc::ClientContext c;
    v1::PlanModelRequest q;
    q.mutable_spec()->set_path(dir_.path() + path);
    v1::MemoryPlan r;
    return v1::Models::NewStub(channel_)->PlanModel(&c, q, &r).error_code();
  }
  const quantd::testing::TempDir dir_;
};

TEST_F(ModelRootsTest, WhatLiesBelowARootIsPlannedAndNothingElse) {
  EXPECT_EQ(Plan("/models/sub/a.gguf"), grpc::StatusCode::OK);
  EXPECT_EQ(Plan("/models/sub/../sub/a.gguf"), grpc::StatusCode::OK);
  for (const char* outside : {"/models2/b.gguf", "/models/../models2/b.gguf", "/models/out.gguf", "/none"}) {
    EXPECT_EQ(Plan(outside), grpc::StatusCode::INVALID_ARGUMENT) << outside;
  }
}

class SlowReaderTest : public DaemonTest {
 protected:
  static constexpr Outbox::Limits kSmall{.messages = 8, .bytes = 1 << 20};
  void SetUp() override { Start(kSmall); }
};

TEST_F(SlowReaderTest, PausesItsOwnSequenceAndLosesNothing) {
  grpc::ClientContext context;
  auto reader = generation_->GenerateStream(&context, TextRequest());
  Submitted s = handle_->Next();
  // 64 KiB a message: gRPC's flow-control windows fill, then the outbox.
  const auto text = [](int i) { return std::to_string(i) + std::string(65536, 'x'); };
  int sent = 0;
  while (s.sink->OnDelta({text(sent++), {}}) != LlmSink::Flow::kFull) ASSERT_LT(sent, 10'000);
  EXPECT_EQ(s.control->ready.count(), 0);
  v1::GenerateEvent event;
  int got = 0;
  for (; got < sent; ++got) {
    ASSERT_TRUE(reader->Read(&event));
    ASSERT_EQ(event.delta().text(), text(got));
  }
  EXPECT_TRUE(s.control->ready.Wait());
  EXPECT_EQ(s.sink->OnDelta({"end", {}}), LlmSink::Flow::kReady);
  s.sink->OnDone(absl::OkStatus(), {}, {});
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.delta().text(), "end");
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_TRUE(event.has_finished());
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(SlowReaderTest, ADrainWaitsForWhoStillReadsUnlessItIsCutShort) {
  constexpr int kMessages = 300;  // of 64 KiB: more than flow control lets through unread
  for (const bool cut : {false, true}) {
    grpc::ClientContext context;
    auto reader = generation_->GenerateStream(&context, TextRequest());
    Submitted s = handle_->Next();
    for (int i = 0; i < kMessages; ++i) s.sink->OnDelta({std::string(65536, 'x'), {}});
    s.sink->OnDone(absl::OkStatus(), {}, {});
    const TimePoint begin = Now();
    std::jthread drain([&] { daemon_->Drain(std::chrono::seconds(60)); });
    ASSERT_TRUE(registry_->drained.Wait());
    v1::GenerateEvent event;
    int got = 0;
    if (cut) {
      daemon_->StopNow();
      drain.join();
      EXPECT_LT(Now() - begin, std::chrono::seconds(30));
    }
    while (reader->Read(&event) && event.has_delta()) ++got;
    EXPECT_EQ(reader->Finish().ok(), !cut);
    if (cut) return;
    EXPECT_TRUE(event.has_finished());
    EXPECT_EQ(got, kMessages);
    drain.join();
    Start(kSmall, /*flush_time=*/{});  // it cuts what it does not wait for
  }
}

TEST_F(DaemonTest, AnErrorThatQuotesAHugeNameReachesTheClient) {
  for (const char* unit : {"x", "\xC3\xA9"}) {
    std::string name;
    while (name.size() < 100'000) name += unit;
    registry_->find_status = WithReason(absl::NotFoundError("no such model " + name), "MODEL_NOT_FOUND");
    v1::GenerateRequest request = TextRequest();
    request.set_model(name);
    const grpc::Status status = Refused(request);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND) << status.error_message();
    EXPECT_EQ(ReadDetails(status).reason, "MODEL_NOT_FOUND");
    EXPECT_THAT(status.error_message(), HasSubstr("no such model " + std::string(unit)));
  }
}

TEST_F(DaemonTest, EveryPartOfAChatCountsAgainstTheQueue) {
  const std::string kilo(4000, 'x');
  v1::GenerateRequest request;
  v1::ChatMessage& message = *request.mutable_chat()->add_messages();
  EXPECT_LT(EstimatePromptTokens(request), 100);
  message.add_tool_calls()->set_arguments_json(kilo);
  EXPECT_GE(EstimatePromptTokens(request), 1000);
  message.set_role(kilo);
  EXPECT_GE(EstimatePromptTokens(request), 2000);
  (*request.mutable_chat()->mutable_template_args()->mutable_fields())["a"].set_string_value(kilo);
  EXPECT_GE(EstimatePromptTokens(request), 3000);
}

TEST_F(DaemonTest, TokenizeBoundsItsText) {
  grpc::ClientContext context;
  v1::TokenizeRequest request;
  request.set_text(std::string(kMaxTokenizeBytes + 1, ' '));
  v1::TokenizeResponse response;
  const grpc::Status status = generation_->Tokenize(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ReadDetails(status).fields[0].first, "text");
}

TEST_F(DaemonTest, DetokenizeBoundsItsIds) {
  grpc::ClientContext context;
  v1::DetokenizeRequest request;
  for (int i = 0; i <= kMaxDetokenizeIds; ++i) request.add_ids(1);
  v1::DetokenizeResponse response;
  const grpc::Status status = generation_->Detokenize(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ReadDetails(status).fields[0].first, "ids");
}

// Name → label names, of every sample of a /metrics text ("le" aside).
std::map<std::string, std::set<std::string>> ParseMetrics(const std::string& text) {
  std::map<std::string, std::set<std::string>> found;
  std::string type_name;
  std::stringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# TYPE ")) type_name = line.substr(7, line.find(' ', 7) - 7);
    if (line.empty() || line[0] == '#') continue;
    std::set<std::string>& labels = found[type_name];
    static const std::regex kLabel("([a-z_]+)=\"");
    for (std::sregex_iterator it(line.begin(), line.end(), kLabel), end; it != end; ++it) {
      if ((*it)[1] != "le") labels.insert((*it)[1]);
    }
  }
  return found;
}

TEST_F(DaemonTest, MetricsAreThoseOfThePage) {
  const auto response = Get("/metrics");
  ASSERT_TRUE(response);
  EXPECT_THAT(response->get_header_value("Content-Type"), HasSubstr("version=0.0.4"));
  std::map<std::string, std::set<std::string>> documented;
  std::ifstream page(quantd::testing::SourcePath("docs/metrics.md"));
  ASSERT_TRUE(page);
  for (std::string line; std::getline(page, line);) {  // | `name` | type | labels | meaning |
    std::smatch row;
    static const std::regex kRow(R"(^\| `(\w+)` \| \w+ \| ([^|]*) \|.*)");
    if (!std::regex_match(line, row, kRow)) continue;
    std::set<std::string>& labels = documented[row[1]];
    std::stringstream names(row[2]);
    for (std::string name; std::getline(names, name, ',');) {
      name = std::regex_replace(name, std::regex("[` ]"), "");
      if (!name.empty()) labels.insert(name);
    }
  }
  EXPECT_EQ(ParseMetrics(response->body), documented);
}

TEST_F(DaemonTest, EveryLabelSetIsThereFromTheStartAndCountersAreExact) {
  std::string text = Get("/metrics")->body;
  EXPECT_THAT(text, HasSubstr("quantd_requests_total{code=\"DEADLINE_EXCEEDED\",kind=\"generate\",model=\"tiny\"} 0"));
  EXPECT_THAT(text, HasSubstr("quantd_requests_rejected_total{model=\"tiny\",reason=\"queue_full\"} 0"));
  EXPECT_THAT(text, HasSubstr("quantd_memory_bytes{component=\"kv_cache\",device=\"cpu\",model=\"tiny\"} 200"));
  EngineObserver& o = *registry_->observer;
  RequestRecord record;
  record.usage = {10, 4, 3};
  record.timing.total = std::chrono::milliseconds(30);
  o.OnEnded(record);
  o.OnRejected("queue_full");
  o.OnRejected("something new");
  o.OnStarted(Priority::kBatch, std::chrono::milliseconds(3));
  o.OnStep(StepPhase::kMixed, 17, 2, std::chrono::milliseconds(7));
  o.OnPreempted(33);
  o.OnPrefixLookup(64, 32);
  EngineGauges gauges;
  gauges.blocks_used = 3;
  gauges.blocks_free = 9;
  o.OnGauges(gauges);
  text = Get("/metrics")->body;
  for (const char* line :
       {"quantd_requests_total{code=\"OK\",kind=\"generate\",model=\"tiny\"} 1",
        "quantd_tokens_total{model=\"tiny\",type=\"prompt\"} 10",
        "quantd_tokens_total{model=\"tiny\",type=\"prompt_cached\"} 4",
        "quantd_tokens_total{model=\"tiny\",type=\"generated\"} 3",
        "quantd_requests_rejected_total{model=\"tiny\",reason=\"queue_full\"} 1",
        "quantd_requests_rejected_total{model=\"tiny\",reason=\"other\"} 1",
        "quantd_request_queue_seconds_count{model=\"tiny\",priority=\"batch\"} 1",
        "quantd_step_tokens_bucket{model=\"tiny\",phase=\"mixed\",le=\"32\"} 1",
        "quantd_step_tokens_bucket{model=\"tiny\",phase=\"mixed\",le=\"16\"} 0",
        "quantd_preempted_tokens_total{model=\"tiny\"} 33", "quantd_prefix_cache_hit_tokens_total{model=\"tiny\"} 32",
        "quantd_kv_cache_usage_ratio{model=\"tiny\"} 0.25"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text, Not(HasSubstr("nan")));
}

TEST_F(DaemonTest, PromtoolFindsNothing) {
  if (std::system("command -v promtool > /dev/null") != 0) GTEST_SKIP() << "tool: promtool is not installed";
  const std::string path = ::testing::TempDir() + "/quantd_metrics.txt";
  std::ofstream(path) << Get("/metrics")->body;
  EXPECT_EQ(std::system(("promtool check metrics < " + path).c_str()), 0);
}

TEST(DaemonBindTest, ATakenPortIsAnError) {
  ServerOptions options;
  options.listen.port = options.metrics_listen.port = 0;
  const Daemon::MakeRegistry make = [](const RegistryOptions&, ModelRegistry::Hooks hooks) {
    return absl::StatusOr<std::unique_ptr<ModelRegistry>>(std::make_unique<FakeRegistry>(std::move(hooks)));
  };
  auto first = Daemon::Start(options, make);
  ASSERT_TRUE(first.ok()) << first.status();
  options.listen.port = (*first)->grpc_port();
  auto second = Daemon::Start(options, make);
  EXPECT_EQ(ReasonOf(second.status()), "BIND_FAILED");
  options.listen.port = 0;
  options.metrics_listen.port = (*first)->metrics_port();
  EXPECT_EQ(ReasonOf(Daemon::Start(options, make).status()), "BIND_FAILED");
}

}  // namespace
}  // namespace quantd
