// A worker's thread with a fake model, and many threads that want something of it. Meant for ThreadSanitizer too.
#include "scheduler/worker.h"

#include <thread>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/scheduler/fakes.h"
#include "tests/scheduler/unruly_clients.h"

namespace quantd {
namespace {

using namespace testing_fakes;
using std::chrono::milliseconds;
using std::chrono::seconds;

class WorkerTest : public testing::Test {
 protected:
  void SetUp() override {
    auto worker = Worker::Start("reference", {.threads = 1, .dry_run = false, .isa = ""});
    ASSERT_TRUE(worker.ok()) << worker.status();
    worker_ = std::move(*worker);
  }
  std::shared_ptr<LlmPort> AddModel(const LlmLimits& limits, std::function<absl::Status()> before_step = nullptr) {
    std::shared_ptr<LlmPort> port;
    worker_->RunOnDevice([&] {
      LlmEngineOptions options;
      options.port.name = "fake";
      options.port.limits = limits;
      options.port.observer = observer_;
      options.port.mailbox = worker_->mailbox();
      options.tokenizer = &tokenizer_;
      auto runner = std::make_unique<FakeRunner>(limits.kv_blocks, static_cast<int>(limits.kv_block_tokens), 1000);
      if (before_step) runner->before_step = [before_step](const LlmStepInput&) { return before_step(); };
      auto engine = std::make_unique<LlmEngine>(options, std::move(runner));
      port = engine->port();
      worker_->AddEngine(std::move(engine));
    });
    return port;
  }
  static LlmRequest Request(const std::string& id, int64_t prompt, int64_t max_new) {
    LlmRequest r;
    r.id = id;
    for (int64_t i = 0; i < prompt; ++i) r.prompt.push_back(static_cast<int32_t>(i % 7));
    r.stopping.max_new_tokens = max_new;
    r.arrival = Now();
    return r;
  }
  static std::shared_ptr<RequestControl> Submit(LlmPort& port, LlmRequest request,
                                                const std::shared_ptr<RecordingSink>& sink) {
    auto place = port.Reserve(request, {static_cast<int64_t>(request.prompt.size())});
    EXPECT_TRUE(place.ok()) << place.status();
    auto control = port.Submit(std::move(*place), std::move(request), sink);
    EXPECT_TRUE(control.ok()) << control.status();
    return *control;
  }

  FakeTokenizer tokenizer_{1000};
  std::shared_ptr<CountingObserver> observer_ = std::make_shared<CountingObserver>();
  std::unique_ptr<Worker> worker_;
};

TEST_F(WorkerTest, AnUnknownBackendIsAnError) {
  EXPECT_EQ(Worker::Start("abacus", {}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(WorkerTest, RunsOnDeviceBetweenStepsAndPublishesMemory) {
  std::thread::id id;
  Buffer buffer;
  ASSERT_TRUE(worker_->RunOnDevice([&] {
    id = std::this_thread::get_id();
    buffer = *worker_->backend().Allocate(4096, {MemoryComponent::kWeights, 5});
  }));
  EXPECT_NE(id, std::this_thread::get_id());
  EXPECT_EQ(worker_->memory().models.at(5).bytes[0], 4096);
  ASSERT_TRUE(worker_->RunOnDevice([&] { buffer = Buffer(); }));
  EXPECT_EQ(worker_->memory().models[5].total(), 0);
}

TEST_F(WorkerTest, ServesARequest) {
  auto port = AddModel(FakeLimits(50));
  auto sink = std::make_shared<RecordingSink>();
  Submit(*port, Request("a", 10, 20), sink);
  sink->Wait();
  EXPECT_TRUE(sink->status.ok());
  EXPECT_EQ(sink->ids.size(), 20u);
  EXPECT_GT(sink->timing.total, Duration::zero());
}

TEST_F(WorkerTest, ADeadlineFiresWhenNothingElseHappens) {
  auto port = AddModel(FakeLimits(50));
  auto sink = std::make_shared<RecordingSink>();
  sink->on_delta = [] { return LlmSink::Flow::kFull; };  // and never reads on: the worker has nothing to do
  LlmRequest r = Request("a", 10, 20);
  r.deadline = Now() + milliseconds(50);
  Submit(*port, r, sink);
  sink->Wait();
  EXPECT_EQ(GetReason(sink->status), "EXPIRED_RUNNING");
  EXPECT_GE(Now(), *r.deadline);
}

TEST_F(WorkerTest, TheEndOfTheWorkerEndsEveryRequestAndLaterCallsAreRefused) {
  auto port = AddModel(FakeLimits(50));
  auto sink = std::make_shared<RecordingSink>();
  sink->on_delta = [] { return LlmSink::Flow::kFull; };
  auto control = Submit(*port, Request("a", 10, 20), sink);
  auto place = port->Reserve({}, {1});
  worker_.reset();
  EXPECT_EQ(sink->done(), 1);
  EXPECT_EQ(sink->status.code(), absl::StatusCode::kCancelled);
  control->Cancel();
  control->ReaderReady();
  auto late = std::make_shared<RecordingSink>();
  EXPECT_EQ(GetReason(port->Submit(std::move(*place), Request("b", 1, 1), late).status()), "DRAINING");
  EXPECT_EQ(late->done(), 0);
}

TEST_F(WorkerTest, TwoModelsShareTheDevice) {
  auto a = AddModel(FakeLimits(100)), b = AddModel(FakeLimits(100));
  auto sink_a = std::make_shared<RecordingSink>(), sink_b = std::make_shared<RecordingSink>();
  Submit(*a, Request("a", 10, 200), sink_a);
  Submit(*b, Request("b", 10, 200), sink_b);
  sink_a->Wait();
  sink_b->Wait();
  EXPECT_EQ(sink_a->ids, sink_b->ids);
}

// Clients on several threads submit, cancel, read slowly, and set deadlines; steps fail now and then.
TEST_F(WorkerTest, EveryRequestIsCountedOnceWhateverHappensToIt) {
  std::atomic<int> steps{0};
  LlmLimits limits = FakeLimits(40, /*batch_tokens=*/32, /*sequences=*/8);
  limits.queue = {.max_waiting_requests = 20, .max_waiting_tokens = 600};
  auto port = AddModel(limits, [&] { return ++steps % 100 == 0 ? absl::InternalError("planted") : absl::OkStatus(); });
  constexpr int kRequests = 1000;
  const ClientTally tally = RunUnrulyClients(*port, kRequests, /*most_prompt=*/60, /*vocab=*/7);
  EXPECT_TRUE(port->WaitUntilIdle(Now() + seconds(60)));
  EXPECT_EQ(tally.finished + tally.recorded, kRequests);
  const EngineLoad load = port->load();
  EXPECT_EQ(load.running + load.waiting + load.blocks_used, 0);
  EXPECT_EQ(load.blocks_cached + load.blocks_free, limits.kv_blocks);
  EXPECT_TRUE(port->Reserve({}, {limits.queue.max_waiting_tokens}).ok());  // the queue's bounds are all free again
  worker_.reset();
  MutexLock lock(observer_->mutex_);
  EXPECT_EQ(observer_->ended.size(), static_cast<size_t>(kRequests));
  for (const auto& [id, times] : observer_->ended) EXPECT_EQ(times, 1) << id;
}

TEST_F(WorkerTest, DrainingWaitsForWhatRunsThenRefuses) {
  auto port = AddModel(FakeLimits(50));
  auto sink = std::make_shared<RecordingSink>();
  Submit(*port, Request("a", 10, 100), sink);
  port->StartDraining();
  EXPECT_EQ(GetReason(port->Reserve({}, {1}).status()), "DRAINING");
  EXPECT_TRUE(port->WaitUntilIdle(Now() + seconds(60)));
  EXPECT_TRUE(sink->status.ok());
}

}  // namespace
}  // namespace quantd
