// Every op of the cpu backend, on every instruction set, against the reference: random shapes that are no multiple of a
// tile, gaps between rows, outputs that start as NaN. Tolerances are written
// beside them.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/testing/op_harness.h"

namespace quantd {
namespace {

using testing::AttentionSize;
using testing::CacheCase;
using testing::ExpectNear;
using testing::FilledCache;
using testing::Ints;
using testing::kRound;
using testing::LinearOperands;
using testing::LinearSize;
using testing::RandomFloats;
using testing::Rng;
using testing::StoreError;
using testing::SumRoundings;
using testing::TestTensor;

constexpr const char* kSchemes[] = {"f32",
                                    "f16",
                                    "bf16",
                                    "int8_weight_only",
                                    "int8_weight_only,params=bf16",
                                    "int8_weight_only,group_size=32,params=f16",
                                    "int4_weight_only,group_size=32",
                                    "int4_weight_only,group_size=64",
                                    "int4_weight_only,group_size=128",
                                    "int4_weight_only,group_size=32,params=f32",
                                    "int4_weight_only,group_size=32,zero=min,params=f16",
                                    "int4_weight_only,group_size=32,zero=none,params=f16",
                                    "int8_dynamic_activation_int8_weight"};
constexpr DType kActivationTypes[] = {DType::kF32, DType::kBF16};
constexpr KvFormat kKvFormats[] = {KvFormat::kF32, KvFormat::kBF16, KvFormat::kInt8};

class BackendOpsTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    cpu_ = testing::CpuBackendOrNull(GetParam());
    if (cpu_ == nullptr) GTEST_SKIP() << "hardware: " << GetParam();
    reference_ = CreateBackend("reference", {}).value();
  }
  void ExpectOk() {
    for (Backend* backend : {reference_.get(), cpu_.get()}) {
      absl::Status status = backend->Synchronize();
      ASSERT_TRUE(status.ok()) << status;
    }
  }
  std::unique_ptr<Backend> reference_, cpu_;
  Rng rng_{20240607};
};

// All forms that an op can write, with gaps between the rows of each.
struct Forms {
  Forms(DType dtype, int64_t rows, int64_t columns)
      : values(dtype, {rows, columns}, 3), quantized(DType::kI8, {rows, columns}, 5), scales(DType::kF32, {rows}) {}
  Activation all() const { return {values.view(), quantized.view(), scales.view()}; }
  Activation only_values() const { return {values.view(), {}, {}}; }
  Activation only_quantized() const { return {{}, quantized.view(), scales.view()}; }
  TestTensor values, quantized, scales;
};

// kInt8PerToken's formula on the values that were stored, exactly.
void ExpectQuantizedFromValues(const Forms& forms) {
  std::vector<float> values = forms.values.Floats(), codes = forms.quantized.Floats(), scales = forms.scales.Floats();
  size_t columns = values.size() / scales.size();
  for (size_t row = 0; row < scales.size(); ++row) {
    float amax = 0;
    for (size_t i = row * columns; i < (row + 1) * columns; ++i) amax = std::max(amax, std::fabs(values[i]));
    float scale = std::max(amax / 127.0f, 1e-5f), inverse = 1.0f / scale;
    ASSERT_EQ(scales[row], scale);
    for (size_t i = row * columns; i < (row + 1) * columns; ++i) {
      ASSERT_EQ(codes[i], std::min(127.0f, std::max(-127.0f, std::nearbyint(values[i] * inverse)))) << i;
    }
  }
}

// Runs `op(backend, out)` on both and compares the values; then checks the quantized form, beside the values and alone.
template <typename Op, typename Tolerance>
void CompareForms(Backend& reference, Backend& cpu, DType dtype, int64_t rows, int64_t columns, Op op,
                  Tolerance tolerance) {
  Forms expected(dtype, rows, columns), values(dtype, rows, columns), both(dtype, rows, columns),
      quantized(dtype, rows, columns);
  op(reference, expected.all());
  op(cpu, values.only_values());
  op(cpu, both.all());
  op(cpu, quantized.only_quantized());
  absl::Status status = cpu.Synchronize();
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_TRUE(reference.Synchronize().ok());
  ExpectQuantizedFromValues(expected);
  ExpectNear(expected.values, values.values, tolerance);
  EXPECT_EQ(values.values.Bytes(), both.values.Bytes());
  ExpectQuantizedFromValues(both);
  EXPECT_EQ(both.quantized.Bytes(), quantized.quantized.Bytes());
  EXPECT_EQ(both.scales.Bytes(), quantized.scales.Bytes());
  for (const TestTensor* t : {&both.quantized, &both.scales, &quantized.quantized, &quantized.values, &both.values}) {
    EXPECT_TRUE(t->GuardsIntact());
  }
}

TEST_P(BackendOpsTest, Linear) {
  const LinearSize sizes[] = {{1, 1, 256}, {1, 37, 384},  {2, 16, 128},  {3, 65, 256},  {5, 33, 640},
                              {8, 7, 128}, {13, 83, 128}, {41, 50, 256}, {130, 19, 128}};
  for (const char* name : kSchemes) {
    for (LinearSize s : sizes) {
      TestTensor weights = RandomFloats(rng_, DType::kF32, {s.n, s.k}, 0, 0.1f);
      auto w = testing::PackForBoth(*reference_, *cpu_, weights.view(), name);
      for (auto [dtype, out_dtype] :
           {std::pair{DType::kF32, DType::kF32}, {DType::kBF16, DType::kBF16}, {DType::kBF16, DType::kF32}}) {
        for (bool with_args : {false, true}) {
          SCOPED_TRACE(::testing::Message()
                       << name << " " << s.t << "x" << s.n << "x" << s.k << " " << Name(dtype) << " to "
                       << Name(out_dtype) << (with_args ? ", bias, silu, residual" : ""));
          LinearOperands in(rng_, dtype, out_dtype, s);
          LinearArgs args;
          if (with_args) args = {in.bias.view(), in.residual.view(), ActivationKind::kSilu};
          TestTensor expected(out_dtype, {s.t, s.n}, 4), actual(out_dtype, {s.t, s.n}, 4);
          reference_->Linear(in.forms(), *w.a, args, expected.view());
          cpu_->Linear(in.forms(), *w.b, args, actual.view());
          ASSERT_NO_FATAL_FAILURE(ExpectOk());
          std::vector<float> magnitudes = testing::Magnitudes(in, w.matrix, s);
          // Bias and residual (below 5) add their own; silu's slope is below 1.1, its exp within 2^-20 of its value.
          float roundings = SumRoundings(s.k);
          ASSERT_NO_FATAL_FAILURE(ExpectNear(expected, actual, [&](size_t i, float y) {
            float sum = magnitudes[i] + (with_args ? 5.0f : 0.0f);
            return 1.1f * roundings * kRound * sum + (with_args ? 0x1p-20f * sum : 0) + StoreError(out_dtype, y);
          }));
        }
      }
    }
  }
}

// Widths that are no multiple of anything, for the schemes without groups.
TEST_P(BackendOpsTest, LinearOfOddWidths) {
  for (const char* name : {"f32", "f16", "bf16", "int8_weight_only", "int8_dynamic_activation_int8_weight"}) {
    for (LinearSize s : {LinearSize{1, 3, 1}, {4, 18, 7}, {6, 31, 33}, {9, 17, 95}, {2, 64, 129}}) {
      SCOPED_TRACE(::testing::Message() << name << " " << s.t << "x" << s.n << "x" << s.k);
      TestTensor weights = RandomFloats(rng_, DType::kF32, {s.n, s.k}, 0, 0.1f);
      auto w = testing::PackForBoth(*reference_, *cpu_, weights.view(), name);
      LinearOperands in(rng_, DType::kBF16, DType::kF32, s);
      TestTensor expected(DType::kF32, {s.t, s.n}, 1), actual(DType::kF32, {s.t, s.n}, 1);
      reference_->Linear(in.forms(), *w.a, {}, expected.view());
      cpu_->Linear(in.forms(), *w.b, {}, actual.view());
      ASSERT_NO_FATAL_FAILURE(ExpectOk());
      std::vector<float> magnitudes = testing::Magnitudes(in, w.matrix, s);
      ASSERT_NO_FATAL_FAILURE(
          ExpectNear(expected, actual, [&](size_t i, float) { return SumRoundings(s.k) * kRound * magnitudes[i]; }));
    }
  }
}

// Row i alone equals row i among the others, bit for bit.
TEST_P(BackendOpsTest, LinearRowsDoNotDependOnTheBatch) {
  for (const char* name : kSchemes) {
    SCOPED_TRACE(name);
    LinearSize s{23, 45, 256};
    TestTensor weights = RandomFloats(rng_, DType::kF32, {s.n, s.k}, 0, 0.1f);
    auto w = testing::PackForBoth(*reference_, *cpu_, weights.view(), name);
    LinearOperands in(rng_, DType::kBF16, DType::kBF16, s);
    TestTensor whole(DType::kBF16, {s.t, s.n}), alone(DType::kBF16, {s.t, s.n});
    cpu_->Linear(in.forms(), *w.b, {}, whole.view());
    for (int64_t t = 0; t < s.t; ++t) {
      Activation row{in.x.view().Rows(t, 1), in.codes.view().Rows(t, 1), in.scales.view().Rows(t, 1)};
      cpu_->Linear(row, *w.b, {}, alone.view().Rows(t, 1));
    }
    ASSERT_NO_FATAL_FAILURE(ExpectOk());
    EXPECT_EQ(whole.Bytes(), alone.Bytes());
  }
}

TEST_P(BackendOpsTest, EmbeddingIsExact) {
  for (const char* name : kSchemes) {
    for (DType dtype : kActivationTypes) {
      SCOPED_TRACE(::testing::Message() << name << " " << Name(dtype));
      TestTensor weights = RandomFloats(rng_, DType::kF32, {37, 384});
      auto w = testing::PackForBoth(*reference_, *cpu_, weights.view(), name);
      TestTensor ids = Ints({0, 36, 17, 17, 5}), expected(dtype, {5, 384}, 9), actual(dtype, {5, 384}, 9);
      reference_->Embedding(ids.view(), *w.a, expected.view());
      cpu_->Embedding(ids.view(), *w.b, actual.view());
      ASSERT_NO_FATAL_FAILURE(ExpectOk());
      EXPECT_EQ(expected.Bytes(), actual.Bytes());
      EXPECT_TRUE(actual.GuardsIntact());
    }
  }
}

TEST_P(BackendOpsTest, RmsNorm) {
  for (DType dtype : kActivationTypes) {
    for (auto [rows, k] : {std::pair<int64_t, int64_t>{1, 1}, {3, 7}, {5, 64}, {17, 203}, {2, 576}, {9, 2049}}) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << rows << "x" << k);
      TestTensor x = RandomFloats(rng_, dtype, {rows, k}, 6), weight = RandomFloats(rng_, DType::kF32, {k});
      std::memset(x.view().row(0), 0,
                  static_cast<size_t>(k * SizeOf(dtype)));  // a row of zeros: eps and the scale's floor decide
      auto op = [&](Backend& b, const Activation& out) { b.RmsNorm(x.view(), weight.view(), 1e-5f, out); };
      // The sum of K squares rounds as in Linear; half of its relative error reaches the root.
      float roundings = std::sqrt(static_cast<float>(k)) + 8;
      CompareForms(*reference_, *cpu_, dtype, rows, k, op,
                   [&](size_t, float y) { return roundings * kRound * std::fabs(y) + StoreError(dtype, y); });
    }
  }
}

TEST_P(BackendOpsTest, RmsNormOfF32GivesBf16) {
  for (auto [rows, k] : {std::pair<int64_t, int64_t>{1, 1}, {3, 7}, {17, 203}, {2, 576}}) {
    TestTensor x = RandomFloats(rng_, DType::kF32, {rows, k}, 6), weight = RandomFloats(rng_, DType::kF32, {k});
    Forms expected(DType::kBF16, rows, k), got(DType::kBF16, rows, k);
    reference_->RmsNorm(x.view(), weight.view(), 1e-5f, expected.all());
    cpu_->RmsNorm(x.view(), weight.view(), 1e-5f, got.all());
    ASSERT_TRUE(reference_->Synchronize().ok() && cpu_->Synchronize().ok());
    float roundings = std::sqrt(static_cast<float>(k)) + 8;
    ExpectNear(expected.values, got.values,
               [&](size_t, float y) { return roundings * kRound * std::fabs(y) + StoreError(DType::kBF16, y); });
    ExpectQuantizedFromValues(expected);
    ExpectQuantizedFromValues(got);
    EXPECT_TRUE(got.values.GuardsIntact() && got.quantized.GuardsIntact() && got.scales.GuardsIntact());
  }
}

TEST_P(BackendOpsTest, GatedActivation) {
  for (DType dtype : kActivationTypes) {
    for (ActivationKind kind : {ActivationKind::kSilu, ActivationKind::kNone}) {
      for (auto [rows, f] : {std::pair<int64_t, int64_t>{1, 1}, {4, 13}, {7, 96}, {3, 515}}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << rows << "x" << f);
        TestTensor gate_up = RandomFloats(rng_, dtype, {rows, 2 * f}, 2, 4);
        StoreFloat(gate_up.view().row(0), dtype, 0, -200.0f);  // e^200 overflows
        auto op = [&](Backend& b, const Activation& out) { b.GatedActivation(kind, gate_up.view(), out); };
        // exp within 2^-20 of its value; where silu(-200) is 0 or as good as, the smallest normal number.
        CompareForms(*reference_, *cpu_, dtype, rows, f, op,
                     [&](size_t, float y) { return 0x1p-20f * std::fabs(y) + StoreError(dtype, y) + 1e-30f; });
      }
    }
  }
}

TEST_P(BackendOpsTest, Rope) {
  for (DType dtype : kActivationTypes) {
    for (auto [tokens, heads, d] : {std::array<int64_t, 3>{1, 1, 2}, {3, 2, 20}, {9, 5, 48}, {4, 3, 128}, {2, 9, 64}}) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << tokens << "x" << heads << "x" << d);
      TestTensor table(DType::kF32, {50, d}, 4);
      for (int64_t p = 0; p < 50; ++p) {
        for (int64_t i = 0; i < d / 2; ++i) {
          float angle =
              static_cast<float>(p) * std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(d));
          static_cast<float*>(table.view().row(p))[i] = std::cos(angle);
          static_cast<float*>(table.view().row(p))[d / 2 + i] = std::sin(angle);
        }
      }
      std::vector<int32_t> positions;
      for (int64_t t = 0; t < tokens; ++t) positions.push_back(static_cast<int32_t>(rng_() % 50));
      TestTensor where = Ints(positions), expected = RandomFloats(rng_, dtype, {tokens, heads, d}, 11),
                 actual(dtype, {tokens, heads, d}, 11);
      for (int64_t t = 0; t < tokens; ++t) {
        std::memcpy(actual.view().row(t), expected.view().row(t), static_cast<size_t>(heads * d * SizeOf(dtype)));
      }
      reference_->Rope(RopeStyle::kHalves, table.view(), where.view(), expected.view());
      cpu_->Rope(RopeStyle::kHalves, table.view(), where.view(), actual.view());
      ASSERT_NO_FATAL_FAILURE(ExpectOk());
      // Two products (of at most 5) and a sum, three roundings in either; a fused one may skip one.
      ExpectNear(expected, actual, [&](size_t, float y) { return 6 * kRound * 5 + StoreError(dtype, y); });
    }
  }
}

TEST_P(BackendOpsTest, AppendKvIsExact) {
  for (DType dtype : kActivationTypes) {
    for (KvFormat key_format : kKvFormats) {
      for (KvFormat value_format : kKvFormats) {
        for (auto [heads, d] : {std::pair<int64_t, int64_t>{1, 20}, {3, 64}, {2, 47}}) {
          SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << int(key_format) << "/" << int(value_format) << " "
                                            << heads << "x" << d);
          Rng same = rng_, again = rng_;
          std::vector<int32_t> begins = {0, 30, 64}, ends = {5, 40, 65};
          CacheCase expected(same, key_format, value_format, heads, d, begins, ends),
              actual(again, key_format, value_format, heads, d, begins, ends);
          int64_t tokens = expected.batch().tokens();
          TestTensor k = RandomFloats(rng_, dtype, {tokens, heads, d}, 8),
                     v = RandomFloats(rng_, dtype, {tokens, heads, d}, 8);
          std::memset(k.view().row(1), 0, static_cast<size_t>(heads * d * SizeOf(dtype)));  // the scale's floor decides
          reference_->AppendKv(k.view(), v.view(), expected.batch(), expected.kv());
          cpu_->AppendKv(k.view(), v.view(), actual.batch(), actual.kv());
          ASSERT_NO_FATAL_FAILURE(ExpectOk());
          EXPECT_EQ(expected.Contents(), actual.Contents());  // the slots that no token has are poisoned still
          EXPECT_TRUE(actual.GuardsIntact());
        }
      }
    }
  }
}

// A block is taken over from another sequence as it is: nothing of what it held stays, its scales least of all.
TEST_P(BackendOpsTest, ASlotThatIsWrittenAgainKeepsNothingOfWhatItHeld) {
  constexpr int64_t kHeads = 3, kDim = 47;
  const std::vector<int32_t> begins = {0, 30, 64}, ends = {5, 40, 65};
  for (KvFormat format : kKvFormats) {
    for (float before : {100.0f, 0.01f}) {
      SCOPED_TRACE(::testing::Message() << int(format) << " after values of " << before);
      const Rng tables = rng_;
      Rng same = tables;
      CacheCase fresh(same, format, format, kHeads, kDim, begins, ends);
      const int64_t tokens = fresh.batch().tokens();
      TestTensor old = RandomFloats(rng_, DType::kF32, {tokens, kHeads, kDim}, 0, before),
                 k = RandomFloats(rng_, DType::kF32, {tokens, kHeads, kDim}),
                 v = RandomFloats(rng_, DType::kF32, {tokens, kHeads, kDim});
      reference_->AppendKv(k.view(), v.view(), fresh.batch(), fresh.kv());
      for (Backend* backend : {reference_.get(), cpu_.get()}) {
        Rng again = tables;
        CacheCase used(again, format, format, kHeads, kDim, begins, ends);
        backend->AppendKv(old.view(), old.view(), used.batch(), used.kv());
        backend->AppendKv(k.view(), v.view(), used.batch(), used.kv());
        ASSERT_NO_FATAL_FAILURE(ExpectOk());
        EXPECT_EQ(fresh.Contents(), used.Contents());
      }
    }
  }
}

TEST_P(BackendOpsTest, PagedAttention) {
  for (AttentionSize c : {AttentionSize{1, 1, 20}, {4, 4, 32}, {6, 2, 48}, {9, 3, 64}, {8, 1, 80}, {16, 2, 128}}) {
    for (auto [keys, values] : {std::pair{KvFormat::kF32, KvFormat::kF32},
                                {KvFormat::kBF16, KvFormat::kBF16},
                                {KvFormat::kInt8, KvFormat::kInt8},
                                {KvFormat::kInt8, KvFormat::kBF16},
                                {KvFormat::kF32, KvFormat::kInt8}}) {
      for (DType dtype : kActivationTypes) {
        SCOPED_TRACE(::testing::Message() << c.heads << "/" << c.kv_heads << " heads of " << c.d << ", KV " << int(keys)
                                          << "/" << int(values) << " " << Name(dtype));
        std::vector<int32_t> begins = {0, 69, 30, 31}, ends = {1, 70, 43, 33};
        CacheCase cache = FilledCache(*reference_, rng_, keys, values, c, begins, ends);
        int64_t tokens = cache.batch().tokens();
        TestTensor q = RandomFloats(rng_, dtype, {tokens, c.heads, c.d}, 10);
        float scale = 1 / std::sqrt(static_cast<float>(c.d));
        auto op = [&](Backend& b, const Activation& out) {
          b.PagedAttention(q.view(), cache.kv(), cache.batch(), scale, out);
        };
        const float error = testing::AttentionError(c.d, 70);
        CompareForms(*reference_, *cpu_, dtype, tokens, c.heads * c.d, op,
                     [&](size_t, float y) { return error + StoreError(dtype, y); });
      }
    }
  }
}

// A prompt's chunks give what the whole gives, bit for bit, also if a token's values are not finite.
TEST_P(BackendOpsTest, ChunkedPrefillEqualsWholePrefill) {
  for (auto [format, bad] : {std::pair{KvFormat::kF32, 1.0f},
                             {KvFormat::kBF16, 1.0f},
                             {KvFormat::kInt8, 1.0f},
                             {KvFormat::kF32, INFINITY},
                             {KvFormat::kBF16, NAN},
                             {KvFormat::kF32, -INFINITY}}) {
    SCOPED_TRACE(::testing::Message() << Name(KvDType(format)) << " " << bad);
    AttentionSize c{9, 3, 64};
    constexpr int32_t kTokens = 75;
    CacheCase whole = FilledCache(*reference_, rng_, format, format, c, {0}, {kTokens});
    if (format != KvFormat::kInt8) {
      const int32_t block = whole.batch().block_tables.as<int32_t>()[1], token = 15;  // position 47
      const int64_t slot = (block * c.kv_heads * kKvBlockTokens + token) * c.d;
      StoreFloat(whole.kv().values.data(), KvDType(format), slot + 3, bad);
    }
    TestTensor q = RandomFloats(rng_, DType::kBF16, {kTokens, c.heads, c.d});
    TestTensor expected(DType::kBF16, {kTokens, c.heads * c.d}), actual(DType::kBF16, {kTokens, c.heads * c.d});
    cpu_->PagedAttention(q.view(), whole.kv(), whole.batch(), 0.125f, {expected.view(), {}, {}});
    for (auto [begin, end] : {std::pair{0, 1}, {1, 32}, {32, 33}, {33, 42}, {42, 64}, {64, 75}}) {
      TestTensor starts = Ints({0, end - begin});
      Tensor positions = whole.batch().positions.Rows(begin, end - begin);
      RaggedBatch batch{positions, positions, starts.view(), whole.batch().block_tables};
      cpu_->PagedAttention(q.view().Rows(begin, end - begin), whole.kv(), batch, 0.125f,
                           {actual.view().Rows(begin, end - begin), {}, {}});
    }
    ASSERT_NO_FATAL_FAILURE(ExpectOk());
    EXPECT_EQ(expected.Bytes(), actual.Bytes());
  }
}

// What is not finite cannot pass for a number: it makes the scale of its row NaN, and the row's codes and all other
// rows are the same in both.
TEST_P(BackendOpsTest, ValuesThatAreNotFiniteMakeTheScaleOfTheirRowNan) {
  constexpr int64_t kRows = 3, kColumns = 77;
  for (DType dtype : kActivationTypes) {
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      for (int64_t at : {0, 40, 76}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << bad << " at " << at);
        TestTensor gate_up = RandomFloats(rng_, dtype, {kRows, 2 * kColumns});
        StoreFloat(gate_up.view().row(1), dtype, kColumns + at, bad);  // silu(g) * u: of u
        Forms expected(dtype, kRows, kColumns), actual(dtype, kRows, kColumns);
        reference_->GatedActivation(ActivationKind::kNone, gate_up.view(), expected.all());
        cpu_->GatedActivation(ActivationKind::kNone, gate_up.view(), actual.all());
        ASSERT_NO_FATAL_FAILURE(ExpectOk());
        std::vector<float> a = expected.scales.Floats(), b = actual.scales.Floats();
        EXPECT_TRUE(std::isnan(a[1]) && std::isnan(b[1])) << a[1] << " and " << b[1];
        EXPECT_EQ(a[0], b[0]);
        EXPECT_EQ(a[2], b[2]);
        EXPECT_EQ(expected.quantized.Bytes(), actual.quantized.Bytes());
        // So every product of the row is NaN, and no other.
        TestTensor weights = RandomFloats(rng_, DType::kF32, {5, kColumns}, 0, 0.1f), out_a(DType::kF32, {kRows, 5}),
                   out_b(DType::kF32, {kRows, 5});
        auto w = testing::PackForBoth(*reference_, *cpu_, weights.view(), "int8_dynamic_activation_int8_weight");
        reference_->Linear(expected.all(), *w.a, {}, out_a.view());
        cpu_->Linear(actual.all(), *w.b, {}, out_b.view());
        ASSERT_NO_FATAL_FAILURE(ExpectOk());
        for (const TestTensor* out : {&out_a, &out_b}) {
          std::vector<float> y = out->Floats();
          for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i / 5 == 1) << i;
        }
      }
    }
  }
}

// A NaN in a token's key or value reaches every token that reads it and no token before it, in every format of the
// cache.
TEST_P(BackendOpsTest, NanInTheCacheReachesTheTokensThatReadIt) {
  constexpr int64_t kTokens = 40;
  constexpr AttentionSize c{4, 2, 20};
  for (KvFormat format : kKvFormats) {
    for (auto [in_key, bad] : {std::pair{false, 32}, {false, 35}, {false, 9}, {true, 32}, {true, 9}}) {
      for (Backend* backend : {reference_.get(), cpu_.get()}) {
        SCOPED_TRACE(::testing::Message()
                     << Name(KvDType(format)) << (in_key ? " key " : " value ") << bad << " " << backend->device().id);
        CacheCase cache(rng_, format, format, c.kv_heads, c.d, {0}, {kTokens});
        TestTensor k = RandomFloats(rng_, DType::kF32, {kTokens, c.kv_heads, c.d}),
                   v = RandomFloats(rng_, DType::kF32, {kTokens, c.kv_heads, c.d}),
                   q = RandomFloats(rng_, DType::kF32, {kTokens, c.heads, c.d});
        TestTensor out(DType::kF32, {kTokens, c.heads * c.d});
        float* row = static_cast<float*>((in_key ? k : v).view().row(bad));
        for (int64_t i = 0; i < c.d; ++i) row[i] = NAN;  // of the first KV head, which the first two heads read
        backend->AppendKv(k.view(), v.view(), cache.batch(), cache.kv());
        backend->PagedAttention(q.view(), cache.kv(), cache.batch(), 0.2f, {out.view(), {}, {}});
        ASSERT_NO_FATAL_FAILURE(ExpectOk());
        std::vector<float> y = out.Floats();
        for (int64_t i = 0; i < static_cast<int64_t>(y.size()); ++i) {
          const int64_t token = i / (c.heads * c.d), head = i / c.d % c.heads;
          ASSERT_EQ(std::isnan(y[static_cast<size_t>(i)]), token >= bad && head < 2) << token << " head " << head;
        }
      }
    }
  }
}

TEST_P(BackendOpsTest, GatherRowsIsExact) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kI8}) {
    TestTensor x(dtype, {11, 45}, 3);
    for (int64_t r = 0; r < 11; ++r) {
      for (int64_t i = 0; i < 45 * SizeOf(dtype); ++i)
        static_cast<uint8_t*>(x.view().row(r))[i] = static_cast<uint8_t>(rng_());
    }
    TestTensor rows = Ints({10, 0, 3, 3}), expected(dtype, {4, 45}, 6), actual(dtype, {4, 45}, 6);
    reference_->GatherRows(x.view(), rows.view(), expected.view());
    cpu_->GatherRows(x.view(), rows.view(), actual.view());
    ASSERT_NO_FATAL_FAILURE(ExpectOk());
    EXPECT_EQ(expected.Bytes(), actual.Bytes());
    EXPECT_TRUE(actual.GuardsIntact());
  }
}

TEST_P(BackendOpsTest, CopyKvBlocksIsExact) {
  for (KvFormat format : kKvFormats) {
    Rng same = rng_, again = rng_;
    CacheCase expected = FilledCache(*reference_, same, format, KvFormat::kInt8, {2, 2, 20}, {0}, {90});
    CacheCase actual = FilledCache(*reference_, again, format, KvFormat::kInt8, {2, 2, 20}, {0}, {90});
    const int32_t src[] = {0, 2, 4}, dst[] = {1, 3, 5};
    std::vector<uint8_t> before = actual.Contents();
    reference_->CopyKvBlocks(expected.kv(), src, dst);
    cpu_->CopyKvBlocks(actual.kv(), src, dst);
    ASSERT_NO_FATAL_FAILURE(ExpectOk());
    EXPECT_EQ(expected.Contents(), actual.Contents());
    EXPECT_NE(before, actual.Contents());
  }
}

TEST_P(BackendOpsTest, SampleIsExact) {
  constexpr int64_t kRows = 18, kVocab = 1003;
  const auto logits = [seed = rng_] {  // the same each time: Sample changes its rows
    Rng rng = seed;
    TestTensor tensor = RandomFloats(rng, DType::kF32, {kRows, kVocab}, 5, 3);
    static_cast<float*>(tensor.view().row(4))[kVocab - 1] = NAN;
    return tensor;
  };
  const SamplingParams params[] = {
      {.temperature = 0}, {.temperature = 1}, {.top_k = 7}, {.top_p = 0.8f}, {.min_p = 0.05f}};
  const int32_t suppressed[] = {1, 500}, banned[] = {7};
  std::vector<SeenToken> seen;
  std::vector<int32_t> context;
  for (int32_t i = 0; i < 300; ++i) {
    seen.push_back({i * 3, i % 4});
    context.push_back(i * 7 % 50);
  }
  std::vector<SamplingRow> rows;
  for (uint64_t i = 0; i < kRows; ++i) {
    SamplingRow row;
    row.params = params[i % 5];
    row.params.seed = i;
    if (i % 2 == 1) {
      row.params.repetition_penalty = 1.3f;
      row.params.presence_penalty = 0.5f;
      row.params.frequency_penalty = 0.25f;
      row.params.no_repeat_ngram_size = 2;
    }
    row.output_index = static_cast<uint32_t>(i);
    row.position = 10 + i;
    row.seen = seen;
    row.context = context;
    row.banned_ids = banned;
    row.suppressed_ids = suppressed;
    rows.push_back(row);
  }
  std::vector<SampleResult> expected(kRows), actual(kRows), alone(1);
  const TestTensor for_reference = logits(), for_cpu = logits(), for_alone = logits();
  reference_->Sample(for_reference.view(), rows, expected);
  cpu_->Sample(for_cpu.view(), rows, actual);
  EXPECT_EQ(for_reference.Bytes(), for_cpu.Bytes());
  for (size_t i = 0; i < kRows; ++i) {
    EXPECT_EQ(expected[i].token, actual[i].token) << i;
    cpu_->Sample(for_alone.view().Rows(static_cast<int64_t>(i), 1), std::span(&rows[i], 1), alone);
    EXPECT_EQ(alone[0].token, actual[i].token) << i;
  }
  ExpectOk();
  EXPECT_EQ(actual[4].token, -1);
}

// Long enough that rows are sampled at the same time.
TEST_P(BackendOpsTest, RowsThatAreSampledTogetherDoNotMixTheirLogits) {
  constexpr int64_t kRows = 8, kVocab = 100003;
  const TestTensor together = RandomFloats(rng_, DType::kF32, {kRows, kVocab}, 0, 3);
  std::vector<SamplingRow> rows(kRows);
  for (size_t i = 0; i < kRows; ++i) {
    rows[i].params = {.temperature = 1, .top_p = 0.9f, .seed = i};
    rows[i].position = i;
  }
  std::vector<SampleResult> expected(kRows), actual(kRows);
  reference_->Sample(together.view(), rows, expected);
  for (int round = 0; round < 4; ++round) {
    cpu_->Sample(together.view(), rows, actual);
    for (size_t i = 0; i < kRows; ++i) EXPECT_EQ(expected[i].token, actual[i].token) << i;
  }
  ExpectOk();
}

TEST_P(BackendOpsTest, SampleRefusesPenaltiesThatAreNoNumbers) {
  TestTensor logits = RandomFloats(rng_, DType::kF32, {1, 8});
  std::vector<SampleResult> results(1);
  for (SamplingParams params : {SamplingParams{.repetition_penalty = 0}, SamplingParams{.repetition_penalty = NAN},
                                SamplingParams{.presence_penalty = INFINITY}, SamplingParams{.frequency_penalty = NAN},
                                SamplingParams{.no_repeat_ngram_size = -1}}) {
    SamplingRow row;
    row.params = params;
    for (Backend* backend : {reference_.get(), cpu_.get()}) {
      backend->Sample(logits.view(), std::span(&row, 1), results);
      EXPECT_EQ(backend->Synchronize().code(), absl::StatusCode::kInvalidArgument);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, BackendOpsTest, ::testing::Values("portable", "avx2"),
                         [](const auto& param_info) { return param_info.param; });

}  // namespace
}  // namespace quantd
