#include "kernels/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace quantd {
namespace {

TEST(DTypeTest, EveryBf16SurvivesF32) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    auto half = static_cast<uint16_t>(bits);
    if (std::isnan(Bf16ToF32(half))) {
      EXPECT_TRUE(std::isnan(Bf16ToF32(F32ToBf16(Bf16ToF32(half)))));
    } else {
      ASSERT_EQ(F32ToBf16(Bf16ToF32(half)), half);
    }
  }
}

TEST(DTypeTest, EveryF16SurvivesF32) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    auto half = static_cast<uint16_t>(bits);
    if (std::isnan(F16ToF32(half))) {
      EXPECT_TRUE(std::isnan(F16ToF32(F32ToF16(F16ToF32(half)))));
    } else {
      ASSERT_EQ(F32ToF16(F16ToF32(half)), half);
    }
  }
}

// The value of an f16 from its fields, in double.
TEST(DTypeTest, F16IsWhatItsFieldsSay) {
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    int exponent = static_cast<int>(bits >> 10), mantissa = static_cast<int>(bits & 0x3ff);
    double expected = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    ASSERT_EQ(F16ToF32(static_cast<uint16_t>(bits)), expected);
  }
  EXPECT_EQ(F16ToF32(0x7c00), std::numeric_limits<float>::infinity());
}

TEST(DTypeTest, Bf16RoundsToNearestEven) {
  EXPECT_EQ(F32ToBf16(std::bit_cast<float>(0x3f808000)), 0x3f80);  // a tie, to even: down
  EXPECT_EQ(F32ToBf16(std::bit_cast<float>(0x3f818000)), 0x3f82);  // a tie, to even: up
  EXPECT_EQ(F32ToBf16(std::bit_cast<float>(0x3f808001)), 0x3f81);
  EXPECT_EQ(F32ToBf16(std::bit_cast<float>(0x7f7fffff)), 0x7f80);  // beyond the largest: infinity
  EXPECT_EQ(F32ToBf16(-0.0f), 0x8000);
}

// Halfway between each pair of neighbours, and one f32 to either side.
TEST(DTypeTest, F16RoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    auto low = static_cast<uint16_t>(bits), high = static_cast<uint16_t>(bits + 1);
    float middle = (F16ToF32(low) + F16ToF32(high)) / 2;  // exact: f32 has 13 bits more
    ASSERT_EQ(F32ToF16(middle), bits % 2 == 0 ? low : high) << bits;
    ASSERT_EQ(F32ToF16(std::nextafter(middle, 0.0f)), low) << bits;
    ASSERT_EQ(F32ToF16(std::nextafter(middle, 1e6f)), high) << bits;
    ASSERT_EQ(F32ToF16(-middle), F32ToF16(middle) | 0x8000) << bits;
  }
  EXPECT_EQ(F32ToF16(65519.99f), 0x7bff);
  EXPECT_EQ(F32ToF16(65520.0f), 0x7c00);
}

TEST(DTypeTest, SizesAndNames) {
  EXPECT_EQ(SizeOf(DType::kF32), 4);
  EXPECT_EQ(SizeOf(DType::kBF16), 2);
  EXPECT_EQ(SizeOf(DType::kI64), 8);
  EXPECT_EQ(Name(DType::kBF16), "bf16");
  EXPECT_EQ(Name(DType::kU8), "u8");
}

}  // namespace
}  // namespace quantd
