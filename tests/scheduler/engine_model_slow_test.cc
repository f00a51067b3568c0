// Real models behind the engine: what a request generates does not depend on who else is there.
#include <iostream>
#include <random>

#include <gtest/gtest.h>

#include "runtime/model_loader.h"
#include "tests/scheduler/fakes.h"
#include "tests/testing/sanitizer.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using namespace testing_fakes;

struct Case {
  std::string weights;
  KvFormat kv;
  DType activations = DType::kF32;
};

class Borrowed : public StepRunner {
 public:
  explicit Borrowed(StepRunner& runner) : runner_(runner) {}
  absl::Status Step(const LlmStepInput& in, std::span<SampleResult> results) override {
    return runner_.Step(in, results);
  }

 private:
  StepRunner& runner_;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << (c.weights.empty() ? "as stored" : c.weights) << " kv " << Name(c.kv) << " " << Name(c.activations);
}

struct Outcome {
  std::vector<std::vector<int32_t>> ids;
  std::shared_ptr<CountingObserver> observer = std::make_shared<CountingObserver>();
  int64_t chunked = 0;  // prompts that took more than one step
};

class EngineModelTest : public ::testing::TestWithParam<Case> {
 protected:
  static constexpr int64_t kBlocks = 24, kSequences = 16, kSmallStep = 24;

  // All requests at once through a new engine over the loaded model.
  Outcome Run(LoadedModel& loaded, const std::vector<LlmRequest>& requests, int64_t batch_tokens) {
    Outcome outcome;
    const int64_t vocab = loaded.model->shape().vocab_size;
    FakeTokenizer tokenizer(static_cast<int32_t>(vocab));
    auto mailbox = std::make_shared<Mailbox>();
    LlmEngineOptions options;
    options.port.name = "model";
    options.port.limits = {.max_context = loaded.limits.max_context,
                           .vocab_size = vocab,
                           .kv_blocks = loaded.cache->config().blocks,
                           .kv_block_tokens = kKvBlockTokens,
                           .max_sequences = loaded.limits.max_sequences,
                           .max_batch_tokens = batch_tokens,
                           .queue = {}};
    options.port.observer = outcome.observer;
    options.port.mailbox = mailbox;
    options.tokenizer = &tokenizer;
    LlmEngine engine(options, std::make_unique<Borrowed>(*loaded.runner));
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (const LlmRequest& r : requests) {
      sinks.push_back(std::make_shared<RecordingSink>());
      auto place = engine.port()->Reserve(r, {static_cast<int64_t>(r.prompt.size())});
      auto control = engine.port()->Submit(std::move(*place), r, sinks.back());
      EXPECT_TRUE(control.ok()) << control.status();
      mailbox->Take(TimePoint::min()).Deliver();
      engine.Run();  // so that a later one finds the prefix of an earlier one
      outcome.chunked += sinks.back()->ids.empty();
    }
    while (engine.Peek(Now())) engine.Run();
    for (const auto& sink : sinks) {
      EXPECT_TRUE(sink->status.ok()) << sink->status;
      outcome.ids.push_back(sink->ids);
    }
    const BlockManager& blocks = engine.scheduler().blocks();
    EXPECT_EQ(blocks.cached() + blocks.free(), blocks.total());
    return outcome;
  }

  void Check(const std::string& path) {
    const Case& c = GetParam();
    auto checkpoint = OpenCheckpoint(path);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    LoadSpec spec;
    spec.path = path;
    spec.weights = c.weights;
    spec.keys = spec.values = c.kv;
    spec.activations = c.activations;
    spec.max_context = 128;
    spec.max_batch_tokens = 128;
    spec.max_sequences = kSequences;
    auto plan = PlanModel(*checkpoint, spec, "cpu", {});
    ASSERT_TRUE(plan.ok()) << plan.status();
    spec.kv_cache_bytes = kBlocks * kKvBlockTokens * plan->kv_bytes_per_token;
    plan = PlanModel(*checkpoint, spec, "cpu", {});
    ASSERT_TRUE(plan.ok()) << plan.status();
    auto backend = CreateBackend("cpu", {});
    ASSERT_TRUE(backend.ok()) << backend.status();
    auto loaded = LoadModel(*checkpoint, spec, *plan, **backend, 1, {});
    ASSERT_TRUE(loaded.ok()) << loaded.status();

    const uint64_t seed = std::random_device()();
    std::cout << "seed " << seed << std::endl;
    std::mt19937_64 rng(seed);
    const uint64_t vocab = static_cast<uint64_t>(loaded->model->shape().vocab_size);
    std::vector<LlmRequest> requests;
    for (int i = 0; i < kSequences; ++i) {
      LlmRequest r;
      r.id = std::to_string(i);
      const uint64_t prompt = i % 2 == 0 ? 34 + rng() % 12 : 1 + rng() % 30;
      for (uint64_t t = 0; t < prompt; ++t) r.prompt.push_back(static_cast<int32_t>((t < 33 ? t + 5 : rng()) % vocab));
      r.stopping.max_new_tokens = 70 + static_cast<int64_t>(rng() % 12);
      r.sampling.temperature = i % 3 == 0 ? 0.0f : 0.9f;
      if (i % 4 == 1) r.sampling.repetition_penalty = 1.2f;
      if (i % 4 == 2) r.sampling.frequency_penalty = 0.3f;
      if (i % 4 == 3) r.sampling.no_repeat_ngram_size = 3;
      r.sampling.top_k = i % 3 == 1 ? 20 : 0;
      r.sampling.top_p = i % 3 == 2 ? 0.9f : 1.0f;
      r.sampling.seed = rng();
      r.arrival = Now();
      requests.push_back(std::move(r));
    }
    const Outcome together = Run(*loaded, requests, kSmallStep);
    EXPECT_GE(together.observer->largest_batch, 8);
    EXPECT_GT(together.observer->preempted, 0);
    EXPECT_GT(together.observer->hit_tokens, 0);
    EXPECT_GT(together.chunked, 0);
    for (size_t i = 0; i < requests.size(); ++i) {
      LlmRequest alone = requests[i];
      alone.bypass_prefix_cache = true;
      const Outcome solo = Run(*loaded, {alone}, 128);
      EXPECT_EQ(solo.chunked, 0);
      ASSERT_EQ(together.ids[i], solo.ids[0]) << "request " << i;
    }
  }
};

class EngineTinyTest : public EngineModelTest {};

TEST_P(EngineTinyTest, SixteenTogetherEqualSixteenAlone) {
  Check(quantd::testing::SourcePath("tests/goldens/tiny_llama/gqa2_bf16_tied"));
}

class EngineStories15MTest : public EngineModelTest {};

TEST_P(EngineStories15MTest, SixteenTogetherEqualSixteenAlone) {
  const std::string path = quantd::testing::SharedPath("data/stories15M/hf-bf16");
  if (!quantd::testing::FileExists(path + "/config.json"))
    GTEST_SKIP() << "data: stories15M is not beside the checkout";
  Check(path);
}

class EngineSmolLm2Test : public EngineModelTest {};

TEST_P(EngineSmolLm2Test, SixteenTogetherEqualSixteenAlone) {
  const std::string path = quantd::testing::DemoModelPath();
  if (!quantd::testing::FileExists(path))
    GTEST_SKIP() << "data: no SmolLM2 in the cache; tools/fetch_demo_model.sh gets it";
  Check(path);
}

// ThreadSanitizer makes a step twenty times slower and learns nothing from a larger model or another format: there the
// tiny model has every case, the larger ones one.
std::vector<Case> LargerModelCases(std::vector<Case> all) {
  if (quantd::testing::kSanitizer == "thread") all.erase(all.begin(), all.end() - 1);
  return all;
}

std::vector<Case> Cases() {
  std::vector<Case> all;
  for (const char* weights :
       {"bf16", "int8_weight_only", "int4_weight_only,group_size=32", "int8_dynamic_activation_int8_weight"}) {
    for (KvFormat kv : {KvFormat::kF32, KvFormat::kBF16, KvFormat::kInt8}) all.push_back({weights, kv});
    all.push_back({weights, KvFormat::kInt8, DType::kBF16});
  }
  return all;
}
std::string NameOf(const ::testing::TestParamInfo<Case>& test) {
  const Case& c = test.param;
  std::string name = (c.weights.empty() ? "as_stored" : c.weights) + "_kv_" + std::string(Name(c.kv)) + "_" +
                     std::string(Name(c.activations));
  for (char& ch : name) ch = std::isalnum(static_cast<unsigned char>(ch)) ? ch : '_';
  return name;
}
INSTANTIATE_TEST_SUITE_P(Schemes, EngineTinyTest, ::testing::ValuesIn(Cases()), NameOf);
INSTANTIATE_TEST_SUITE_P(Schemes, EngineStories15MTest, ::testing::ValuesIn(LargerModelCases(Cases())), NameOf);
// The kernels are the same; what a larger model adds is seen by two.
INSTANTIATE_TEST_SUITE_P(Schemes, EngineSmolLm2Test,
                         ::testing::ValuesIn(LargerModelCases(
                             {{"", KvFormat::kBF16}, {"int8_dynamic_activation_int8_weight", KvFormat::kInt8}})),
                         NameOf);

}  // namespace
}  // namespace quantd
