// A step of a real model allocates nothing, whatever its scheme, cache and activations: Plan made all the room there
// is.
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "tests/testing/allocation_counter.h"
#include "tests/testing/model_harness.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using testing::ModelHarness;
using testing::SourcePath;

constexpr int64_t kPrompt = 40, kBlocksASequence = 2;

// One prompt beside `decoding` sequences that share its blocks and add one token each; every sequence samples.
struct Batch {
  Batch(int64_t decoding, int64_t position) {
    starts = {0};
    Add(kPrompt, 0);
    for (int64_t i = 0; i < decoding; ++i) Add(1, position);
    results.resize(rows.size());
  }
  void Add(int64_t tokens, int64_t position) {
    for (int64_t i = 0; i < tokens; ++i) {
      ids.push_back(static_cast<int32_t>((ids.size() * 7 + 3) % 60));
      positions.push_back(static_cast<int32_t>(position + i));
    }
    starts.push_back(static_cast<int32_t>(ids.size()));
    rows.push_back(static_cast<int32_t>(ids.size()) - 1);
    for (int32_t b = 0; b < kBlocksASequence; ++b) tables.push_back(b);
    SamplingRow row;
    row.params = {.temperature = rows.size() % 2 == 0 ? 0.0f : 0.8f,
                  .top_k = 20,
                  .top_p = 0.9f,
                  .min_p = 0.01f,
                  .seed = rows.size()};
    row.params.repetition_penalty = 1.1f;
    row.params.frequency_penalty = 0.5f;
    row.params.no_repeat_ngram_size = 2;
    row.seen = seen;
    row.context = row.banned_ids = row.suppressed_ids = suppressed;
    sampling.push_back(row);
  }
  LlmStepInput input() const {
    LlmStepInput input;
    input.token_ids = ids;
    input.positions = positions;
    input.seq_starts = starts;
    input.block_tables = tables;
    input.block_table_width = kBlocksASequence;
    input.logit_rows = rows;
    input.sampling = sampling;
    return input;
  }
  std::vector<int32_t> ids, positions, starts, tables, rows, suppressed = {1, 2};
  std::vector<SeenToken> seen = {{1, 2}, {7, 0}};
  std::vector<SamplingRow> sampling;
  std::vector<SampleResult> results;
};

class StepNoAllocTest : public ::testing::TestWithParam<std::string> {};

TEST_P(StepNoAllocTest, NothingBetweenPlanAndSynchronize) {
  for (KvFormat kv : {KvFormat::kF32, KvFormat::kBF16, KvFormat::kInt8}) {
    for (DType activations : {DType::kF32, DType::kBF16}) {
      LoadSpec spec;
      spec.weights = GetParam();
      spec.keys = spec.values = kv;
      spec.activations = activations;
      BackendOptions options;
      options.threads = 2;
      auto harness = ModelHarness::Open(SourcePath("tests/goldens/tiny_llama/gqa2_bf16_tied"), spec,
                                        kBlocksASequence * kKvBlockTokens, "cpu", options);
      ASSERT_TRUE(harness.ok()) << harness.status();
      LlmRunner& runner = *(*harness)->loaded().runner;
      Batch prefill(0, 0), mixed(12, kPrompt);
      // No warm-up: the first step is held to it too.
      const int64_t before = allocation_count.load();
      absl::Status first = runner.Step(prefill.input(), prefill.results);
      absl::Status second = runner.Step(mixed.input(), mixed.results);
      const int64_t made = allocation_count.load() - before;
      ASSERT_TRUE(first.ok() && second.ok()) << first << second;
      EXPECT_EQ(made, 0) << Name(kv) << " cache, " << Name(activations) << " activations";
      for (const SampleResult& result : mixed.results) EXPECT_GE(result.token, 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Schemes, StepNoAllocTest,
                         ::testing::Values("", "bf16", "f32", "int8_weight_only", "int4_weight_only,group_size=32",
                                           "int8_dynamic_activation_int8_weight"),
                         [](const auto& param_info) {
                           std::string name = param_info.param.substr(0, param_info.param.find(','));
                           return name.empty() ? "as_stored" : name;
                         });

}  // namespace
}  // namespace quantd
