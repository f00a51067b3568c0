// What greedy generation with penalties gives, against transformers' generate() on the same tiny model.
#include <gtest/gtest.h>

#include "kernels/sampling.h"
#include "scheduler/token_history.h"
#include "tests/testing/golden_tensors.h"
#include "tests/testing/model_harness.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {
using testing::ModelHarness;
using testing::SourcePath;

struct Setting {
  const char* name;
  SamplingParams params;
  bool suppresses = false, at_begin = false;
};

std::vector<int32_t> Generate(ModelHarness& model, std::vector<int32_t> context, const Setting& setting,
                              const std::vector<int32_t>& suppressed, size_t count) {
  TokenHistory history(context);
  std::vector<int32_t> generated;
  while (generated.size() < count) {
    std::vector<float> logits = model.Logits(context);
    SamplingRow row;
    row.params = setting.params;
    row.params.temperature = 0;
    row.seen = history.seen();
    row.context = context;
    if (setting.suppresses || (setting.at_begin && generated.empty())) row.banned_ids = suppressed;
    float* last = logits.data() + logits.size() - static_cast<size_t>(model.vocab());
    const int32_t token = SampleRow(last, model.vocab(), row, {}).token;
    history.Add(token);
    context.push_back(token);
    generated.push_back(token);
  }
  return generated;
}

TEST(GenerateGolden, GreedyWithPenaltiesIsWhatTransformersGenerates) {
  const auto golden = testing::ReadGoldenTensors(SourcePath("tests/goldens/sampling/generate.safetensors"));
  LoadSpec spec;
  spec.keys = spec.values = KvFormat::kF32;
  auto model = ModelHarness::Open(SourcePath("tests/goldens/tiny_llama/gqa1_f32"), spec, 48);
  ASSERT_TRUE(model.ok()) << model.status();
  const Setting settings[] = {{"none", {}},
                              {"repetition_up", {.repetition_penalty = 1.3f}},
                              {"repetition_down", {.repetition_penalty = 0.7f}},
                              {"bigrams", {.no_repeat_ngram_size = 2}},
                              {"trigrams_repetition", {.repetition_penalty = 1.1f, .no_repeat_ngram_size = 3}},
                              {"suppress", {}, /*suppresses=*/true, false},
                              {"begin_suppress", {}, false, /*at_begin=*/true}};
  ASSERT_EQ(golden.size(), 3 * std::size(settings));
  for (const Setting& setting : settings) {
    const auto ids = [&](const char* part) { return golden.at(std::string(setting.name) + part).i32; };
    const std::vector<int32_t> expected = ids(".ids");
    EXPECT_EQ(Generate(**model, ids(".prompt"), setting, ids(".suppressed"), expected.size()), expected)
        << setting.name;
  }
}

}  // namespace
}  // namespace quantd
