// The registry with a tiny real model: load, find, serve, drain.
#include "scheduler/model_registry.h"

#include <filesystem>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/scheduler/fakes.h"
#include "tests/scheduler/unruly_clients.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using namespace testing_fakes;
using std::chrono::seconds;

class ModelRegistryTest : public ::testing::Test {
 protected:
  void SetUp() override { Create(0); }
  void Create(int64_t budget) {
    ModelRegistry::Hooks hooks;
    hooks.make_observer = [this](const std::string&) { return observer_; };
    hooks.on_change = [this](const ModelInfo& info) {
      MutexLock lock(mutex_);
      states_.push_back(info.state);
    };
    auto registry =
        ModelRegistry::Create({.backend = "cpu", .backend_options = {}, .memory_budget_bytes = budget}, hooks);
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = std::move(*registry);
  }
  static LoadSpec Spec() {
    LoadSpec spec;
    spec.path = quantd::testing::SourcePath("tests/goldens/gguf/mixed_tied_gpt2.gguf");
    spec.max_batch_tokens = 32;
    spec.max_sequences = 8;
    return spec;
  }
  std::shared_ptr<LlmHandle> LoadTiny(const LoadSpec& spec, const QueueLimits& queue = {}) {
    EXPECT_TRUE(registry_->Load("tiny", spec, queue).ok());
    const absl::Status loaded = registry_->WaitUntilLoaded();
    EXPECT_TRUE(loaded.ok()) << loaded;
    auto handle = registry_->Find("");
    return handle.ok() ? *handle : nullptr;
  }
  static LlmRequest Request(int64_t max_new) {
    LlmRequest r;
    r.id = "r";
    r.prompt = {1, 2, 3};
    r.stopping.max_new_tokens = max_new;
    r.stopping.ignore_eos = true;
    r.arrival = Now();
    return r;
  }

  std::shared_ptr<CountingObserver> observer_ = std::make_shared<CountingObserver>();
  Mutex mutex_;
  std::vector<ModelState> states_;
  std::unique_ptr<ModelRegistry> registry_;
};

TEST_F(ModelRegistryTest, LoadsAModelThatReportsThePlannedBytesAndServes) {
  auto handle = LoadTiny(Spec());
  ASSERT_NE(handle, nullptr);
  const ModelInfo info = *registry_->Get("tiny");
  EXPECT_EQ(info.state, ModelState::kReady);
  auto plan = registry_->Plan(Spec(), /*taken_bytes=*/0);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(info.memory.bytes, plan->use.bytes);
  EXPECT_EQ(info.limits->kv_blocks, plan->kv_blocks);
  EXPECT_FALSE(info.layers.empty());
  EXPECT_EQ(info.progress.done_bytes, info.progress.total_bytes);
  EXPECT_EQ(handle->revision(), info.revision);
  {
    MutexLock lock(mutex_);
    EXPECT_THAT(states_, ::testing::ElementsAre(ModelState::kLoading, ModelState::kReady));
  }
  auto sink = std::make_shared<RecordingSink>();
  ASSERT_TRUE(handle->Submit(*handle->Reserve({}, {3}), Request(5), sink).ok());
  sink->Wait();
  EXPECT_TRUE(sink->status.ok()) << sink->status;
  EXPECT_EQ(sink->ids.size(), 5u);
  EXPECT_EQ(registry_->last_step_age("tiny"), Duration::zero());
}

TEST_F(ModelRegistryTest, StatesAreToldInTheirOrder) {
  // Whoever hears "loading" takes its time; a load that had begun would end meanwhile and be told first.
  Mutex mutex;
  CondVar changed;
  std::vector<ModelState> told;
  bool begun = false;
  ModelRegistry::Hooks hooks;
  hooks.make_observer = [&](const std::string&) {
    MutexLock lock(mutex);
    begun = true;
    changed.NotifyAll();
    return observer_;
  };
  hooks.on_change = [&](const ModelInfo& info) {
    MutexLock lock(mutex);
    if (info.state == ModelState::kLoading) {
      const TimePoint until = Now() + std::chrono::milliseconds(200);
      while (!begun && changed.WaitUntil(mutex, until)) {
      }
      EXPECT_FALSE(begun);
    }
    told.push_back(info.state);
  };
  registry_ = *ModelRegistry::Create({.backend = "cpu", .backend_options = {}, .memory_budget_bytes = 0}, hooks);
  LoadTiny(Spec());
  registry_.reset();
  EXPECT_THAT(told, ::testing::ElementsAre(ModelState::kLoading, ModelState::kReady));
}

TEST_F(ModelRegistryTest, AContextWithNoRoomForAnAnswerIsRefused) {
  LoadSpec spec = Spec();
  spec.max_context = 1;
  ASSERT_TRUE(registry_->Load("narrow", spec, {}).ok());
  const absl::Status status = registry_->WaitUntilLoaded();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("max_context 1: expected at least 2"));
}

TEST_F(ModelRegistryTest, AnAbsurdCacheIsRefusedAndDoesNotOverflow) {
  LoadSpec spec = Spec();
  spec.kv_cache_bytes = std::numeric_limits<int64_t>::max();
  const absl::Status plan = registry_->Plan(spec, /*taken_bytes=*/0).status();
  EXPECT_EQ(plan.code(), absl::StatusCode::kInvalidArgument) << plan;
  ASSERT_TRUE(registry_->Load("huge", spec, {}).ok());
  EXPECT_EQ(registry_->WaitUntilLoaded().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ModelRegistryTest, NamesAreFoundOrNot) {
  EXPECT_EQ(GetReason(registry_->Find("tiny").status()), "MODEL_NOT_FOUND");
  EXPECT_EQ(registry_->Get("tiny").status().code(), absl::StatusCode::kNotFound);
  LoadTiny(Spec());
  EXPECT_EQ(registry_->Load("tiny", Spec(), {}).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(registry_->Find("tiny").ok());
  EXPECT_EQ(registry_->Find("other").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ModelRegistryTest, AFailedLoadSaysWhyAndTheOthersServeOn) {
  LoadTiny(Spec());
  LoadSpec missing = Spec();
  missing.path = "/nowhere/model.gguf";
  ASSERT_TRUE(registry_->Load("missing", missing, {}).ok());
  EXPECT_EQ(registry_->WaitUntilLoaded().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(registry_->Get("missing")->state, ModelState::kFailed);
  EXPECT_EQ(GetReason(registry_->Find("missing").status()), "MODEL_NOT_LOADED");
  EXPECT_TRUE(registry_->Find("tiny").ok());
  EXPECT_EQ(registry_->List().size(), 2u);
}

TEST_F(ModelRegistryTest, AModelOverTheBudgetIsRefusedByThePlan) {
  const int64_t bytes = registry_->Plan(Spec(), /*taken_bytes=*/0)->use.total();
  Create(bytes);
  LoadTiny(Spec());
  ASSERT_TRUE(registry_->Load("second", Spec(), {}).ok());
  const absl::Status status = registry_->WaitUntilLoaded();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetReason(status), "MEMORY_BUDGET");
}

TEST_F(ModelRegistryTest, AModelThatDoesNotFitIsRefusedWithWhatWouldHelp) {
  const MemoryPlan plan = *registry_->Plan(Spec(), /*taken_bytes=*/0);
  EXPECT_TRUE(plan.ways_to_fit.empty());
  const int64_t cache = plan.use.bytes[static_cast<size_t>(MemoryComponent::kKvCache)];
  Create(plan.use.total() - cache / 2);
  ASSERT_TRUE(registry_->Load("tiny", Spec(), {}).ok());
  const absl::Status status = registry_->WaitUntilLoaded();
  EXPECT_EQ(GetReason(status), "MEMORY_BUDGET");
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("; it fits with kv_cache_bytes "));
  const std::vector<WayToFit> ways = registry_->Plan(Spec(), /*taken_bytes=*/0)->ways_to_fit;
  ASSERT_FALSE(ways.empty());
  EXPECT_LE(ways[0].total_bytes, registry_->memory_budget_bytes());
  EXPECT_TRUE(registry_->Plan(Spec(), /*taken_bytes=*/registry_->memory_budget_bytes())->ways_to_fit.empty());
}

// A plan that says it fits is no promise unless a load would go through.
TEST_F(ModelRegistryTest, APlanRefusesWhatALoadRefuses) {
  const std::string golden = quantd::testing::SourcePath("tests/goldens/tiny_llama/gqa1_f32");
  LoadSpec spec = Spec();
  spec.path = golden;  // it has no tokenizer
  EXPECT_EQ(registry_->Plan(spec, /*taken_bytes=*/0).status().code(), absl::StatusCode::kNotFound);
  quantd::testing::TempDir folder;
  spec.path = folder.path();
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(golden + "/" + name, folder.path() + "/" + name);
  }
  folder.Write("generation_config.json", R"({"do_sample":true,"top_p":7})");
  const absl::Status status = registry_->Plan(spec, /*taken_bytes=*/0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("top_p is 7"));
  ASSERT_TRUE(registry_->Load("bad", spec, {}).ok());
  EXPECT_EQ(registry_->WaitUntilLoaded().message(), status.message());
}

TEST_F(ModelRegistryTest, AConfigurationAloneIsPlannedAndNotLoaded) {
  const std::string golden = quantd::testing::SourcePath("tests/goldens/tiny_llama/gqa1_f32");
  quantd::testing::TempDir folder;
  std::filesystem::copy_file(golden + "/config.json", folder.path() + "/config.json");
  LoadSpec spec = Spec();
  spec.path = folder.path();
  const absl::StatusOr<MemoryPlan> plan = registry_->Plan(spec, /*taken_bytes=*/0);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->warnings, ::testing::ElementsAre(::testing::HasSubstr("there are no weights"),
                                                     ::testing::HasSubstr("has no tokenizer")));
  folder.Write("generation_config.json", "{");
  EXPECT_EQ(registry_->Plan(spec, /*taken_bytes=*/0).status().code(), absl::StatusCode::kDataLoss);
  ASSERT_TRUE(registry_->Load("shapes", spec, {}).ok());
  EXPECT_EQ(registry_->WaitUntilLoaded().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ModelRegistryTest, DrainingEndsWhatRunsAtTheDeadline) {
  auto handle = LoadTiny(Spec());
  auto sink = std::make_shared<RecordingSink>();
  sink->on_delta = [] { return LlmSink::Flow::kFull; };  // nobody reads: it would stay for ever
  ASSERT_TRUE(handle->Submit(*handle->Reserve({}, {3}), Request(50), sink).ok());
  registry_->Drain(Now() + std::chrono::milliseconds(20));
  EXPECT_EQ(sink->done(), 1);
  EXPECT_EQ(sink->status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(GetReason(sink->status), "DRAINING");
  EXPECT_EQ(*registry_->Find("tiny"), handle) << "it is the handle that refuses, and counts";
  EXPECT_EQ(GetReason(handle->Reserve({}, {1}).status()), "DRAINING");
  EXPECT_EQ(GetReason(registry_->Load("late", Spec(), {})), "DRAINING");
}

TEST_F(ModelRegistryTest, EndsWhileLoading) {
  ASSERT_TRUE(registry_->Load("a", Spec(), {}).ok());
  ASSERT_TRUE(registry_->Load("b", Spec(), {}).ok());
  registry_.reset();
}

TEST_F(ModelRegistryTest, AThousandUnrulyRequestsLeakNothingAndAreCountedOnce) {
  LoadSpec spec = Spec();
  spec.kv_cache_bytes = 20 * kKvBlockTokens * registry_->Plan(spec, /*taken_bytes=*/0)->kv_bytes_per_token;
  auto handle = LoadTiny(spec, {.max_waiting_requests = 20, .max_waiting_tokens = 900});
  ASSERT_NE(handle, nullptr);
  constexpr int kRequests = 1000;
  const ClientTally tally =
      RunUnrulyClients(*handle, kRequests, /*most_prompt=*/90, static_cast<int32_t>(handle->limits().vocab_size));
  registry_->Drain(Now() + seconds(60));
  EXPECT_EQ(tally.finished + tally.recorded, kRequests);
  const EngineLoad load = handle->load();
  EXPECT_EQ(load.running + load.waiting + load.blocks_used, 0);
  EXPECT_EQ(load.blocks_cached + load.blocks_free, 20);
  registry_.reset();
  MutexLock lock(observer_->mutex_);
  EXPECT_EQ(observer_->ended.size(), static_cast<size_t>(kRequests));
  for (const auto& [id, times] : observer_->ended) EXPECT_EQ(times, 1) << id;
}

}  // namespace
}  // namespace quantd
