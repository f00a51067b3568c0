// Tensors for tests of ops: memory that starts as NaN, gaps between rows and guards at the ends that no op may touch.
// Operands of the large ops, and the tolerances of comparing two backends.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/backend.h"

namespace quantd::testing {

using Rng = std::mt19937;

// Owns its memory, all bytes of which are 0xff at first: NaN in every float format. `gap` elements lie between rows.
class TestTensor {
 public:
  TestTensor(DType dtype, Shape shape, int64_t gap = 0);
  const Tensor& view() const { return view_; }
  bool GuardsIntact() const;           // every byte that belongs to no element still is 0xff
  std::vector<uint8_t> Bytes() const;  // of the elements, without gaps
  std::vector<float> Floats() const;   // the elements of a float tensor, or of an i8 one

 private:
  std::vector<uint8_t> memory_;
  Tensor view_;
};

TestTensor RandomFloats(Rng& rng, DType dtype, Shape shape, int64_t gap = 0, float spread = 1);
TestTensor Ints(const std::vector<int32_t>& values, Shape shape);
TestTensor Ints(const std::vector<int32_t>& values);  // a vector

// A tolerance is a count of roundings times their size.
inline constexpr float kRound = 0x1p-24f;  // half a unit in the last place of an f32, relative
// Two f32 results on either side of a rounding boundary become neighbours in bf16: one unit in its last place.
inline float StoreError(DType dtype, float value) { return dtype == DType::kBF16 ? std::fabs(value) * 0x1p-7f : 0; }

// |expected - actual| <= tolerance(i, expected), and nothing beside the elements was written.
template <typename Tolerance>
void ExpectNear(const TestTensor& expected, const TestTensor& actual, Tolerance tolerance) {
  std::vector<float> a = expected.Floats(), b = actual.Floats();
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_TRUE(std::isfinite(a[i])) << "element " << i << " of the reference is " << a[i];
    ASSERT_LE(std::fabs(a[i] - b[i]), tolerance(i, a[i])) << "element " << i << ": " << a[i] << " and " << b[i];
  }
  EXPECT_TRUE(expected.GuardsIntact());
  EXPECT_TRUE(actual.GuardsIntact());
}

// The cpu backend with this instruction set; null if the machine lacks it.
std::unique_ptr<Backend> CpuBackendOrNull(const std::string& isa, int threads = 2);

// One weight, packed by two backends from the same canonical matrix.
struct WeightPair {
  QuantizedMatrix matrix;
  std::unique_ptr<DeviceWeight> a, b;
};
WeightPair PackForBoth(Backend& a, Backend& b, const Tensor& weights, const std::string& scheme);

// out[t, n] of x[t, k].
struct LinearSize {
  int64_t t, n, k;
};

// The operands of one Linear call: x in its forms, bias, residual; K columns inside wider rows.
struct LinearOperands {
  LinearOperands(Rng& rng, DType dtype, DType out_dtype, LinearSize s);
  Activation forms() const { return {x.view(), codes.view(), scales.view()}; }
  TestTensor x, codes, scales, bias, residual;
};

// The sum of |x w| of each output, [t, n].
std::vector<float> Magnitudes(const LinearOperands& in, const QuantizedMatrix& w, LinearSize s);
// A sum of k products rounds k times in a random walk: sqrt(k) roundings of at most the sum of magnitudes.
inline float SumRoundings(int64_t k) { return std::sqrt(static_cast<float>(k)) + 4; }

// A paged cache with sequences whose blocks lie in no order, and the batch of some of their tokens.
class CacheCase {
 public:
  // Sequence s has tokens [begins[s], ends[s]) in the batch.
  CacheCase(Rng& rng, KvFormat key_format, KvFormat value_format, int64_t kv_heads, int64_t dim,
            const std::vector<int32_t>& begins, const std::vector<int32_t>& ends);
  const PagedKv& kv() const { return kv_; }
  const RaggedBatch& batch() const { return batch_; }
  // All bytes of keys, values and scales.
  std::vector<uint8_t> Contents() const;
  bool GuardsIntact() const;

 private:
  std::vector<std::unique_ptr<TestTensor>> tensors_;
  const Tensor& Own(TestTensor tensor);
  PagedKv kv_;
  RaggedBatch batch_;
};

struct AttentionSize {
  int64_t heads, kv_heads, d;
};

// A cache that the reference has filled with tokens [0, ends[s]) of each sequence; its batch holds those from begins[s]
// on.
CacheCase FilledCache(Backend& reference, Rng& rng, KvFormat keys, KvFormat values, AttentionSize size,
                      const std::vector<int32_t>& begins, const std::vector<int32_t>& ends);

// The error of attention over normally distributed q, k and v. A score is a sum of d products: sqrt(d) roundings of
// scale * sum |q k| <= sqrt(d) * 0.64, doubled for the dequantized form; its error is relative in exp (itself within
// 2^-20) and reaches numerator and denominator, which are sums over the context. Values are below 5.
inline float AttentionError(int64_t d, int64_t context) {
  const float score = 2 * static_cast<float>(d) * kRound;
  return 5 * 2 * (score + 0x1p-20f + std::sqrt(static_cast<float>(context)) * kRound);
}

}  // namespace quantd::testing
