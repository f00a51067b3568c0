// An allocation that fails in an engine ends its requests, each heard of once, and the engine goes on.
#include <functional>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/scheduler/fakes.h"
#include "tests/testing/failing_allocator.h"

namespace quantd {
namespace {
using namespace testing_fakes;
using quantd::testing::FailAllocation;

class Engine {
 public:
  Engine() {
    LlmEngineOptions options;
    options.port.name = "fake";
    options.port.limits = FakeLimits(/*blocks=*/64);
    options.port.observer = observer;
    options.port.mailbox = mailbox;
    options.tokenizer = &tokenizer;
    auto runner = std::make_unique<FakeRunner>(options.port.limits.kv_blocks,
                                               static_cast<int>(options.port.limits.kv_block_tokens), 1000);
    engine = std::make_unique<LlmEngine>(options, std::move(runner));
  }
  ~Engine() { engine->EndAll(absl::CancelledError("the test ends")); }

  std::shared_ptr<RecordingSink> Submit(const std::string& id) {
    LlmRequest request;
    request.id = id;
    request.prompt = {1, 2, 3, 4, 5};
    request.stopping.max_new_tokens = 6;
    request.arrival = Now();
    auto sink = std::make_shared<RecordingSink>();
    auto reservation = engine->port()->Reserve(request, {.tokens = 5, .exact = true});
    EXPECT_TRUE(reservation.ok());
    EXPECT_TRUE(engine->port()->Submit(std::move(*reservation), std::move(request), sink).ok());
    return sink;
  }
  void Deliver() {
    for (auto& mail : mailbox->Take(TimePoint::min())) mail();
  }
  void Run(int steps) {
    for (int i = 0; i < steps && engine->Peek(Now()); ++i) engine->Run();
  }

  std::shared_ptr<Mailbox> mailbox = std::make_shared<Mailbox>();
  std::shared_ptr<CountingObserver> observer = std::make_shared<CountingObserver>();
  FakeTokenizer tokenizer{1000};
  std::unique_ptr<LlmEngine> engine;
};

void ExpectEndedOnce(const RecordingSink& sink) {
  EXPECT_EQ(sink.done(), 1);
  if (sink.status.ok()) return;
  EXPECT_EQ(sink.status.code(), absl::StatusCode::kResourceExhausted) << sink.status;
  EXPECT_EQ(GetReason(sink.status), "OUT_OF_MEMORY");
}

// `before`, then `failing`: the parts of two requests' lives of which the second has an n-th allocation that fails.
void ExpectTheEngineGoesOn(const std::function<void(Engine&)>& before, const std::function<void(Engine&)>& failing) {
  int64_t n = 1;
  for (bool failed = true; failed; ++n) {
    SCOPED_TRACE(n);
    Engine e;
    const auto first = e.Submit("first"), second = e.Submit("second");
    before(e);
    {
      FailAllocation failure(n);
      failing(e);
      failed = failure.failed();
    }
    e.Deliver();
    e.Run(100);
    ExpectEndedOnce(*first);
    ExpectEndedOnce(*second);
    const auto after = e.Submit("after");
    e.Deliver();
    e.Run(100);
    EXPECT_TRUE(after->status.ok()) << after->status;
    EXPECT_EQ(after->ids.size(), 6u);
    EXPECT_EQ(e.engine->scheduler().blocks().used(), 0);
    EXPECT_EQ(e.engine->port()->load().waiting, 0);
    EXPECT_TRUE(e.engine->port()->WaitUntilIdle(Now()));
  }
  EXPECT_GT(n, 10);
}

TEST(EngineAllocationFailureTest, WhereRequestsArrive) {
  ExpectTheEngineGoesOn([](Engine&) {}, [](Engine& e) { e.Deliver(); });
}

}  // namespace
}  // namespace quantd
