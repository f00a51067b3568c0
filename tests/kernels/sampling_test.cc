#include "kernels/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace quantd {
namespace {

int32_t Sample(std::vector<float> logits, SamplingParams params, uint64_t position = 0,
               std::span<const int32_t> suppressed = {}) {
  std::vector<SampleScratch::Entry> entries(logits.size());
  SamplingRow row;
  row.params = params;
  row.position = position;
  row.suppressed_ids = suppressed;
  return SampleRow(logits.data(), static_cast<int64_t>(logits.size()), row, {entries}).token;
}

std::vector<float> RandomLogits(size_t count, float spread = 3, uint32_t seed = 11) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(count);
  for (float& v : logits) v = normal(rng);
  return logits;
}

// The exact distribution in double, written from the definition by sorting.
std::vector<double> Probabilities(const std::vector<float>& logits, const SamplingParams& params) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (params.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(params.top_k)));
  std::vector<double> weights;
  for (size_t id : order) weights.push_back(std::exp((double{logits[id]} - logits[order[0]]) / params.temperature));
  double total = std::accumulate(weights.begin(), weights.end(), 0.0), before = 0;
  std::vector<double> probabilities(logits.size());
  for (size_t i = 0; i < order.size(); ++i) {
    bool kept = (params.top_p == 1 || before < double{params.top_p} * total) && weights[i] >= params.min_p;
    before += weights[i];
    if (kept) probabilities[order[i]] = weights[i];
  }
  total = std::accumulate(probabilities.begin(), probabilities.end(), 0.0);
  for (double& p : probabilities) p /= total;
  return probabilities;
}

// Random123's kat_vectors, philox4x32 with 10 rounds.
TEST(PhiloxTest, KnownAnswers) {
  using Counter = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}), (Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  uint32_t ones = 0xffffffff;
  EXPECT_EQ(Philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, UniformIsInRangeAndDependsOnAllOfItsKey) {
  double sum = 0;
  for (uint64_t i = 0; i < 10000; ++i) {
    float u = PhiloxUniform(5, 0, i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 4 * std::sqrt(1 / 12.0 / 10000));  // four standard errors
  float u = PhiloxUniform(1, 2, 3);
  EXPECT_EQ(u, PhiloxUniform(1, 2, 3));
  EXPECT_NE(u, PhiloxUniform(2, 2, 3));
  EXPECT_NE(u, PhiloxUniform(uint64_t{1} << 32 | 1, 2, 3));
  EXPECT_NE(u, PhiloxUniform(1, 3, 3));
  EXPECT_NE(u, PhiloxUniform(1, 2, 4));
  EXPECT_NE(u, PhiloxUniform(1, 2, uint64_t{1} << 32 | 3));
}

TEST(SampleRowTest, GreedyTakesTheFirstOfTheLargest) {
  for (size_t vocab : {1, 7, 32, 33, 1000, 50257}) {
    std::vector<float> logits = RandomLogits(vocab);
    auto expected = std::max_element(logits.begin(), logits.end()) - logits.begin();
    EXPECT_EQ(Sample(logits, {.temperature = 0}), expected);
    EXPECT_EQ(Sample(logits, {.temperature = 1, .top_k = 1}), expected);
    std::fill(logits.begin(), logits.end(), -2.0f);
    EXPECT_EQ(Sample(logits, {.temperature = 0}), 0);
    if (vocab > 40) {
      logits[39] = logits[40] = 5;
      EXPECT_EQ(Sample(logits, {.temperature = 0}), 39);
    }
  }
}

TEST(SampleRowTest, SuppressedTokensAreNeverChosen) {
  std::vector<float> logits = RandomLogits(200);
  std::vector<int32_t> order(200);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int32_t a, int32_t b) { return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]; });
  std::vector<int32_t> suppressed = {order[0], order[1], order[2], 7000, -1};  // ids outside the vocabulary are ignored
  EXPECT_EQ(Sample(logits, {.temperature = 0}, 0, suppressed), order[3]);
  for (SamplingParams params :
       {SamplingParams{}, SamplingParams{.top_k = 5}, SamplingParams{.top_p = 0.5f}, SamplingParams{.min_p = 0.1f}}) {
    for (uint64_t position = 0; position < 500; ++position) {
      int32_t token = Sample(logits, params, position, suppressed);
      ASSERT_GE(token, 0);
      ASSERT_EQ(std::find(suppressed.begin(), suppressed.end(), token), suppressed.end());
    }
  }
  EXPECT_EQ(Sample(logits, {.temperature = 0}, 0, order), -1);  // none is left
  EXPECT_EQ(Sample(logits, {}, 0, order), -1);
}

TEST(SampleRowTest, RowsThatAreNotFiniteGiveNoToken) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    for (size_t where : {0, 31, 64, 69}) {
      std::vector<float> logits = RandomLogits(70);
      logits[where] = bad;
      EXPECT_EQ(Sample(logits, {.temperature = 0}), -1);
      EXPECT_EQ(Sample(logits, {.temperature = 1}), -1);
    }
  }
}

TEST(SampleRowTest, ExtremeLogitsAndTemperaturesStayDefined) {
  std::vector<float> logits = {-3e38f, 3e38f, 0, 3e38f};
  EXPECT_EQ(Sample(logits, {.temperature = 0}), 1);
  for (uint64_t position = 0; position < 50; ++position) {
    EXPECT_EQ(Sample(logits, {.temperature = 1}, position) % 2, 1);  // 1 or 3
    EXPECT_EQ(Sample({1, 2, 3}, {.temperature = 1e-40f}, position), 2);
    int32_t any = Sample(logits, {.temperature = 3e38f, .top_p = 0.999f}, position);
    EXPECT_TRUE(any >= 0 && any < 4);
  }
}

TEST(SampleRowTest, TheLargestLogitIsFoundAtEveryPlaceOfEveryLength) {
  for (size_t count = 1; count <= 130; ++count) {
    for (size_t where = 0; where < count; ++where) {
      std::vector<float> logits(count, -2.5f);
      logits[where] = -2.0f;
      ASSERT_EQ(Sample(logits, {.temperature = 0}), static_cast<int32_t>(where)) << count;
    }
  }
}

// exp of differences below f32's resolution is 1; what top-p keeps is still the larger logit, as where top_k is 1.
TEST(SampleRowTest, ATopPOfAlmostNothingIsTheLargestLogitHoweverNearTheOthersAre) {
  for (const float step : {1e-8f, 1e-38f, 1e-45f}) {
    for (const float temperature : {1.0f, 100.0f}) {
      const std::vector<float> logits = {0, step, 2 * step, -step};
      for (uint64_t position = 0; position < 20; ++position) {
        EXPECT_EQ(Sample(logits, {.temperature = temperature, .top_p = 1e-6f}, position), 2) << step;
      }
    }
  }
}

// Pearson's chi-square over the tokens with an expectation of at least 5, the others as one; the bound is mean plus
// five standard deviations of its distribution. Tokens that the filters drop must not occur at all.
void ExpectFrequencies(const std::vector<float>& logits, SamplingParams params) {
  constexpr int kDraws = 8000;
  std::vector<double> expected = Probabilities(logits, params);
  std::vector<int> counts(logits.size());
  for (int i = 0; i < kDraws; ++i) {
    int32_t token = Sample(logits, params, static_cast<uint64_t>(i));
    ASSERT_GE(token, 0);
    ++counts[static_cast<size_t>(token)];
  }
  double statistic = 0, rest_expected = 0, rest_count = 0;
  int cells = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    double mean = expected[i] * kDraws;
    ASSERT_TRUE(expected[i] > 0 || counts[i] == 0) << i;
    if (mean < 5) {
      rest_expected += mean;
      rest_count += counts[i];
      continue;
    }
    statistic += (counts[i] - mean) * (counts[i] - mean) / mean;
    ++cells;
  }
  if (rest_expected >= 5) statistic += (rest_count - rest_expected) * (rest_count - rest_expected) / rest_expected;
  EXPECT_LE(statistic, cells + 5 * std::sqrt(2.0 * cells))
      << "temperature " << params.temperature << " top_k " << params.top_k << " top_p " << params.top_p << " min_p "
      << params.min_p;
}

TEST(SampleRowTest, FrequenciesAreTheExactProbabilities) {
  std::vector<float> logits = RandomLogits(50, 1.5f);
  logits[3] = logits[17] = logits[40];  // ties
  for (float temperature : {0.5f, 1.5f}) {
    for (int32_t top_k : {0, 2, 20}) {
      for (float top_p : {1.0f, 0.9f, 0.3f}) {
        for (float min_p : {0.0f, 0.15f}) ExpectFrequencies(logits, {temperature, top_k, top_p, min_p, 42});
      }
    }
  }
}

// Over a large vocabulary the kept set is the definition's: every draw is a token that it keeps.
TEST(SampleRowTest, FiltersKeepWhatSortingKeeps) {
  for (float spread : {0.01f, 1.0f, 4.0f}) {
    std::vector<float> logits = RandomLogits(32000, spread);
    for (size_t i = 0; i < logits.size(); i += 3) logits[i] = std::round(logits[i] * 8) / 8;  // many ties
    for (SamplingParams params :
         {SamplingParams{.top_k = 40}, SamplingParams{.top_k = 20000}, SamplingParams{.top_p = 0.9f},
          SamplingParams{.top_p = 0.0001f}, SamplingParams{.top_k = 300, .top_p = 0.5f, .min_p = 0.02f}}) {
      // Weights are f32: logits whose weights are equal rank by id, so the last kept may differ within 1e-4 of the
      // mass.
      SamplingParams wider = params;
      if (params.top_p < 1) wider.top_p *= 1.0001f;
      std::vector<double> expected = Probabilities(logits, wider);
      for (uint64_t position = 0; position < 100; ++position) {
        int32_t token = Sample(logits, params, position);
        ASSERT_GE(token, 0);
        ASSERT_GT(expected[static_cast<size_t>(token)], 0)
            << token << " logit " << logits[static_cast<size_t>(token)] << " spread " << spread << " top_k "
            << params.top_k << " top_p " << params.top_p;
      }
    }
  }
}

TEST(SampleRowTest, TiesOfTopKGoToTheLowerIds) {
  std::vector<float> logits(100, 0.0f);
  std::vector<int> counts(100);
  for (uint64_t position = 0; position < 500; ++position)
    ++counts[static_cast<size_t>(Sample(logits, {.top_k = 4}, position))];
  for (size_t i = 0; i < counts.size(); ++i) EXPECT_EQ(counts[i] > 0, i < 4) << i;
}

}  // namespace
}  // namespace quantd
