// stories15M, a trained Llama: golden logits (bf16 weights, f32 arithmetic), and what quantization costs in perplexity.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/testing/model_harness.h"
#include "tests/testing/worse_error.h"

namespace quantd {
namespace {

using testing::ModelHarness;

#define SKIP_WITHOUT_STORIES()                                                  \
  if (!testing::FileExists(testing::SharedPath("data/stories15M/golden.json"))) \
  GTEST_SKIP() << "data: no stories15M beside the checkout"

std::unique_ptr<ModelHarness> OpenStories(const std::string& weights, DType activations, KvFormat kv) {
  LoadSpec spec;
  spec.weights = weights;
  spec.activations = activations;
  spec.keys = spec.values = kv;
  auto harness = ModelHarness::Open(testing::SharedPath("data/stories15M/hf-bf16"), spec, 256);
  if (!harness.ok()) ADD_FAILURE() << harness.status();
  return harness.ok() ? *std::move(harness) : nullptr;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
}

// Teacher-forced: each step's five best logits within `tolerance` of the step's largest |logit|, and the best token
// equal wherever the margin is at least 0.3. The goldens have four decimals, so 5e-5 comes on top.
void CheckGolden(ModelHarness& harness, double tolerance) {
  nlohmann::json golden = nlohmann::json::parse(ReadFile(testing::SharedPath("data/stories15M/golden.json")));
  int wide_margins = 0;
  double worst = 0;
  for (const auto& run : golden["runs"]) {
    std::vector<int32_t> ids = run["prompt_ids"];
    const size_t prompt = ids.size();
    for (int32_t id : run["generated_ids"]) ids.push_back(id);
    ids.resize(std::min(ids.size(), prompt + run["steps"].size() - 1));
    std::vector<float> logits = harness.Logits(ids);
    for (size_t k = 0; k < run["steps"].size(); ++k) {
      const auto& step = run["steps"][k];
      const float* row = logits.data() + (prompt + k - 1) * static_cast<size_t>(harness.vocab());
      double most = 0;
      for (int64_t v = 0; v < harness.vocab(); ++v)
        most = testing::WorseError(most, std::abs(static_cast<double>(row[v])));
      ASSERT_TRUE(std::isfinite(most)) << "step " << k;
      const std::vector<double> want = step["bf16w"];
      const std::vector<int64_t> top5 = step["top5"];
      for (size_t i = 0; i < want.size(); ++i) {
        const double error = std::abs(row[top5[i]] - want[i]);
        worst = testing::WorseError(worst, error / most);
        ASSERT_LE(error, tolerance * most + 5e-5) << "step " << k << ", rank " << i;
      }
      std::vector<double> sorted = want;
      std::sort(sorted.rbegin(), sorted.rend());
      if (sorted[0] - sorted[1] < 0.3) continue;
      ++wide_margins;
      const size_t top = static_cast<size_t>(std::max_element(want.begin(), want.end()) - want.begin());
      EXPECT_EQ(std::max_element(row, row + harness.vocab()) - row, top5[top]) << "step " << k;
    }
  }
  EXPECT_EQ(wide_margins, 1478);
  std::printf("worst error %.2e of the largest logit\n", worst);
}

TEST(Stories15M, F32LogitsEqualGolden) {
  SKIP_WITHOUT_STORIES();
  auto harness = OpenStories("", DType::kF32, KvFormat::kF32);
  ASSERT_NE(harness, nullptr);
  CheckGolden(*harness, 1e-4);
}

TEST(Stories15M, Bf16LogitsAreNearGolden) {
  SKIP_WITHOUT_STORIES();
  auto harness = OpenStories("", DType::kBF16, KvFormat::kBF16);
  ASSERT_NE(harness, nullptr);
  CheckGolden(*harness, 0.02);
}

// exp(mean negative log-likelihood) over the stories of the sample, each with BOS, in windows of 256 tokens.
double Perplexity(ModelHarness& harness) {
  const std::string text = ReadFile(testing::SharedPath("data/corpora/tinystories_sample.txt")),
                    separator = "<|endoftext|>";
  testing::Likelihood sum;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find(separator, begin), text.size());
    std::string story = text.substr(begin, end - begin);
    begin = end + separator.size();
    story.erase(0, story.find_first_not_of(" \n"));
    while (!story.empty() && std::isspace(static_cast<unsigned char>(story.back()))) story.pop_back();
    if (story.empty()) continue;
    std::vector<int32_t> tokens;
    TextPiece piece{story, false};
    EXPECT_TRUE(harness.checkpoint().tokenizer->Encode(std::span(&piece, 1), tokens).ok());
    for (size_t at = 0; at < tokens.size(); at += 255) {
      std::vector<int32_t> window = {1};
      window.insert(window.end(), tokens.begin() + static_cast<long>(at),
                    tokens.begin() + static_cast<long>(std::min(tokens.size(), at + 255)));
      testing::Likelihood part = testing::NegativeLogLikelihood(harness.Logits(window), window, harness.vocab());
      sum.negative_log += part.negative_log;
      sum.tokens += part.tokens;
    }
  }
  return std::exp(sum.negative_log / static_cast<double>(sum.tokens));
}

TEST(Stories15M, QuantizationCostsLittlePerplexity) {
  SKIP_WITHOUT_STORIES();
  auto bf16 = OpenStories("bf16", DType::kF32, KvFormat::kBF16);
  ASSERT_NE(bf16, nullptr);
  const double base = Perplexity(*bf16);
  std::printf("%-40s perplexity %.4f\n", "bf16", base);
  EXPECT_GT(base, 1.5);
  EXPECT_LT(base, 8.0);
  struct Row {
    const char* weights;
    KvFormat kv;
    double most;  // of the ratio to bf16
  };
  for (const Row& row :
       {Row{"int8_weight_only", KvFormat::kBF16, 1.005},
        Row{"int8_dynamic_activation_int8_weight", KvFormat::kBF16, 1.005}, Row{"bf16", KvFormat::kInt8, 1.005},
        Row{"int4_weight_only,group_size=32", KvFormat::kBF16, 1.08}}) {
    auto harness = OpenStories(row.weights, DType::kF32, row.kv);
    ASSERT_NE(harness, nullptr);
    const double perplexity = Perplexity(*harness);
    std::printf("%-40s perplexity %.4f, ratio %.4f (KV %s)\n", row.weights, perplexity, perplexity / base,
                std::string(Name(row.kv)).c_str());
    EXPECT_LE(perplexity / base, row.most) << row.weights;
  }
}

}  // namespace
}  // namespace quantd
