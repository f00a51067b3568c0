// An allocation that fails ends the request that asked for it, wherever it fails between the gate and the engine.
#include "base/allocation_failure.h"

#include <atomic>
#include <random>

#include <gtest/gtest.h>

#include "server/generate_call.h"
#include "server/status.h"
#include "tests/server/call_fakes.h"
#include "tests/testing/failing_allocator.h"

namespace quantd {
namespace {
using quantd::testing::FailAllocation;
using quantd::testing::FakeRegistry;
using quantd::testing::NoObserver;
using quantd::testing::RecordingWriter;
using quantd::testing::TinyCodec;

void ExpectNoMemory(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(ReasonOf(status), "OUT_OF_MEMORY");
  EXPECT_TRUE(GetRetryAfter(status).has_value());
}

class AllocationFailureTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(registry_.Load("tiny", {}, {}).ok()); }

  // Fails the n-th allocation of a request, and those after it, until the engine has it. False where there are fewer.
  bool Fail(const v1::GenerateRequest& request, int64_t n, int64_t in_a_row) {
    SCOPED_TRACE(::testing::Message() << "allocation " << n << " and " << in_a_row - 1 << " more");
    RecordingWriter writer;
    const int submitted = registry_.handle->submitted.count();
    const auto over = [&] { return writer.closed.count() > 0 || registry_.handle->submitted.count() > submitted; };
    bool failed;
    absl::Status made;
    {
      FailAllocation failure(n, in_a_row);
      made = CatchAllocationFailure([&] {
        std::make_shared<GenerateCall>(deps_, writer, request.options(), Now(), std::nullopt)->Start(request);
        return absl::OkStatus();
      });
      while (made.ok() && !over()) {
      }
      failed = failure.failed();
    }
    if (!made.ok()) ExpectNoMemory(made);
    if (writer.closed.count() > 0) ExpectNoMemory(writer.status);
    if (registry_.handle->submitted.count() > submitted) registry_.handle->Next().sink->OnDone({}, {}, {});
    EXPECT_TRUE(active_.Add("id").ok()) << "its id is free";
    active_.Remove("id");
    EXPECT_EQ(registry_.handle->held(), 0);
    return failed;
  }

  FakeRegistry registry_{{.make_observer = [](const std::string&) { return std::make_shared<NoObserver>(); },
                          .on_change = [](const ModelInfo&) {}}};
  WorkPool pool_{1, 4};
  ActiveRequests active_;
  MessageGate gate_{{}, [](const std::string&, const absl::Status&) {}};
  GenerateDeps deps_{registry_, pool_, active_, [](const LlmRequest&, const absl::Status&) {}, gate_};
};

TEST_F(AllocationFailureTest, EndsARequestOfTextAlone) {
  v1::GenerateRequest request;
  request.mutable_options()->set_request_id("id");
  request.set_model("tiny");
  request.set_text("hello, world of many words");
  request.mutable_stopping()->add_stop("a stop text that is longer than a short string");
  for (const int64_t in_a_row : {int64_t{1}, int64_t{4}, FailAllocation::kAllThatFollow}) {
    int64_t n = 1;
    while (Fail(request, n, in_a_row)) ++n;
    EXPECT_GT(n, 20);
  }
}

TEST_F(AllocationFailureTest, EndsARequestOfAChatAlone) {
  v1::GenerateRequest request;
  request.mutable_options()->set_request_id("id");
  v1::ChatMessage& message = *request.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content("hello, world of many words");
  for (const int64_t in_a_row : {int64_t{1}, FailAllocation::kAllThatFollow}) {
    int64_t n = 1;
    while (Fail(request, n, in_a_row)) n += 3;
    EXPECT_GT(n, 50);
  }
}

// Tokenize and the codec pool: what failed once gives the same tokens as ever the next time.
TEST(CodecAllocationFailureTest, LeavesTheCodecWhole) {
  const std::shared_ptr<const TextCodec> codec = TinyCodec();
  const std::string text = "hello, world: 12345 grüße <|im_start|> and so on";
  ChatTemplateInput chat;
  ChatMessage& message = chat.messages.emplace_back();
  message.role = "user";
  message.content = text;
  TextCodec::TextOptions options;
  options.parse_special = true;
  const auto encode = [&](bool as_chat) -> absl::StatusOr<EncodedPrompt> {
    return as_chat ? codec->EncodeChat(chat) : codec->EncodeText(text, options);
  };
  const auto seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (const bool as_chat : {false, true}) {
    const std::vector<int32_t> ids = encode(as_chat)->ids;
    int64_t most = 1;
    for (bool failed = true; failed; most *= 2) {
      FailAllocation failure(most);
      static_cast<void>(CatchAllocationFailure([&] { return encode(as_chat).status(); }));
      failed = failure.failed();
    }
    for (int i = 0; i < 200; ++i) {
      const int64_t n = 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(most));
      SCOPED_TRACE(n);
      absl::Status status;
      bool failed;
      {
        FailAllocation failure(n, i % 2 == 0 ? 1 : FailAllocation::kAllThatFollow);
        status = CatchAllocationFailure([&] { return encode(as_chat).status(); });
        failed = failure.failed();
      }
      if (failed && !status.ok()) ExpectNoMemory(status);  // a stable sort goes on without its buffer
      EXPECT_TRUE(failed || status.ok()) << status;
      ASSERT_EQ(encode(as_chat)->ids, ids);
    }
  }
}

TEST(WorkPoolAllocationFailureTest, RunsWhatItTookAndTakesMore) {
  int64_t n = 1;
  for (bool failed = true; failed; ++n) {
    SCOPED_TRACE(n);
    std::atomic<int> ran{0};
    int taken = 0;
    {
      WorkPool pool(/*threads=*/2, /*max_waiting=*/64, /*threads_of_lane=*/1);
      const auto post = [&](std::string_view lane) {
        IfMemoryAllows([&] { taken += pool.Post(lane, [&ran] { ++ran; }) ? 1 : 0; });
      };
      {
        FailAllocation failure(n);
        for (const char* lane : {"a lane of a name that is no short string", "b", "b", "a lane"}) post(lane);
        failed = failure.failed();
      }
      const int before = taken;
      for (const char* lane : {"a lane of a name that is no short string", "b", "c"}) post(lane);
      EXPECT_EQ(taken, before + 3);
    }
    EXPECT_EQ(ran, taken);
  }
  EXPECT_GT(n, 4);
}

}  // namespace
}  // namespace quantd
