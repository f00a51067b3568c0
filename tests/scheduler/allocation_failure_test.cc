// An allocation that fails in an engine ends the requests that it was for, each heard of once, and the engine goes on.
#include <array>
#include <functional>

#include <gtest/gtest.h>

#include "base/allocation_failure.h"
#include "base/error.h"
#include "tests/scheduler/fakes.h"
#include "tests/testing/failing_allocator.h"

namespace quantd {
namespace {
using namespace testing_fakes;
using quantd::testing::FailAllocation;

TimePoint now{std::chrono::seconds(100)};  // of the engine's clock

// Counts without memory.
class EndCounter final : public CountingObserver {
 public:
  void OnEnded(const RequestRecord&) override { ++ends; }
  void OnGauges(const EngineGauges&) override {}
  int ends = 0;
};

class Engine {
 public:
  explicit Engine(const LlmLimits& limits = FakeLimits(/*blocks=*/64)) {
    LlmEngineOptions options;
    options.port.name = "fake";
    options.port.limits = limits;
    options.port.observer = observer;
    options.port.mailbox = mailbox;
    options.port.clock = [] { return now; };
    options.tokenizer = &tokenizer;
    auto owned = std::make_unique<FakeRunner>(limits.kv_blocks, static_cast<int>(limits.kv_block_tokens), 1000);
    runner = owned.get();
    engine = std::make_unique<LlmEngine>(options, std::move(owned));
  }
  ~Engine() { engine->EndAll(absl::CancelledError("the test ends")); }

  static LlmRequest Request(const std::string& id) {
    LlmRequest request;
    request.id = id;
    request.prompt = {1, 2, 3, 4, 5};
    request.stopping.max_new_tokens = 6;
    request.arrival = now;
    return request;
  }
  // Null where it is refused, which an allocation that fails may be the reason for.
  std::shared_ptr<RecordingSink> Submit(LlmRequest request) {
    std::shared_ptr<RecordingSink> sink;
    std::shared_ptr<RequestControl> control;
    const absl::Status status = CatchAllocationFailure([&] {
      const int64_t tokens = static_cast<int64_t>(request.prompt.size());
      sink = std::make_shared<RecordingSink>();
      QD_ASSIGN_OR_RETURN(Reservation reservation, engine->port()->Reserve(request, {.tokens = tokens, .exact = true}));
      QD_ASSIGN_OR_RETURN(control, engine->port()->Submit(std::move(reservation), std::move(request), sink));
      return absl::OkStatus();
    });
    if (status.ok()) controls.at(submitted++) = control;
    return status.ok() ? sink : nullptr;
  }
  void Deliver() { mailbox->Take(TimePoint::min()).Deliver(); }
  void Run(int steps) {
    for (int i = 0; i < steps && engine->Peek(now); ++i) engine->Run();
  }

  std::shared_ptr<Mailbox> mailbox = std::make_shared<Mailbox>();
  std::shared_ptr<EndCounter> observer = std::make_shared<EndCounter>();
  FakeTokenizer tokenizer{1000};
  FakeRunner* runner = nullptr;
  std::unique_ptr<LlmEngine> engine;
  std::array<std::shared_ptr<RequestControl>, 16> controls;  // of what was submitted, in order
  size_t submitted = 0;
};

bool NoMemory(const absl::Status& status) {
  return status.code() == absl::StatusCode::kResourceExhausted && GetReason(status) == "OUT_OF_MEMORY";
}

// The lives of some requests, and what of them runs while allocations fail.
struct Lives {
  std::function<std::vector<LlmRequest>()> requests = [] {
    return std::vector<LlmRequest>{Engine::Request("first"), Engine::Request("second")};
  };
  LlmLimits limits = FakeLimits(/*blocks=*/64);
  std::function<void(Engine&)> before = [](Engine& e) { e.Deliver(); };
  std::function<void(Engine&)> failing = [](Engine& e) { e.Run(100); };
};

// Whether the n-th allocation, and those after it, came to pass.
bool Fail(const Lives& lives, int64_t n, int64_t in_a_row) {
  Engine e(lives.limits);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (LlmRequest& request : lives.requests()) sinks.push_back(e.Submit(std::move(request)));
  lives.before(e);
  bool failed;
  {
    FailAllocation failure(n, in_a_row);
    lives.failing(e);
    failed = failure.failed();
  }
  e.Deliver();
  e.Run(1000);
  int lost = 0;
  for (const auto& sink : sinks) {
    EXPECT_EQ(sink->done(), 1);
    if (NoMemory(sink->status)) ++lost;
  }
  EXPECT_EQ(e.observer->ends, static_cast<int>(e.submitted)) << "each is counted once";
  EXPECT_TRUE(failed || lost == 0);
  EXPECT_TRUE(in_a_row > 1 || lost <= 1) << "one allocation ends one request";
  EXPECT_EQ(e.engine->scheduler().blocks().used(), 0);
  EXPECT_EQ(e.engine->scheduler().live(), 0u);
  const EngineLoad load = e.engine->port()->load();
  EXPECT_EQ(load.running + load.waiting + load.waiting_tokens, 0);
  EXPECT_TRUE(e.engine->port()->WaitUntilIdle(now));
  EXPECT_TRUE(e.engine->port()->Reserve({}, {lives.limits.queue.max_waiting_tokens}).ok()) << "the queue is free";
  const auto after = e.Submit(Engine::Request("after"));
  e.Deliver();
  e.Run(100);
  EXPECT_TRUE(after->status.ok()) << after->status;
  EXPECT_EQ(after->ids.size(), 6u);
  return failed;
}

void ExpectTheEngineGoesOn(const Lives& lives, int64_t at_least) {
  for (const int64_t in_a_row : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{10}, FailAllocation::kAllThatFollow}) {
    int64_t n = 1;
    for (bool failed = true; failed; ++n) {
      SCOPED_TRACE(::testing::Message() << "allocation " << n << " and " << in_a_row - 1 << " more");
      failed = Fail(lives, n, in_a_row);
      if (::testing::Test::HasFailure()) return;
    }
    EXPECT_GT(n, at_least);
  }
}

TEST(EngineAllocationFailureTest, WhereRequestsArrive) {
  ExpectTheEngineGoesOn({.before = [](Engine&) {}, .failing = [](Engine& e) { e.Deliver(); }}, 20);
}

TEST(EngineAllocationFailureTest, WhereTheirStepsRun) { ExpectTheEngineGoesOn({}, 20); }

// Stop texts that nearly match hold text back; what a stop token or a text ends has more to say.
TEST(EngineAllocationFailureTest, WhereTextStops) {
  Lives lives;
  lives.requests = [] {
    std::vector<LlmRequest> requests(3, Engine::Request("stop"));
    requests[0].stopping.max_new_tokens = 60;
    requests[0].stopping.stop = {"cdefghijklmnopqrstu", "never and in no way at all"};
    requests[0].stopping.include_stop = true;
    requests[1].stopping.max_new_tokens = 60;
    requests[1].stopping.stop_token_ids = {12};
    requests[2].stopping.stop = {"cdefghijklmnopqrstuvwxyz no"};
    requests[2].stream_interval = 2;
    return requests;
  };
  const auto alphabet = [](Engine& e) {
    e.runner->force_token = [](const SamplingRow& row, int32_t) { return static_cast<int32_t>(row.position) - 5; };
    e.Deliver();
  };
  lives.before = alphabet;
  ExpectTheEngineGoesOn(lives, 40);
}

TEST(EngineAllocationFailureTest, WherePenaltiesRememberTokens) {
  Lives lives;
  lives.requests = [] {
    std::vector<LlmRequest> requests(2, Engine::Request("penalised"));
    for (LlmRequest& r : requests) {
      r.sampling.repetition_penalty = 1.1f;
      r.sampling.no_repeat_ngram_size = 3;
      r.stopping.max_new_tokens = 40;
    }
    return requests;
  };
  ExpectTheEngineGoesOn(lives, 60);
  lives.before = [](Engine&) {};
  lives.failing = [](Engine& e) { e.Deliver(); };
  ExpectTheEngineGoesOn(lives, 30);
}

// Prefixes are found, published and evicted; sequences lose their blocks to others and are computed again.
TEST(EngineAllocationFailureTest, WhereBlocksAreSharedAndTaken) {
  Lives lives;
  lives.limits = FakeLimits(/*blocks=*/14, /*batch_tokens=*/16);
  lives.requests = [] {
    std::vector<LlmRequest> requests(5, Engine::Request("sharing"));
    for (size_t i = 0; i < requests.size(); ++i) {
      requests[i].prompt.assign(9, 0);
      requests[i].cache_salt = i % 2 == 0 ? "" : "a salt that is longer than a short string";
      requests[i].stopping.max_new_tokens = 16;
    }
    return requests;
  };
  int64_t preempted = 0, hits = 0;
  lives.failing = [&](Engine& e) {
    e.Run(200);
    preempted = e.observer->preempted, hits = e.observer->hit_tokens;
  };
  ExpectTheEngineGoesOn(lives, 60);
  EXPECT_GT(preempted, 0);
  EXPECT_GT(hits, 0);
}

// A reader that is full, comes back, and one that never does; a client that leaves; time that runs out; each told while
// there is no memory to be had.
TEST(EngineAllocationFailureTest, WhereClientsPauseLeaveAndExpire) {
  Lives lives;
  lives.limits.queue.max_waiting_requests = 8;
  lives.requests = [] {
    std::vector<LlmRequest> requests(6, Engine::Request("one of six"));
    for (LlmRequest& r : requests) r.stopping.max_new_tokens = 20;
    requests[2].deadline = now + std::chrono::seconds(1);
    requests[3].stopping.time_limit = std::chrono::seconds(1);
    requests[4].priority = Priority::kBatch;
    requests[4].max_queue_time = std::chrono::seconds(1);
    return requests;
  };
  lives.limits.max_sequences = 5;
  lives.failing = [](Engine& e) {
    const TimePoint began = now;
    e.Run(3);
    e.controls[0]->Cancel();
    e.controls[1]->Expire();
    e.controls[5]->ReaderReady();
    e.Deliver();
    e.Run(1);
    now += std::chrono::seconds(2);
    e.engine->Tick(now);
    e.Run(100);
    now = began;
  };
  ExpectTheEngineGoesOn(lives, 40);
}

TEST(EngineAllocationFailureTest, WhereReadersAreFull) {
  Lives lives;
  lives.limits.queue.max_waiting_requests = 2;  // as many may be paused
  lives.requests = [] { return std::vector<LlmRequest>(2, Engine::Request("slow")); };
  std::vector<std::shared_ptr<RecordingSink>> more;
  lives.before = [&](Engine& e) {
    e.Deliver();
    e.Run(1);
    more.clear();
    for (int i = 0; i < 2; ++i) {
      more.push_back(e.Submit(Engine::Request("slow")));
      more.back()->on_delta = [] { return LlmSink::Flow::kFull; };
    }
    e.Deliver();
  };
  lives.failing = [](Engine& e) {
    e.Run(2);
    e.controls[2]->ReaderReady();
    e.Deliver();
    e.Run(2);
    for (size_t i = 2; i < 4; ++i) e.controls[i]->Cancel();
    e.Deliver();
  };
  ExpectTheEngineGoesOn(lives, 15);
}

TEST(EngineAllocationFailureTest, WhereOthersArriveMeanwhile) {
  Lives lives;
  std::vector<LlmRequest> later;
  lives.before = [&](Engine& e) {
    e.Deliver();
    later.assign(3, Engine::Request("one that came later than the others"));
  };
  lives.failing = [&](Engine& e) {
    for (LlmRequest& request : later) {
      e.Run(1);
      static_cast<void>(e.Submit(std::move(request)));
      e.Deliver();
    }
    e.Run(100);
  };
  ExpectTheEngineGoesOn(lives, 60);
}

TEST(EngineAllocationFailureTest, WhereTheEngineEnds) {
  Engine e;
  const auto first = e.Submit(Engine::Request("first")), second = e.Submit(Engine::Request("second"));
  e.Deliver();
  e.Run(2);
  {
    FailAllocation failure(1, FailAllocation::kAllThatFollow);
    e.engine->EndAll(AllocationFailedError());
  }
  for (const auto& sink : {first, second}) {
    EXPECT_EQ(sink->done(), 1);
    EXPECT_TRUE(NoMemory(sink->status)) << sink->status;
  }
  EXPECT_EQ(e.engine->scheduler().blocks().used(), 0);
}

// The step itself: its sequences end, those that wait do not.
TEST(EngineAllocationFailureTest, WithinTheRunner) {
  LlmLimits limits = FakeLimits(64);
  limits.max_sequences = 2;
  Engine e(limits);
  int steps = 0;
  e.runner->before_step = [&](const LlmStepInput&) {
    if (++steps == 3) throw std::bad_alloc();
    return absl::OkStatus();
  };
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 4; ++i) sinks.push_back(e.Submit(Engine::Request("one")));
  e.Deliver();
  e.Run(100);
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(NoMemory(sinks[i]->status)) << sinks[i]->status;
  for (size_t i = 2; i < 4; ++i) EXPECT_TRUE(sinks[i]->status.ok()) << sinks[i]->status;
  EXPECT_EQ(e.engine->scheduler().blocks().used(), 0);
}

// Whatever failed in others leaves a request what it would have been alone.
TEST(EngineAllocationFailureTest, ChangesNothingOfTheOthersOutput) {
  const auto ids_of = [](int64_t n) {
    Engine e(FakeLimits(/*blocks=*/14, /*batch_tokens=*/16));
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (int i = 0; i < 3; ++i) {
      LlmRequest request = Engine::Request("one");
      request.prompt.assign(9, i);
      request.stopping.max_new_tokens = 16;
      sinks.push_back(e.Submit(std::move(request)));
    }
    e.Deliver();
    {
      FailAllocation failure(n);
      e.Run(1000);
    }
    std::vector<std::vector<int32_t>> ids;
    for (const auto& sink : sinks) ids.push_back(sink->status.ok() ? sink->ids : std::vector<int32_t>());
    return ids;
  };
  const auto all = ids_of(/*n=*/1'000'000);
  for (int64_t n = 1; n < 200; ++n) {
    SCOPED_TRACE(n);
    const auto left = ids_of(n);
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_TRUE(left[i].empty() || left[i] == all[i]);
    }
  }
}

}  // namespace
}  // namespace quantd
