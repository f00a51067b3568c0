// quantd.v1.Generation over real gRPC: events, ends, errors, bounds, slow readers.
#include "server/generation_service.h"

#include <filesystem>
#include <thread>

#include <gmock/gmock.h>

#include "base/error.h"
#include "server/convert.h"
#include "server/status.h"
#include "tests/server/daemon_fixture.h"

namespace quantd {
namespace {
using quantd::testing::DaemonTest;
using quantd::testing::Submitted;
using quantd::testing::TextRequest;
using ::testing::HasSubstr;

using GenerationServiceTest = DaemonTest;

TEST_F(GenerationServiceTest, StreamsEventsInOrder) {
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

TEST_F(GenerationServiceTest, UnaryCollectsTheSameEvents) {
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

TEST_F(GenerationServiceTest, ChatGoesThroughTheTemplate) {
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

TEST_F(GenerationServiceTest, CancelReachesTheEngine) {
  grpc::ClientContext context;
  auto reader = generation_->GenerateStream(&context, TextRequest());
  Submitted s = handle_->Next();
  s.sink->OnAccepted(0);
  context.TryCancel();
  EXPECT_TRUE(s.control->cancelled.Wait());
  s.sink->OnDone(WithReason(absl::CancelledError("x"), "CLIENT"), {}, {});
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(GenerationServiceTest, AnIdInFlightIsRefusedUntilItsRequestEnds) {
  v1::GenerateRequest request = TextRequest();
  request.mutable_options()->set_request_id("mine");
  grpc::ClientContext first, second;
  auto reader = generation_->GenerateStream(&first, request);
  Submitted s = handle_->Next();
  const grpc::Status status = Refused(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(ReadDetails(status).reason, "REQUEST_EXISTS");
  EXPECT_EQ(ReadDetails(status).fields[0].first, "options.request_id");
  EXPECT_EQ(handle_->ended.size(), 1u) << "counted";

  s.sink->OnDone(WithReason(absl::InternalError("x"), "NAN_LOGITS"), {}, {});
  reader->Finish();
  reader = generation_->GenerateStream(&second, request);
  handle_->Next().sink->OnDone(WithReason(absl::InternalError("x"), "NAN_LOGITS"), {}, {});
  EXPECT_EQ(ReadDetails(reader->Finish()).reason, "NAN_LOGITS") << "it was free at once";
}

// The server hears of a cancel and of the next call on two threads: who was refused may try again.
TEST_F(GenerationServiceTest, AnIdIsFreeAgainAfterACancelBeforeTheEngineEndsItsRequest) {
  v1::GenerateRequest request = TextRequest();
  request.mutable_options()->set_request_id("mine");
  grpc::ClientContext cancelled;
  auto reader = generation_->GenerateStream(&cancelled, request);
  Submitted old = handle_->Next();
  cancelled.TryCancel();
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<grpc::ClientReader<v1::GenerateEvent>> again;
  std::optional<Submitted> accepted;
  std::jthread engine([&] {
    accepted = handle_->Next();
    accepted->sink->OnAccepted(0);
  });
  v1::GenerateEvent event;
  for (const TimePoint limit = Now() + std::chrono::seconds(60);;) {
    context = std::make_unique<grpc::ClientContext>();
    again = generation_->GenerateStream(context.get(), request);
    if (again->Read(&event)) break;  // accepted
    const grpc::Status status = again->Finish();
    ASSERT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
    EXPECT_TRUE(ReadDetails(status).retry_after);
    ASSERT_LT(Now(), limit);
  }
  engine.join();
  // The old request's end leaves the id with the new one.
  old.sink->OnDone(WithReason(absl::CancelledError("x"), "CLIENT"), {}, {});
  reader->Finish();
  grpc::ClientContext third;
  auto refused = generation_->GenerateStream(&third, request);
  EXPECT_FALSE(refused->Read(&event));
  EXPECT_EQ(refused->Finish().error_code(), grpc::StatusCode::ALREADY_EXISTS);
  accepted->sink->OnDone(WithReason(absl::InternalError("x"), "NAN_LOGITS"), {}, {});
  while (again->Read(&event)) {
  }
  EXPECT_EQ(ReadDetails(again->Finish()).reason, "NAN_LOGITS");
}

TEST_F(GenerationServiceTest, DeadlineIsTheRequestsDeadline) {
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

TEST_F(GenerationServiceTest, ClientsDeadlineIsNoClientsCancel) {
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
TEST_F(GenerationServiceTest, EveryErrorCarriesItsReason) {
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

TEST_F(GenerationServiceTest, BadFieldsAreNamed) {
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
      {[](R& r) { r.mutable_sampling()->set_repetition_penalty(0); }, "sampling.repetition_penalty", kInvalid},
      {[](R& r) { r.mutable_sampling()->set_repetition_penalty(-1); }, "sampling.repetition_penalty", kInvalid},
      {[](R& r) { r.mutable_sampling()->set_repetition_penalty(101); }, "sampling.repetition_penalty", kInvalid},
      {[](R& r) { r.mutable_sampling()->set_repetition_penalty(std::nanf("")); }, "sampling.repetition_penalty",
       kInvalid},
      {[](R& r) { r.mutable_sampling()->set_presence_penalty(2.1f); }, "sampling.presence_penalty", kInvalid},
      {[](R& r) { r.mutable_sampling()->set_presence_penalty(std::nanf("")); }, "sampling.presence_penalty", kInvalid},
      {[](R& r) { r.mutable_sampling()->set_frequency_penalty(-2.1f); }, "sampling.frequency_penalty", kInvalid},
      {[](R& r) { r.mutable_sampling()->set_frequency_penalty(INFINITY); }, "sampling.frequency_penalty", kInvalid},
      {[](R& r) { r.mutable_sampling()->set_no_repeat_ngram_size(1025); }, "sampling.no_repeat_ngram_size", kInvalid},
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

TEST_F(SlowReaderTest, TheOneThatEndsForNotReadingLosesWhatWaited) {
  grpc::ClientContext context;
  auto reader = generation_->GenerateStream(&context, TextRequest());
  Submitted s = handle_->Next();
  int sent = 0;
  while (s.sink->OnDelta({std::string(65536, 'x'), {}}) != LlmSink::Flow::kFull) ++sent;
  s.sink->OnDone(WithReason(absl::ResourceExhaustedError("x"), "SLOW_READER"), {}, {});
  v1::GenerateEvent event;
  int got = 0;
  while (reader->Read(&event)) ++got;
  EXPECT_LT(got, sent);
  EXPECT_EQ(ReadDetails(reader->Finish()).reason, "SLOW_READER");
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

TEST_F(GenerationServiceTest, AnErrorThatQuotesAHugeNameReachesTheClient) {
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

TEST_F(GenerationServiceTest, EveryPartOfAChatCountsAgainstTheQueue) {
  const std::string kilo(4000, 'x');
  v1::GenerateRequest request;
  v1::ChatMessage& message = *request.mutable_chat()->add_messages();
  EXPECT_LT(EstimatePromptTokens(request).tokens, 100);
  message.add_tool_calls()->set_arguments_json(kilo);
  EXPECT_GE(EstimatePromptTokens(request).tokens, 1000);
  message.set_role(kilo);
  EXPECT_GE(EstimatePromptTokens(request).tokens, 2000);
  (*request.mutable_chat()->mutable_template_args()->mutable_fields())["a"].set_string_value(kilo);
  EXPECT_GE(EstimatePromptTokens(request).tokens, 3000);
}

// The channel is one of gRPC's defaults: it takes 4 MiB of an answer.
TEST_F(GenerationServiceTest, WhatTokenizeAnswersFitsADefaultClient) {
  v1::TokenizeRequest request;
  const auto tokenize = [&](v1::TokenizeResponse& response) {
    grpc::ClientContext context;
    return generation_->Tokenize(&context, request, &response);
  };
  v1::TokenizeResponse half, whole, ids;
  request.set_text(std::string(kMaxTokenizeBytes / 2, '\n'));  // a token each
  EXPECT_TRUE(tokenize(half).ok());
  EXPECT_EQ(half.ids_size(), int{kMaxTokenizeBytes / 2});
  EXPECT_EQ(half.byte_offsets_size(), half.ids_size());
  EXPECT_EQ(half.rendered().size(), kMaxTokenizeBytes / 2);

  request.set_text(std::string(kMaxTokenizeBytes, '\n'));
  const grpc::Status status = tokenize(whole);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReadDetails(status).reason, "LIMIT");
  EXPECT_THAT(status.error_message(), HasSubstr("byte_offsets: false"));
  request.set_byte_offsets(false);
  request.set_rendered(false);
  EXPECT_TRUE(tokenize(ids).ok());
  EXPECT_EQ(ids.ids_size(), int{kMaxTokenizeBytes});
  EXPECT_EQ(ids.byte_offsets_size(), 0);
  EXPECT_EQ(ids.rendered(), "");
}

}  // namespace
}  // namespace quantd
