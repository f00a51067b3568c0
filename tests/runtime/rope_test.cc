// Tables of rotary positions against the inverse frequencies of transformers (tools/oracle/make_rope_goldens.py).
#include "runtime/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "runtime/json.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

Json ReadGolden() {
  std::ifstream file(testing::SourcePath("tests/goldens/rope/frequencies.json"));
  return Json::parse(file);
}

RopeConfig Parse(const Json& config, int64_t head_dim) {
  std::vector<std::string> warnings;
  auto rope = ParseRopeConfig(config, config["max_position_embeddings"], head_dim, warnings);
  EXPECT_TRUE(rope.ok()) << config << rope.status();
  return rope.ok() ? *rope : RopeConfig{};
}

std::vector<float> Table(const RopeConfig& rope, int64_t head_dim, int64_t tokens, std::span<const float> factors) {
  constexpr int64_t kPositions = 2;
  std::vector<float> table(static_cast<size_t>(kPositions * head_dim));
  FillRopeTable(head_dim, rope, factors, tokens, kPositions, table.data());
  return table;
}

// The angles of position 1 are the frequencies: a few roundings in f32, of a power too.
constexpr double kRelative = 2e-6;

TEST(RopeTable, EqualsTheFrequenciesOfTransformers) {
  const Json golden = ReadGolden();
  ASSERT_GT(golden.size(), 140u);
  for (const Json& one : golden) {
    const int64_t head_dim = one["head_dim"];
    const std::vector<double> frequencies = one["frequencies"];
    const double scale = one["scale"];
    const std::vector<float> table = Table(Parse(one["config"], head_dim), head_dim, one["tokens"], {});
    const float* at_0 = table.data();
    const float* at_1 = at_0 + head_dim;
    for (size_t i = 0; i < frequencies.size(); ++i) {
      SCOPED_TRACE(one["config"].dump() + " of " + std::to_string(head_dim) + ", pair " + std::to_string(i));
      const size_t sine = frequencies.size() + i;
      EXPECT_NEAR(static_cast<double>(at_0[i]), scale, kRelative);
      EXPECT_EQ(at_0[sine], 0);
      EXPECT_NEAR(static_cast<double>(at_1[i]), scale * std::cos(frequencies[i]), kRelative);
      EXPECT_NEAR(static_cast<double>(at_1[sine]) / (scale * std::sin(frequencies[i])), 1, kRelative);
    }
  }
}

// llama.cpp's rope_freqs beside every kind of scaling.
TEST(RopeTable, FactorsDivideTheFrequenciesThatTheScalingLeaves) {
  for (const Json& one : ReadGolden()) {
    if (one["head_dim"] != 16) continue;
    const std::vector<double> frequencies = one["frequencies"];
    std::vector<float> factors;
    for (int i = 0; i < 8; ++i) factors.push_back(1.0f + static_cast<float>(i));
    const std::vector<float> table = Table(Parse(one["config"], 16), 16, one["tokens"], factors);
    for (size_t i = 0; i < 8; ++i) {
      const double expected = one["scale"].get<double>() * std::sin(frequencies[i] / static_cast<double>(factors[i]));
      EXPECT_NEAR(static_cast<double>(table[16 + 8 + i]) / expected, 1, kRelative) << one["config"] << " pair " << i;
    }
  }
}

}  // namespace
}  // namespace quantd
