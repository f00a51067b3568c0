#include "kernels/logits_processors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "tests/testing/golden_tensors.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using testing::GoldenTensor;
constexpr float kBanned = -std::numeric_limits<float>::infinity();

std::vector<SeenToken> Seen(const std::vector<int32_t>& prompt, const std::vector<int32_t>& output) {
  std::map<int32_t, int32_t> times_chosen;
  for (int32_t id : prompt) times_chosen[id];
  for (int32_t id : output) ++times_chosen[id];
  std::vector<SeenToken> seen;
  for (const auto& [id, times] : times_chosen) seen.push_back({id, times});
  return seen;
}

std::vector<float> Process(std::vector<float> logits, const SamplingRow& row) {
  ProcessLogits(logits.data(), static_cast<int64_t>(logits.size()), row);
  return logits;
}

// Every case of the golden: the row as transformers' processors leave it, and tokens that its filters keep.
TEST(LogitsProcessors, AreThoseOfTransformersInItsOrder) {
  const auto golden = testing::ReadGoldenTensors(testing::SourcePath("tests/goldens/sampling/processors.safetensors"));
  int cases = 0;
  for (const auto& [name, logits] : golden) {
    if (!name.ends_with(".logits")) continue;
    ++cases;
    const std::string prefix = name.substr(0, name.size() - 6);
    const auto at = [&](const char* part) -> const GoldenTensor& { return golden.at(prefix + part); };
    const std::vector<float>& numbers = at("params").f32;
    std::vector<int32_t> prompt = at("prompt").i32, output = at("output").i32;
    const bool first = output == std::vector<int32_t>{-1};
    if (first) output.clear();
    const std::vector<SeenToken> seen = Seen(prompt, output);
    std::vector<int32_t> context = prompt;
    context.insert(context.end(), output.begin(), output.end());
    SamplingRow row;
    row.params = {.temperature = numbers[4],
                  .top_k = static_cast<int32_t>(numbers[5]),
                  .top_p = numbers[6],
                  .min_p = numbers[7],
                  .repetition_penalty = numbers[0],
                  .presence_penalty = numbers[2],
                  .frequency_penalty = numbers[1],
                  .no_repeat_ngram_size = static_cast<int32_t>(numbers[3])};
    row.seen = seen;
    row.context = context;
    (first ? row.suppressed_ids : row.banned_ids) = at("suppressed").i32;
    const std::vector<float>& expected = at("processed").f32;
    const std::vector<float> processed = Process(logits.f32, row);
    ASSERT_EQ(processed, expected) << prefix;

    std::vector<SampleScratch::Entry> entries(expected.size());
    const auto sample = [&] {
      std::vector<float> copy = logits.f32;
      return SampleRow(copy.data(), static_cast<int64_t>(copy.size()), row, {entries}).token;
    };
    std::vector<int32_t> drawn(expected.size());
    for (row.position = 0; row.position < 500; ++row.position) drawn[static_cast<size_t>(sample())] = 1;
    for (size_t id = 0; id < expected.size(); ++id) {
      EXPECT_LE(drawn[id], at("kept").i32[id]) << prefix << ": " << id << " is not kept";
    }
    row.params.temperature = 0;
    EXPECT_EQ(sample(), std::max_element(expected.begin(), expected.end()) - expected.begin()) << prefix;
  }
  EXPECT_EQ(cases, 72);
}

TEST(LogitsProcessors, PenaltiesReadTheOutputAloneButForRepetition) {
  const std::vector<float> logits = {2.0f, 1.5f, 1.5f, 0.5f, 0.0f, -0.5f, -1.0f, -3.0f};
  const std::vector<SeenToken> seen = Seen({0, 3}, {6, 6, 1});
  SamplingRow row;
  row.seen = seen;
  EXPECT_EQ(Process(logits, row), logits) << "none is asked for";
  row.params.repetition_penalty = 1.25f;
  row.params.frequency_penalty = 0.5f;
  row.params.presence_penalty = 0.25f;
  const std::vector<float> expected = {1.6f, 0.45f, 1.5f, 0.4f, 0.0f, -0.5f, -2.5f, -3.0f};
  const std::vector<float> processed = Process(logits, row);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_FLOAT_EQ(processed[i], expected[i]) << i;
  row.params.repetition_penalty = 1;
  EXPECT_EQ(Process(logits, row)[0], 2.0f) << "a token of the prompt alone";
}

TEST(LogitsProcessors, ARepeatedNgramIsBannedWhereverItWas) {
  const std::vector<float> zeros(8, 0.0f);
  const std::vector<int32_t> context = {1, 2, 3, 4, 1, 2, 5, 1, 2};
  SamplingRow row;
  row.context = context;
  const auto banned = [&](int32_t size) {
    row.params.no_repeat_ngram_size = size;
    std::vector<size_t> ids;
    const std::vector<float> processed = Process(zeros, row);
    for (size_t i = 0; i < processed.size(); ++i) {
      if (processed[i] == kBanned) ids.push_back(i);
    }
    return ids;
  };
  EXPECT_EQ(banned(0), std::vector<size_t>{});
  EXPECT_EQ(banned(1), (std::vector<size_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(banned(2), (std::vector<size_t>{3, 5}));
  EXPECT_EQ(banned(3), (std::vector<size_t>{3, 5}));
  EXPECT_EQ(banned(4), std::vector<size_t>{});
  EXPECT_EQ(banned(9), std::vector<size_t>{});
  EXPECT_EQ(banned(std::numeric_limits<int32_t>::max()), std::vector<size_t>{});
  row.context = {};
  EXPECT_EQ(banned(1), std::vector<size_t>{});
}

TEST(LogitsProcessors, OnlyBannedTokensBecomeInfinite) {
  const float most = std::numeric_limits<float>::max();
  const std::vector<SeenToken> seen = {
      {0, 2000000000}, {1, 1}, {2, 0}, {-1, 3}, {99, 3}};  // ids that are none: ignored
  const std::vector<int32_t> outside = {-5, 99};
  SamplingRow row;
  row.seen = seen;
  row.banned_ids = outside;
  for (const float penalty : {1e-38f, 1e38f}) {
    row.params.repetition_penalty = penalty;
    row.params.frequency_penalty = 1e38f;
    for (const float logit : Process({most, -most, most, -most}, row)) EXPECT_TRUE(std::isfinite(logit)) << logit;
  }
}

TEST(LogitsProcessors, NoTokenIsChosenWhereAllAreBanned) {
  std::vector<int32_t> all(40);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
  std::vector<SampleScratch::Entry> entries(all.size());
  SamplingRow row;
  row.context = all;
  row.params.no_repeat_ngram_size = 1;
  for (const float temperature : {0.0f, 1.0f}) {
    row.params.temperature = temperature;
    std::vector<float> logits(all.size(), 1.0f);
    EXPECT_EQ(SampleRow(logits.data(), 40, row, {entries}).token, -1);
  }
}

}  // namespace
}  // namespace quantd
