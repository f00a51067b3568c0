#include "kernels/quant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/testing/golden_tensors.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

Tensor Matrix(const std::vector<float>& values, int64_t n) {
  return Tensor(const_cast<float*>(values.data()), DType::kF32, {n, static_cast<int64_t>(values.size()) / n});
}

QuantizedMatrix MustQuantize(const std::vector<float>& values, int64_t n, const std::string& scheme) {
  auto result = Quantize(Matrix(values, n), ParseQuantScheme(scheme).value());
  EXPECT_TRUE(result.ok()) << result.status();
  return std::move(result).value();
}

std::vector<float> Dequantized(const QuantizedMatrix& m) {
  std::vector<float> values(static_cast<size_t>(m.n * m.k));
  for (int64_t row = 0; row < m.n; ++row) DequantizeRow(m.view(), row, values.data() + row * m.k);
  return values;
}

std::vector<int> Codes(const QuantizedMatrix& m) {
  std::vector<int> codes;
  for (uint8_t byte : m.data) {
    if (m.scheme.weight == WeightFormat::kInt4) {
      codes.push_back(byte & 15);
      codes.push_back(byte >> 4);
    } else {
      codes.push_back(static_cast<int8_t>(byte));
    }
  }
  return codes;
}

std::vector<float> Params(const std::vector<uint8_t>& bytes, DType dtype) {
  std::vector<float> values(bytes.size() / static_cast<size_t>(SizeOf(dtype)));
  LoadFloats(bytes.data(), dtype, static_cast<int64_t>(values.size()), values.data());
  return values;
}

std::vector<float> RandomWeights(size_t count, float spread = 0.05f) {
  std::mt19937 rng(7);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> values(count);
  for (float& v : values) v = normal(rng);
  return values;
}

std::vector<QuantScheme> EveryScheme() {
  std::vector<QuantScheme> schemes = {{.weight = WeightFormat::kF32}, {.weight = WeightFormat::kF16}, {}};
  for (DType params : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (int group : {32, 64, 128, 256}) {
      for (ZeroKind zero : {ZeroKind::kNone, ZeroKind::kFloat, ZeroKind::kMin}) {
        schemes.push_back({WeightFormat::kInt4, zero, params, group, ActivationFormat::kAsIs});
      }
      schemes.push_back({WeightFormat::kInt8, ZeroKind::kNone, params, group, ActivationFormat::kAsIs});
    }
    schemes.push_back({WeightFormat::kInt8, ZeroKind::kNone, params, 0, ActivationFormat::kAsIs});
    schemes.push_back({WeightFormat::kInt8, ZeroKind::kNone, params, 0, ActivationFormat::kInt8PerToken});
  }
  return schemes;
}

TEST(QuantSchemeTest, EveryNameParsesToWhatItNames) {
  for (const QuantScheme& scheme : EveryScheme()) {
    auto parsed = ParseQuantScheme(Name(scheme));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, scheme) << Name(scheme);
  }
}

TEST(QuantSchemeTest, NamesAreTorchaosAndSayWhatDiffersFromTheDefault) {
  for (const char* name :
       {"bf16", "f16", "f32", "int8_weight_only", "int8_weight_only,group_size=32,params=f16", "int4_weight_only",
        "int4_weight_only,group_size=64", "int4_weight_only,group_size=32,zero=min,params=f16",
        "int4_weight_only,zero=none", "int8_dynamic_activation_int8_weight"}) {
    auto scheme = ParseQuantScheme(name);
    ASSERT_TRUE(scheme.ok()) << scheme.status();
    EXPECT_EQ(Name(*scheme), name);
  }
  QuantScheme int4 = ParseQuantScheme("int4_weight_only").value();
  EXPECT_EQ(int4.group_k, 128);
  EXPECT_EQ(int4.zero, ZeroKind::kFloat);
  EXPECT_EQ(int4.param_dtype, DType::kBF16);
  EXPECT_EQ(ParseQuantScheme("int4_weight_only,params=bf16,zero=float,group_size=128").value(), int4);
  EXPECT_EQ(ParseQuantScheme("int8_weight_only")->param_dtype, DType::kF32);
}

TEST(QuantSchemeTest, WhatIsUnknownIsNamedWithWhatIsKnown) {
  for (const char* name : {"", "int5", "int4_weight_only,", "int4_weight_only,group=32",
                           "int4_weight_only,group_size=", "int4_weight_only,group_size=32x",
                           "int4_weight_only,group_size=-32", "int4_weight_only,group_size=99999999999",
                           "int4_weight_only,zero=int", "bf16,params=f16", "int8_weight_only,params=i8", ",bf16"}) {
    absl::Status status = ParseQuantScheme(name).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr("known are bf16, f16, f32, int8_weight_only")) << name;
  }
  EXPECT_THAT(std::string(ParseQuantScheme("int4_weight_only,group_size=48").status().message()),
              HasSubstr("group_size is 48, expected 32, 64, 128 or 256"));
  EXPECT_FALSE(ParseQuantScheme("int8_weight_only,zero=min").ok());
  EXPECT_FALSE(ParseQuantScheme("int8_dynamic_activation_int8_weight,group_size=32").ok());
}

TEST(QuantSchemeTest, SchemesThatDoNotFitTheWeightsAreRefused) {
  auto message = [](const char* name, int64_t n, int64_t k) {
    absl::Status status = CheckScheme(ParseQuantScheme(name).value(), n, k);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(message("int4_weight_only,group_size=64", 8, 96),
              HasSubstr("weights are [8, 96], whose 96 inputs are no multiple of the group of 64"));
  EXPECT_THAT(message("int8_dynamic_activation_int8_weight", 1, 140000), HasSubstr("overflow above 132104 inputs"));
  EXPECT_THAT(message("bf16", 0, 4), HasSubstr("expected at least [1, 1]"));
  EXPECT_TRUE(CheckScheme(ParseQuantScheme("int8_weight_only").value(), 3, 7).ok());
}

// quantization.md 10: w[i] = (((37 i) mod 64) - 24) / 64.
std::vector<float> SampleGroup() {
  std::vector<float> w;
  for (int i = 0; i < 32; ++i) w.push_back(static_cast<float>(37 * i % 64 - 24) / 64);
  return w;
}

TEST(QuantizeTest, Int4SampleGroup) {
  QuantizedMatrix m = MustQuantize(SampleGroup(), 1, "int4_weight_only,group_size=32");
  EXPECT_THAT(Codes(m), ElementsAre(0, 9, 2, 11, 5, 14, 7, 1, 10, 3, 12, 5, 14, 8, 1, 10, 4, 13, 6, 15, 9, 2, 11, 5, 13,
                                    7, 0, 9, 3, 12, 5, 14));
  EXPECT_THAT(Params(m.scales, DType::kBF16), ElementsAre(0.0654296875f));
  EXPECT_THAT(Params(m.zeros, DType::kBF16), ElementsAre(0.150390625f));
  std::vector<float> values = Dequantized(m);
  values.resize(4);
  EXPECT_THAT(values, ElementsAre(-0.373046875f, 0.2158203125f, -0.2421875f, 0.3466796875f));
  EXPECT_EQ(m.data[0], 0x90);  // even k in the low nibble
}

TEST(QuantizeTest, Int4SampleGroupWithF32ParamsHasTheSameCodes) {
  QuantizedMatrix m = MustQuantize(SampleGroup(), 1, "int4_weight_only,group_size=32,params=f32");
  EXPECT_EQ(Codes(m), Codes(MustQuantize(SampleGroup(), 1, "int4_weight_only,group_size=32")));
  EXPECT_FLOAT_EQ(Params(m.scales, DType::kF32)[0], 0.065625f);
  EXPECT_FLOAT_EQ(Params(m.zeros, DType::kF32)[0], 0.15f);
}

// -1 is a tie, -127.5 steps, in exact arithmetic (-128); in f32 1/(1/127.5) is just below 127.5, so it is -127.
TEST(QuantizeTest, Int8SampleRow) {
  QuantizedMatrix m = MustQuantize({0.5f, -0.25f, 1, -1, 0.126f, 0, 0.75f, -0.999f}, 1, "int8_weight_only");
  EXPECT_THAT(Codes(m), ElementsAre(64, -32, 127, -127, 16, 0, 96, -127));
  EXPECT_THAT(Params(m.scales, DType::kF32), ElementsAre(1 / 127.5f));
}

TEST(QuantizeTest, GoldensOfNumpy) {
  auto golden = testing::ReadGoldenTensors(testing::SourcePath("tests/goldens/quant/quant.safetensors"));
  const std::vector<float>& weights = golden.at("weights").f32;
  for (int group : {32, 64, 128}) {
    std::string name = "int4_g" + std::to_string(group);
    QuantizedMatrix m = MustQuantize(weights, 6, "int4_weight_only,group_size=" + std::to_string(group));
    EXPECT_THAT(Codes(m), ElementsAreArray(golden.at(name + ".codes").i32));
    EXPECT_EQ(Params(m.scales, DType::kBF16), golden.at(name + ".scales").f32);
    EXPECT_EQ(Params(m.zeros, DType::kBF16), golden.at(name + ".zeros").f32);
    EXPECT_EQ(Dequantized(m), golden.at(name + ".values").f32);
  }
  QuantizedMatrix int8 = MustQuantize(weights, 6, "int8_weight_only");
  EXPECT_THAT(Codes(int8), ElementsAreArray(golden.at("int8.codes").i32));
  EXPECT_EQ(Params(int8.scales, DType::kF32), golden.at("int8.scales").f32);
  EXPECT_EQ(Dequantized(int8), golden.at("int8.values").f32);
  EXPECT_EQ(Codes(MustQuantize(weights, 6, "int8_dynamic_activation_int8_weight")), Codes(int8));
}

// |w - w'| <= half a step, plus what rounding the parameters to their dtype moves where a code is clamped: 2^-9 (bf16)
// or 2^-12 (f16) of the scale for each of the 15 (int4) or 128 (int8) steps, and of the zero; twice that for the
// rounding of both ends.
TEST(QuantizeTest, ValuesComeBackWithinHalfAStep) {
  constexpr int64_t kRows = 5, kColumns = 512;
  std::vector<float> weights = RandomWeights(kRows * kColumns);
  for (const QuantScheme& scheme : EveryScheme()) {
    if (!scheme.quantized()) continue;
    QuantizedMatrix m = MustQuantize(weights, kRows, Name(scheme));
    std::vector<float> values = Dequantized(m), scales = Params(m.scales, scheme.param_dtype);
    int64_t length = kColumns / scheme.groups(kColumns);
    float rounding = scheme.param_dtype == DType::kBF16  ? 0x1p-9f
                     : scheme.param_dtype == DType::kF16 ? 0x1p-12f
                                                         : 0x1p-24f;
    for (size_t i = 0; i < weights.size(); ++i) {
      float scale = scales[i / static_cast<size_t>(length)];
      float steps = scheme.weight == WeightFormat::kInt8 ? 128 : 15;
      float bound = scale * (0.5f + 2 * steps * rounding) + 0.5f * rounding + 1e-7f;
      ASSERT_LE(std::fabs(weights[i] - values[i]), bound) << Name(scheme) << " at " << i;
    }
  }
}

TEST(QuantizeTest, ZeroAndConstantGroupsAreFinite) {
  for (const QuantScheme& scheme : EveryScheme()) {
    std::vector<float> weights(512, 0.0f);
    std::fill(weights.begin() + 256, weights.end(), -0.25f);
    std::vector<float> values = Dequantized(MustQuantize(weights, 2, Name(scheme)));
    for (size_t i = 0; i < values.size(); ++i) {
      // Zeros: within eight floors of the scale (1e-6). Constants: the zero rounded to 16 bits (2^-9 of it); where
      // there is none, half a step of amax/7.5 or amax/127.5 and the scale's rounding (8 steps, 2^-9 of each).
      double symmetric = scheme.weight == WeightFormat::kInt8 ? 0.25 / 127.5 : 0.25 / 7.5;
      double bound = scheme.zero == ZeroKind::kNone ? symmetric * 0.52 + 0.25 * 0x1p-9 : 0.25 * 0x1p-9 + 1e-5;
      ASSERT_NEAR(values[i], weights[i],
                  i < 256              ? 1e-5
                  : scheme.quantized() ? bound
                                       : 0)
          << Name(scheme) << " at " << i;
    }
  }
}

TEST(QuantizeTest, WeightsThatAreNotFiniteAreRefusedByPlace) {
  for (const QuantScheme& scheme : EveryScheme()) {
    for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                      -std::numeric_limits<float>::infinity()}) {
      for (int64_t column : {0, 31, 255}) {
        std::vector<float> weights = RandomWeights(3 * 256);
        weights[static_cast<size_t>(2 * 256 + column)] = bad;
        absl::Status status = Quantize(Matrix(weights, 3), scheme).status();
        EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
        EXPECT_THAT(std::string(status.message()), HasSubstr("row 2, column " + std::to_string(column) + " is"));
      }
    }
  }
}

TEST(QuantizeTest, WeightsTooLargeForTheFormatAreRefused) {
  std::vector<float> weights(64, 1.0f);
  weights[40] = 3e7f;
  EXPECT_THAT(
      std::string(
          Quantize(Matrix(weights, 1), ParseQuantScheme("int8_weight_only,params=f16").value()).status().message()),
      HasSubstr("row 0, columns 0 to 63: the weights are too large for params of f16"));
  EXPECT_THAT(std::string(Quantize(Matrix(weights, 1), ParseQuantScheme("f16").value()).status().message()),
              HasSubstr("row 0 holds"));
  std::vector<float> extremes(64, 3e38f);
  extremes[1] = -3e38f;
  EXPECT_FALSE(Quantize(Matrix(extremes, 1), ParseQuantScheme("int4_weight_only,group_size=64").value()).ok());
}

TEST(QuantizeTest, TakesSixteenBitWeightsAndStridedRows) {
  std::vector<float> weights = RandomWeights(4 * 96);
  for (DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    std::vector<uint8_t> stored(weights.size() * 4);
    StoreFloats(weights.data(), static_cast<int64_t>(weights.size()), stored.data(), dtype);
    Tensor columns = Tensor(stored.data(), dtype, {4, 96}).Columns(32, 64);
    auto m = Quantize(columns, ParseQuantScheme("f32").value());
    ASSERT_TRUE(m.ok()) << m.status();
    std::vector<float> values = Dequantized(*m);
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(values[i], LoadFloat(stored.data(), dtype, static_cast<int64_t>(i / 64 * 96 + 32 + i % 64)));
    }
  }
  std::vector<int32_t> integers(4);
  EXPECT_FALSE(Quantize(Tensor(integers.data(), DType::kI32, {2, 2}), QuantScheme{}).ok());
}

TEST(QuantizeTest, BlocksOfFloatsConvertAsSingleOnesDo) {
  std::vector<uint16_t> halves(0x10000);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  std::vector<float> values(halves.size());
  for (DType dtype : {DType::kF16, DType::kBF16}) {
    LoadFloats(halves.data(), dtype, static_cast<int64_t>(halves.size()), values.data());
    for (size_t i = 0; i < halves.size(); ++i) {
      float one = LoadFloat(halves.data(), dtype, static_cast<int64_t>(i));
      ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(one)) << i;
    }
  }
}

TEST(ValidateTest, NamesThePartThatDoesNotFit) {
  QuantizedMatrix m = MustQuantize(RandomWeights(2 * 128), 2, "int4_weight_only,group_size=64");
  ASSERT_TRUE(Validate(m.view()).ok()) << Validate(m.view());
  auto message = [&](auto change) {
    QuantizedView view = m.view();
    change(view);
    absl::Status status = Validate(view);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(message([](QuantizedView& v) {
                v.data = Tensor(v.data.data(), DType::kU8, {2, 128});
              }),
              HasSubstr("data is u8 [2, 128], expected u8 [2, 64]"));
  EXPECT_THAT(message([](QuantizedView& v) {
                v.scales = Tensor(v.scales.data(), DType::kF16, {2, 2});
              }),
              HasSubstr("scales is f16 [2, 2], expected bf16 [2, 2]"));
  EXPECT_THAT(message([](QuantizedView& v) { v.zeros = Tensor(); }), HasSubstr("zeros is absent"));
  EXPECT_THAT(message([](QuantizedView& v) { v.k = 100; }), HasSubstr("no multiple of the group of 64"));
}

}  // namespace
}  // namespace quantd
