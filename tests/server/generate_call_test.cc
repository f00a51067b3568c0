// What becomes of a request that waits for the codec pool, with the test as its engine and a pool that the test holds.
#include "server/generate_call.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "server/status.h"
#include "tests/server/call_fakes.h"

namespace quantd {
namespace {
using quantd::testing::Event;
using quantd::testing::FakeRegistry;
using quantd::testing::NoObserver;
using quantd::testing::RecordingWriter;

class CodecQueueTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(registry_.Load("tiny", {}, {}).ok());
    ASSERT_TRUE(pool_.Post([this] {
      held_.Set();
      release_.Wait();
    }));
    ASSERT_TRUE(held_.Wait());  // its queue is empty now
  }
  std::shared_ptr<GenerateCall> Start(std::optional<TimePoint> deadline) {
    v1::GenerateRequest request;
    request.set_text("hello");
    auto call = std::make_shared<GenerateCall>(deps_, writer_, request.options(), Now(), deadline);
    call->Start(request);
    return call;
  }
  // It ended without the engine: its place is free and it was counted once.
  void ExpectEnded(absl::StatusCode code, const char* reason) {
    ASSERT_TRUE(writer_.closed.Wait());
    EXPECT_EQ(writer_.status.code(), code);
    EXPECT_EQ(ReasonOf(writer_.status), reason);
    EXPECT_EQ(writer_.closed.count(), 1);
    EXPECT_EQ(registry_.handle->submitted.count(), 0);
    EXPECT_EQ(registry_.handle->held(), 0);
    ASSERT_EQ(registry_.handle->ended.size(), 1u);
    EXPECT_EQ(registry_.handle->ended[0].second.code(), code);
  }

  FakeRegistry registry_{{.make_observer = [](const std::string&) { return std::make_shared<NoObserver>(); },
                          .on_change = [](const ModelInfo&) {}}};
  Event held_, release_;
  RecordingWriter writer_;
  WorkPool pool_{1, 1};
  ActiveRequests active_;
  MessageGate gate_{{}, [](const std::string&, const absl::Status&) {}};
  GenerateDeps deps_{registry_, pool_, active_, [](const LlmRequest&, const absl::Status&) {}, gate_};
};

TEST_F(CodecQueueTest, ADeadlineThatPassesThereEndsTheRequestUntokenized) {
  const TimePoint deadline = Now() + std::chrono::milliseconds(5);
  Start(deadline);
  while (Now() <= deadline) {
  }
  release_.Set();
  ExpectEnded(absl::StatusCode::kDeadlineExceeded, "EXPIRED_IN_QUEUE");
}

// A tokenizer may be longer than its model.
TEST_F(CodecQueueTest, ATextWithATokenThatTheModelLacksIsRefused) {
  registry_.handle->set_vocab_size(1);
  Start(std::nullopt);
  release_.Set();
  ExpectEnded(absl::StatusCode::kInvalidArgument, "FIELD_INVALID");
  EXPECT_EQ(GetField(writer_.status), "text");
  EXPECT_NE(writer_.status.message().find("the model's vocabulary of 1 lacks"), absl::string_view::npos);
}

TEST_F(CodecQueueTest, ACancelThereEndsTheRequestUntokenized) {
  Start(std::nullopt)->GiveUp();
  release_.Set();
  ExpectEnded(absl::StatusCode::kCancelled, "CLIENT");
}

// gRPC rounds a timeout up by a hundredth at most: a client that leaves so close to its deadline has met it.
TEST_F(CodecQueueTest, AClientThatLeavesAtItsDeadlineHasMetIt) {
  Start(Now() + std::chrono::milliseconds(40))->GiveUp();
  release_.Set();
  ExpectEnded(absl::StatusCode::kDeadlineExceeded, "EXPIRED_IN_QUEUE");
}

TEST_F(CodecQueueTest, AClientThatLeavesLongBeforeItsDeadlineCancels) {
  Start(Now() + std::chrono::seconds(100))->GiveUp();
  release_.Set();
  ExpectEnded(absl::StatusCode::kCancelled, "CLIENT");
}

// The template of the tiny model loops over the messages: it has enough to do to hear of the cancel while it runs.
TEST_F(CodecQueueTest, AClientThatLeavesStopsTheTemplateThatRuns) {
  v1::GenerateRequest request;
  v1::Chat& chat = *request.mutable_chat();
  for (int i = 0; i < 20'000; ++i) {
    v1::ChatMessage& message = *chat.add_messages();
    message.set_role("user");
    message.set_content("x");
  }
  auto call = std::make_shared<GenerateCall>(deps_, writer_, request.options(), Now(), std::nullopt);
  call->Start(request);
  release_.Set();  // from now on it runs, or is about to
  call->GiveUp();
  ExpectEnded(absl::StatusCode::kCancelled, "CLIENT");
}

// A thousand prompts may wait there.
TEST_F(CodecQueueTest, APromptTakesItsMemoryUntilItIsTokens) {
  const std::shared_ptr<GenerateCall> call = Start(Now() + std::chrono::seconds(100));
  EXPECT_GT(gate_.open_bytes(), 5) << "hello";
  call->GiveUp();
  release_.Set();
  ExpectEnded(absl::StatusCode::kCancelled, "CLIENT");
  while (gate_.open_bytes() > 0) {
  }
}

TEST_F(CodecQueueTest, APromptThatFindsNoMemoryIsRefused) {
  const auto taken = gate_.Hold(gate_.limits().max_total_bytes);
  ASSERT_TRUE(taken.ok());
  Start(std::nullopt);
  ExpectEnded(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY");
  EXPECT_TRUE(GetRetryAfter(writer_.status).has_value());
  release_.Set();
}

TEST_F(CodecQueueTest, AFullQueueRefuses) {
  ASSERT_TRUE(pool_.Post([] {}));
  Start(std::nullopt);
  ExpectEnded(absl::StatusCode::kResourceExhausted, "QUEUE_FULL");
  EXPECT_TRUE(GetRetryAfter(writer_.status).has_value());
  release_.Set();
}

}  // namespace
}  // namespace quantd
