// Llama against the logits of transformers on tiny random checkpoints (tools/oracle/make_tiny_llama.py).
#include "runtime/llama.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/testing/golden_tensors.h"
#include "tests/testing/model_harness.h"
#include "tests/testing/test_paths.h"
#include "tests/testing/worse_error.h"

namespace quantd {
namespace {

using testing::GoldenTensor;
using testing::ModelHarness;
using testing::SourcePath;

const std::string kGoldens = SourcePath("tests/goldens/tiny_llama/");
constexpr int64_t kLongest = 70;  // of the golden sequences

LoadSpec F32Spec() {
  LoadSpec spec;
  spec.keys = spec.values = KvFormat::kF32;
  spec.activations = DType::kF32;
  return spec;
}

// The largest difference of a row over the row's largest |logit|, the worst of all rows.
double WorstError(std::span<const float> got, std::span<const float> want, int64_t vocab) {
  double worst = 0;
  for (size_t begin = 0; begin < want.size(); begin += static_cast<size_t>(vocab)) {
    double most = 0, error = 0;
    for (size_t i = begin; i < begin + static_cast<size_t>(vocab); ++i) {
      most = std::max(most, std::abs(static_cast<double>(want[i])));
      error = testing::WorseError(error, std::abs(static_cast<double>(got[i]) - want[i]));
    }
    worst = testing::WorseError(worst, error / most);
  }
  return worst;
}

// The comparison itself: logits that are not finite are no match, wherever in the row they stand.
TEST(LlamaTest, LogitsThatAreNotFiniteMatchNothing) {
  const std::vector<float> want = {1, 2, 3, 4};
  for (float bad : {NAN, INFINITY}) {
    for (size_t i = 0; i < want.size(); ++i) {
      std::vector<float> got = want;
      got[i] = bad;
      EXPECT_FALSE(WorstError(got, want, /*vocab=*/2) < 1e30) << bad << " at " << i;
    }
  }
}

std::string TestName(std::string text) {
  for (char& c : text) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return text.empty() ? "checkpoint" : text;
}

class TinyLlama : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

// All arithmetic of both sides is f32 over the same weights, so only the order of sums differs: 1e-4 of the largest
// logit.
TEST_P(TinyLlama, LogitsEqualTransformers) {
  const auto& [name, backend] = GetParam();
  auto golden = testing::ReadGoldenTensors(kGoldens + name + "/golden.safetensors");
  auto harness = ModelHarness::Open(kGoldens + name, F32Spec(), kLongest, backend);
  ASSERT_TRUE(harness.ok()) << harness.status();
  for (int i = 0; i < 4; ++i) {
    const GoldenTensor& ids = golden.at("ids_" + std::to_string(i));
    const GoldenTensor& want = golden.at("logits_" + std::to_string(i));
    for (int64_t chunk : {64, 7}) {
      std::vector<float> got = (*harness)->Logits(ids.i32, chunk);
      ASSERT_EQ(got.size(), want.f32.size());
      EXPECT_LT(WorstError(got, want.f32, (*harness)->vocab()), 1e-4) << "sequence " << i << ", chunks of " << chunk;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, TinyLlama,
    ::testing::Combine(::testing::Values("gqa1_f32", "gqa2_bf16_tied", "gqa4_f16", "gqa8_bf16", "head_dim20_given",
                                         "head_dim48_given", "head_dim80_given", "head_dim20_derived",
                                         "head_dim48_derived", "head_dim80_derived", "rope_linear", "rope_llama3",
                                         "rope_parameters", "biases", "sharded", "rope_yarn", "rope_yarn_mscale",
                                         "rope_llama3_beside", "mistral", "biases_qkv", "tied_in_name"),
                       ::testing::Values("reference", "cpu")),
    [](const auto& param_info) { return std::get<0>(param_info.param) + "_" + std::get<1>(param_info.param); });

// The base of the dynamic kind is that of the longest sequence there can be. transformers takes that of the length so
// far, so a text that is read at once gives the same where it is the longest; up to the original 32 tokens any does.
TEST(LlamaTest, DynamicRopeEqualsTransformersAtTheLongestSequence) {
  auto golden = testing::ReadGoldenTensors(kGoldens + "rope_dynamic/golden.safetensors");
  for (int i = 0; i < 4; ++i) {
    const std::vector<int32_t>& ids = golden.at("ids_" + std::to_string(i)).i32;
    const std::vector<float>& want = golden.at("logits_" + std::to_string(i)).f32;
    const int64_t length = std::ssize(ids);
    for (const int64_t max_context : {std::max<int64_t>(length, 2), std::max<int64_t>(length, 32)}) {
      auto harness = ModelHarness::Open(kGoldens + "rope_dynamic", F32Spec(), max_context);
      ASSERT_TRUE(harness.ok()) << harness.status();
      for (int64_t chunk : {64, 7}) {
        EXPECT_LT(WorstError((*harness)->Logits(ids, chunk), want, (*harness)->vocab()), 1e-4)
            << length << " tokens of " << max_context << ", chunks of " << chunk;
      }
    }
  }
}

// GGUF as llama.cpp's converter writes it: permuted q/k, block types, rope factors; goldens from the gguf package's
// values.
class TinyGguf : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(TinyGguf, LogitsEqualTransformers) {
  const auto& [name, backend] = GetParam();
  const std::string path = SourcePath("tests/goldens/gguf/") + name;
  auto golden = testing::ReadGoldenTensors(path + ".golden.safetensors");
  auto harness = ModelHarness::Open(path + ".gguf", F32Spec(), kLongest, backend);
  ASSERT_TRUE(harness.ok()) << harness.status();
  int sequences = 0;
  for (; golden.count("ids_" + std::to_string(sequences)) != 0; ++sequences) {
    std::vector<float> got = (*harness)->Logits(golden.at("ids_" + std::to_string(sequences)).i32);
    const std::vector<float>& want = golden.at("logits_" + std::to_string(sequences)).f32;
    ASSERT_EQ(got.size(), want.size());
    EXPECT_LT(WorstError(got, want, (*harness)->vocab()), 1e-4) << "sequence " << sequences;
  }
  EXPECT_GT(sequences, 0);
}

INSTANTIATE_TEST_SUITE_P(
    All, TinyGguf,
    ::testing::Combine(::testing::Values("mixed_tied_gpt2", "rope_linear_spm", "untied_rope_freqs_gpt2"),
                       ::testing::Values("reference", "cpu")),
    [](const auto& param_info) { return std::get<0>(param_info.param) + "_" + std::get<1>(param_info.param); });

class TinyLlamaScheme : public ::testing::TestWithParam<std::string> {};

// A result may not depend on how the prompt was cut into steps.
TEST_P(TinyLlamaScheme, ChunkingChangesNoBit) {
  auto golden = testing::ReadGoldenTensors(kGoldens + "gqa4_f16/golden.safetensors");
  const std::vector<int32_t>& ids = golden.at("ids_3").i32;
  for (KvFormat kv : {KvFormat::kF32, KvFormat::kBF16, KvFormat::kInt8}) {
    for (DType activations : {DType::kF32, DType::kBF16}) {
      LoadSpec spec = F32Spec();
      spec.weights = GetParam();
      spec.keys = spec.values = kv;
      spec.activations = activations;
      auto harness = ModelHarness::Open(kGoldens + "gqa4_f16", spec, kLongest);
      ASSERT_TRUE(harness.ok()) << harness.status();
      std::vector<float> whole = (*harness)->Logits(ids, 64);
      for (int64_t chunk : {1, 5, 33}) EXPECT_EQ((*harness)->Logits(ids, chunk), whole) << chunk;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Schemes, TinyLlamaScheme,
                         ::testing::Values("", "bf16", "int8_weight_only", "int4_weight_only,group_size=32",
                                           "int8_dynamic_activation_int8_weight"),
                         [](const auto& param_info) { return TestName(param_info.param); });

// qkv and gate/up of different schemes stand behind one layer: a rule changes the scheme of one projection alone.
TEST(LlamaTest, RuleGivesOneProjectionItsOwnScheme) {
  LoadSpec spec = F32Spec();
  spec.rules = {{"*.k_proj", "int8_weight_only"}, {"*.up_proj", "int8_dynamic_activation_int8_weight"}};
  auto harness = ModelHarness::Open(kGoldens + "gqa1_f32", spec, kLongest);
  ASSERT_TRUE(harness.ok()) << harness.status();
  auto golden = testing::ReadGoldenTensors(kGoldens + "gqa1_f32/golden.safetensors");
  std::vector<float> got = (*harness)->Logits(golden.at("ids_3").i32);
  double error = WorstError(got, golden.at("logits_3").f32, (*harness)->vocab());
  EXPECT_GT(error, 1e-5);  // it is quantized
  EXPECT_LT(error, 0.05);  // int8 rows: at most 0.4 % of the row's largest a weight, over two layers
  int ruled = 0;
  for (const LayerReport& line : (*harness)->loaded().layers) ruled += line.reason.rfind("rule ", 0) == 0;
  EXPECT_EQ(ruled, 4);
}

TEST(LlamaTest, GroupThatDoesNotFitFallsBackAndIsReported) {
  LoadSpec spec = F32Spec();
  spec.weights = "int4_weight_only,group_size=32";
  auto harness = ModelHarness::Open(kGoldens + "head_dim20_derived", spec, kLongest);  // hidden 40, feed-forward 56
  ASSERT_TRUE(harness.ok()) << harness.status();
  bool found = false;
  for (const LayerReport& line : (*harness)->loaded().layers) {
    if (line.name != "model.layers.0.mlp.down_proj.weight") continue;
    found = true;
    EXPECT_EQ(line.scheme, "bf16");
    EXPECT_EQ(line.reason, "fallback: K 56 is no multiple of group 32");
  }
  EXPECT_TRUE(found);
}

TEST(LlamaTest, PlanEqualsWhatTheLoadedModelHolds) {
  for (const char* scheme :
       {"", "int8_weight_only", "int4_weight_only,group_size=32", "int8_dynamic_activation_int8_weight"}) {
    for (const char* backend : {"reference", "cpu"}) {
      LoadSpec spec = F32Spec();
      spec.weights = scheme;
      spec.keys = spec.values = KvFormat::kInt8;
      spec.max_context = 64;
      spec.kv_cache_bytes = 1 << 20;
      auto checkpoint = OpenCheckpoint(kGoldens + "gqa8_bf16");
      ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
      auto plan = PlanModel(*checkpoint, spec, backend, {});
      ASSERT_TRUE(plan.ok()) << plan.status();
      auto real = CreateBackend(backend, {});
      ASSERT_TRUE(real.ok());
      auto loaded = LoadModel(*checkpoint, spec, *plan, **real, 7, {});
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      MemorySnapshot snapshot = (*real)->memory();
      EXPECT_EQ(plan->use.bytes, snapshot.models.at(7).bytes) << backend << " " << scheme;
      EXPECT_GT(plan->use.bytes[0], 0);
      EXPECT_EQ(plan->kv_blocks * plan->kv_bytes_per_token * kKvBlockTokens, plan->use.bytes[1]);
    }
  }
}

TEST(LlamaTest, PlanNeedsNoMemoryOfTheModel) {
  LoadSpec spec = F32Spec();
  spec.kv_cache_bytes = int64_t{1} << 40;  // 1 TiB of cache: counted, not allocated
  spec.max_context = 64;
  auto checkpoint = OpenCheckpoint(kGoldens + "gqa1_f32");
  ASSERT_TRUE(checkpoint.ok());
  auto plan = PlanModel(*checkpoint, spec, "cpu", {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_GT(plan->use.bytes[1], int64_t{1} << 39);
}

}  // namespace
}  // namespace quantd
