// Memory figures that add up: the plan, the tags of the running model, and what the process really grew by (SmolLM2).
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "scheduler/model_registry.h"
#include "tests/scheduler/fakes.h"
#include "tests/testing/sanitizer.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using namespace testing_fakes;

constexpr bool kShadowMemory = !testing::kSanitizer.empty();  // a sanitizer's shadow is resident too

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

TEST(MemoryTruth, PlanEqualsTagsAndResidentGrowth) {
  if (!testing::FileExists(testing::DemoModelPath()))
    GTEST_SKIP() << "data: no SmolLM2 in the cache; tools/fetch_demo_model.sh gets it";
  ModelRegistry::Hooks hooks;
  auto observer = std::make_shared<CountingObserver>();
  hooks.make_observer = [&](const std::string&) { return observer; };
  auto registry = ModelRegistry::Create({}, hooks);
  ASSERT_TRUE(registry.ok()) << registry.status();
  LoadSpec spec;
  spec.path = testing::DemoModelPath();
  spec.keys = spec.values = KvFormat::kInt8;
  spec.kv_cache_bytes = 64 << 20;
  auto plan = (*registry)->Plan(spec, /*taken_bytes=*/0);
  ASSERT_TRUE(plan.ok()) << plan.status();

  const int64_t before = ResidentBytes();
  ASSERT_TRUE((*registry)->Load("smollm2", spec, {}).ok());
  ASSERT_TRUE((*registry)->WaitUntilLoaded().ok());
  auto handle = (*registry)->Find("smollm2");
  ASSERT_TRUE(handle.ok());
  const int64_t kv = plan->use.bytes[static_cast<size_t>(MemoryComponent::kKvCache)];
  const int64_t at_start = ResidentBytes() - before;
  EXPECT_EQ((*registry)->Get("smollm2")->kv_resident_bytes, 0);
  // Different prompts until every block holds cached or used tokens.
  const int64_t blocks = (*handle)->limits().kv_blocks;
  for (int32_t i = 0; (*handle)->load().blocks_free > 0; ++i) {
    ASSERT_LT(i, 16);
    const int32_t tokens = kKvBlockTokens * static_cast<int32_t>(std::min<int64_t>((*handle)->load().blocks_free, 20));
    LlmRequest request;
    request.id = std::to_string(i);
    for (int32_t t = 0; t < tokens; ++t) request.prompt.push_back(100 + (t * 31 + i * 977) % 40000);
    request.sampling.temperature = 0;
    request.stopping.max_new_tokens = 1;
    request.arrival = Now();
    auto sink = std::make_shared<RecordingSink>();
    auto place = (*handle)->Reserve({}, {tokens});
    ASSERT_TRUE(place.ok());
    ASSERT_TRUE((*handle)->Submit(*std::move(place), std::move(request), sink).ok());
    sink->Wait();
    ASSERT_TRUE(sink->status.ok()) << sink->status;
  }
  const int64_t growth = ResidentBytes() - before;

  const ModelInfo info = *(*registry)->Get("smollm2");
  EXPECT_EQ(info.memory.bytes, plan->use.bytes);
  EXPECT_EQ(blocks, plan->kv_blocks);
  EXPECT_EQ(info.kv_resident_bytes, kv);
  const int64_t planned = plan->use.total(), tolerance = std::max<int64_t>(planned / 20, 8 << 20);
  std::printf("planned %.1f MiB, resident growth %.1f MiB\n", static_cast<double>(planned) / (1 << 20),
              static_cast<double>(growth) / (1 << 20));
  if (kShadowMemory) return;
  EXPECT_LE(std::abs(at_start - (planned - kv)), tolerance) << "the KV cache is not touched before it is used";
  EXPECT_LE(std::abs(growth - planned), tolerance) << "growth " << growth << ", planned " << planned;
}

}  // namespace
}  // namespace quantd
