// The reference against numbers worked out by hand or in double from the definitions, and the checks of arguments,
// which it shares with the cpu backend.
#include "kernels/reference/reference_backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "tests/testing/golden_tensors.h"
#include "tests/testing/op_harness.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using testing::CacheCase;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Ints;
using testing::RandomFloats;
using testing::Rng;
using testing::TestTensor;

constexpr MemoryTag kTag{MemoryComponent::kWeights, 3};

TestTensor Floats(const std::vector<float>& values, Shape shape) {
  TestTensor tensor(DType::kF32, shape);
  StoreFloats(values.data(), static_cast<int64_t>(values.size()), tensor.view().data(), DType::kF32);
  return tensor;
}

class ReferenceTest : public ::testing::Test {
 protected:
  std::unique_ptr<DeviceWeight> Pack(const Tensor& weights, const std::string& scheme) {
    return backend_->Pack(Quantize(weights, ParseQuantScheme(scheme).value())->view(), kTag).value();
  }
  void ExpectOk() {
    absl::Status status = backend_->Synchronize();
    EXPECT_TRUE(status.ok()) << status;
  }
  std::unique_ptr<Backend> backend_ = CreateBackend("reference", {}).value();
  Rng rng_{99};
};

TEST_F(ReferenceTest, LinearAppliesBiasThenActivationThenResidual) {
  TestTensor weights = Floats({1, 2, -1, 0.5f}, {2, 2}), x = Floats({3, 4}, {1, 2}), bias = Floats({-10, 2}, {2});
  TestTensor residual = Floats({100, 200}, {1, 2}), out(DType::kF32, {1, 2});
  auto w = Pack(weights.view(), "f32");
  backend_->Linear({x.view(), {}, {}}, *w, {}, out.view());
  EXPECT_THAT(out.Floats(), ElementsAre(11, -1));
  backend_->Linear({x.view(), {}, {}}, *w, {bias.view(), residual.view(), ActivationKind::kSilu}, out.view());
  ExpectOk();
  auto silu = [](float v) { return v / (1 + std::exp(-v)); };
  EXPECT_THAT(out.Floats(), ElementsAre(silu(1) + 100, silu(1) + 200));
}

TEST_F(ReferenceTest, LinearStoresBf16RoundedOnce) {
  TestTensor weights = Floats({1, 0x1p-8f}, {1, 2}), x = Floats({1, 1}, {1, 2}), residual(DType::kBF16, {1, 1});
  TestTensor x16(DType::kBF16, {1, 2}), out(DType::kBF16, {1, 1});
  StoreFloats(x.Floats().data(), 2, x16.view().data(), DType::kBF16);
  StoreFloat(residual.view().data(), DType::kBF16, 0, 0x1p-8f);
  backend_->Linear({x16.view(), {}, {}}, *Pack(weights.view(), "bf16"), {{}, residual.view(), ActivationKind::kNone},
                   out.view());
  ExpectOk();
  EXPECT_THAT(out.Floats(),
              ElementsAre(1 + 0x1p-7f));  // rounding before the residual would lose 2^-8 (a tie, to even) twice
}

TEST_F(ReferenceTest, DynamicInt8MatchesTheGoldens) {
  auto golden = testing::ReadGoldenTensors(testing::SourcePath("tests/goldens/quant/quant.safetensors"));
  TestTensor weights = Floats(golden.at("weights").f32, {6, 256}), x = Floats(golden.at("activations").f32, {5, 256});
  auto w = Pack(weights.view(), "int8_dynamic_activation_int8_weight");
  // The quantizer of activations runs behind an activation of 1 * x: gate 1, no function.
  TestTensor gate_up(DType::kF32, {5, 512}), codes(DType::kI8, {5, 256}), scales(DType::kF32, {5}),
      out(DType::kF32, {5, 6});
  for (int64_t t = 0; t < 5; ++t) {
    auto* row = static_cast<float*>(gate_up.view().row(t));
    std::fill_n(row, 256, 1.0f);
    std::copy_n(static_cast<float*>(x.view().row(t)), 256, row + 256);
  }
  backend_->GatedActivation(ActivationKind::kNone, gate_up.view(), {{}, codes.view(), scales.view()});
  backend_->Linear({{}, codes.view(), scales.view()}, *w, {}, out.view());
  ExpectOk();
  const std::vector<int32_t>& expected_codes = golden.at("activation.codes").i32;
  EXPECT_EQ(codes.Floats(), std::vector<float>(expected_codes.begin(), expected_codes.end()));
  EXPECT_EQ(scales.Floats(), golden.at("activation.scales").f32);
  const std::vector<float>& expected = golden.at("int8_dynamic.output").f32;
  std::vector<float> actual = out.Floats();
  // float(acc), sx*sw and their product round once each; the golden is rounded once.
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(actual[i], expected[i], std::fabs(expected[i]) * 4 * 0x1p-24) << i;
}

TEST_F(ReferenceTest, ActivationsQuantizeAsTheSampleRow) {
  TestTensor x = Floats({0.5f, -0.25f, 1, -1, 0.126f, 0, 0.75f, -0.999f}, {1, 8}),
             ones = Floats(std::vector<float>(8, 1.0f), {8});
  TestTensor gate_up(DType::kF32, {1, 16}), codes(DType::kI8, {1, 8}), scales(DType::kF32, {1});
  std::fill_n(gate_up.view().as<float>(), 8, 1.0f);
  std::copy_n(x.view().as<float>(), 8, gate_up.view().as<float>() + 8);
  backend_->GatedActivation(ActivationKind::kNone, gate_up.view(), {{}, codes.view(), scales.view()});
  ExpectOk();
  EXPECT_THAT(codes.Floats(), ElementsAre(64, -32, 127, -127, 16, 0, 95, -127));
  EXPECT_THAT(scales.Floats(), ElementsAre(1 / 127.0f));
}

TEST_F(ReferenceTest, EmbeddingTakesRows) {
  TestTensor weights = Floats({1, 2, 3, 4, 5, 6}, {3, 2}), ids = Ints({2, 0, 2}), out(DType::kF32, {3, 2});
  backend_->Embedding(ids.view(), *Pack(weights.view(), "f16"), out.view());
  ExpectOk();
  EXPECT_THAT(out.Floats(), ElementsAre(5, 6, 1, 2, 5, 6));
}

TEST_F(ReferenceTest, RmsNormDividesByTheRootOfTheMeanSquare) {
  TestTensor x = Floats({3, 4, 0, 0}, {1, 4}), weight = Floats({1, 2, 3, 4}, {4}), out(DType::kF32, {1, 4});
  backend_->RmsNorm(x.view(), weight.view(), 0, {out.view(), {}, {}});  // the root of 25/4 is 2.5
  ExpectOk();
  std::vector<float> y = out.Floats();
  EXPECT_NEAR(y[0], 1.2, 2e-7);  // two roundings of 2^-24
  EXPECT_NEAR(y[1], 3.2, 6e-7);
  EXPECT_EQ(y[2], 0);
}

TEST_F(ReferenceTest, RopeTurnsPairsOfHalves) {
  TestTensor table = Floats({1, 1, 0, 0, /* a quarter turn of pair 0 */ 0, 1, 1, 0}, {2, 4}), positions = Ints({1, 0});
  TestTensor x = Floats({1, 2, 3, 4, 5, 6, 7, 8}, {2, 1, 4});
  backend_->Rope(RopeStyle::kHalves, table.view(), positions.view(), x.view());
  ExpectOk();
  EXPECT_THAT(x.Floats(), ElementsAre(-3, 2, 1, 4, 5, 6, 7, 8));
}

// softmax(q K^T scale) V in double, over keys and values given per position.
TEST_F(ReferenceTest, AttentionIsCausalSoftmaxOverTheCache) {
  constexpr int64_t kHeads = 4, kKvHeads = 2, kD = 6;
  constexpr int32_t kTokens = 40;
  CacheCase cache(rng_, KvFormat::kF32, KvFormat::kF32, kKvHeads, kD, {0}, {kTokens});
  TestTensor k = RandomFloats(rng_, DType::kF32, {kTokens, kKvHeads, kD}),
             v = RandomFloats(rng_, DType::kF32, {kTokens, kKvHeads, kD});
  TestTensor q = RandomFloats(rng_, DType::kF32, {kTokens, kHeads, kD}), out(DType::kF32, {kTokens, kHeads * kD});
  backend_->AppendKv(k.view(), v.view(), cache.batch(), cache.kv());
  backend_->PagedAttention(q.view(), cache.kv(), cache.batch(), 0.4f, {out.view(), {}, {}});
  ExpectOk();
  auto at = [](const TestTensor& t, int64_t token, int64_t head, int64_t d) {
    return double{static_cast<const float*>(t.view().row(token))[head * kD + d]};
  };
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t h = 0; h < kHeads; ++h) {
      std::vector<double> weights;
      for (int64_t p = 0; p <= t; ++p) {
        double score = 0;
        for (int64_t d = 0; d < kD; ++d) score += at(q, t, h, d) * at(k, p, h / 2, d);
        weights.push_back(std::exp(score * 0.4));
      }
      double total = std::accumulate(weights.begin(), weights.end(), 0.0);
      for (int64_t d = 0; d < kD; ++d) {
        double expected = 0;
        for (int64_t p = 0; p <= t; ++p) expected += weights[static_cast<size_t>(p)] / total * at(v, p, h / 2, d);
        // Up to 40 weights of relative error 2^-20 (scores below 10 in f32) on values below 5.
        ASSERT_NEAR(static_cast<const float*>(out.view().row(t))[h * kD + d], expected, 5 * 0x1p-20);
      }
    }
  }
}

TEST_F(ReferenceTest, Int8CacheHoldsCodesAndScalesOfEachTokenAndHead) {
  CacheCase cache(rng_, KvFormat::kInt8, KvFormat::kBF16, 1, 4, {33}, {34});
  TestTensor k = Floats({1, -2, 0.5f, 0}, {1, 1, 4}), v = Floats({1, 2, 3, 1 + 0x1p-9f}, {1, 1, 4});
  backend_->AppendKv(k.view(), v.view(), cache.batch(), cache.kv());
  ExpectOk();
  int64_t slot = static_cast<const int32_t*>(cache.batch().block_tables.data())[1] * int64_t{kKvBlockTokens} + 1;
  EXPECT_EQ(cache.kv().key_scales.as<float>()[slot], 2 / 127.0f);
  const int8_t* codes = cache.kv().keys.as<int8_t>() + slot * 4;
  EXPECT_THAT(std::vector<int>(codes, codes + 4), ElementsAre(64, -127, 32, 0));
  EXPECT_EQ(Bf16ToF32(cache.kv().values.as<uint16_t>()[slot * 4 + 3]), 1);  // rounded
}

// Each wrong call: what its message says. None writes its output.
struct WrongCall {
  const char* message;
  std::function<void(Backend&, const Tensor& out)> call;
};

class OpErrorTest : public ::testing::TestWithParam<std::string> {};

TEST_P(OpErrorTest, WrongArgumentsAreNamedAndStickUntilSynchronize) {
  std::unique_ptr<Backend> backend =
      GetParam() == "reference" ? CreateBackend("reference", {}).value() : testing::CpuBackendOrNull(GetParam());
  if (backend == nullptr) GTEST_SKIP() << "hardware: " << GetParam();
  Rng rng(5);
  TestTensor weights = RandomFloats(rng, DType::kF32, {128, 96}), x = RandomFloats(rng, DType::kF32, {3, 64}),
             x96 = RandomFloats(rng, DType::kF32, {3, 96});
  auto pack = [&](const char* scheme) {
    return backend->Pack(Quantize(weights.view(), ParseQuantScheme(scheme).value())->view(), kTag).value();
  };
  auto w = pack("bf16"), dynamic = pack("int8_dynamic_activation_int8_weight");
  TestTensor bad_ids = Ints({0, 128, 1}), negative = Ints({-1, 0, 0}), three = Ints({0, 1, 2}),
             table = RandomFloats(rng, DType::kF32, {2, 4});
  TestTensor heads = RandomFloats(rng, DType::kF32, {3, 1, 4}), norm = RandomFloats(rng, DType::kF32, {64}),
             doubles(DType::kI64, {3, 128});
  CacheCase cache(rng, KvFormat::kF32, KvFormat::kF32, 1, 4, {0}, {3}),
      outside(rng, KvFormat::kF32, KvFormat::kF32, 1, 4, {0}, {3}),
      late(rng, KvFormat::kF32, KvFormat::kF32, 1, 4, {0}, {3}),
      ragged(rng, KvFormat::kF32, KvFormat::kF32, 1, 4, {0}, {3});
  CacheCase beyond(rng, KvFormat::kF32, KvFormat::kF32, 1, 4, {0, 0}, {1, 2});
  beyond.batch().seq_starts.as<int32_t>()[1] = 100000;  // it comes back to 3: no token may be looked at on the way
  outside.batch().block_tables.as<int32_t>()[0] = 99;
  late.batch().positions.as<int32_t>()[2] = 32;
  ragged.batch().seq_starts.as<int32_t>()[1] = 2;
  TestTensor attended(DType::kF32, {3, 4});
  std::vector<SampleResult> results(3);
  std::vector<SamplingRow> rows(3), hot(3);
  hot[1].params.temperature = -1;
  const int32_t far_block[] = {77}, block[] = {0};

  const WrongCall calls[] = {
      {"Linear: x f32 [3, 64] with W [128, 96] bf16: x.values is f32 [3, 64], expected f32 [3, 96]",
       [&](Backend& b, const Tensor& out) {
         b.Linear({x.view(), {}, {}}, *w, {}, out);
       }},
      {"x.values is absent", [&](Backend& b, const Tensor& out) { b.Linear({}, *w, {}, out); }},
      {"x.quantized is absent, expected i8",
       [&](Backend& b, const Tensor& out) {
         b.Linear({x96.view(), {}, {}}, *dynamic, {}, out);
       }},
      {"out is f32 [3, 64], expected f32 [3, 128]",
       [&](Backend& b, const Tensor&) {
         b.Linear({x96.view(), {}, {}}, *w, {}, x.view());
       }},
      {"out is i64 [3, 128], expected f32 or bf16",
       [&](Backend& b, const Tensor&) {
         b.Linear({x96.view(), {}, {}}, *w, {}, doubles.view());
       }},
      {"bias is f32 [64], expected f32 [128]",
       [&](Backend& b, const Tensor& out) {
         b.Linear({x96.view(), {}, {}}, *w, {norm.view(), {}, ActivationKind::kNone}, out);
       }},
      {"residual is f32 [3, 64], expected f32 [3, 128]",
       [&](Backend& b, const Tensor& out) {
         b.Linear({x96.view(), {}, {}}, *w, {{}, x.view(), ActivationKind::kNone}, out);
       }},
      {"Embedding: ids i32 [3] of W [128, 96] bf16: ids[1] is 128, outside the 128 rows of the table",
       [&](Backend& b, const Tensor& out) { b.Embedding(bad_ids.view(), *w, out.Columns(0, 96)); }},
      {"ids[0] is -1", [&](Backend& b, const Tensor& out) { b.Embedding(negative.view(), *w, out.Columns(0, 96)); }},
      {"RmsNorm: x f32 [3, 96] with weight f32 [64]: weight is f32 [64], expected f32 [96]",
       [&](Backend& b, const Tensor& out) {
         b.RmsNorm(x96.view(), norm.view(), 1e-5f, {out.Columns(0, 96), {}, {}});
       }},
      {"eps is -1",
       [&](Backend& b, const Tensor& out) {
         b.RmsNorm(x.view(), norm.view(), -1, {out.Columns(0, 64), {}, {}});
       }},
      {"out has no form to write", [&](Backend& b, const Tensor&) { b.RmsNorm(x.view(), norm.view(), 1e-5f, {}); }},
      {"GatedActivation: gate_up f32 [3, 64]: out.values is f32 [3, 128], expected f32 [3, 32]",
       [&](Backend& b, const Tensor& out) {
         b.GatedActivation(ActivationKind::kSilu, x.view(), {out, {}, {}});
       }},
      {"Rope: positions i32 [3] with cos_sin f32 [2, 4]: positions[2] is 2, outside the 2 positions of the table",
       [&](Backend& b, const Tensor&) { b.Rope(RopeStyle::kHalves, table.view(), three.view(), heads.view()); }},
      {"AppendKv: tokens i32 [3] into keys f32 [4, 1, 32, 4]: block_tables[0, 0] is 99, outside the 4 blocks",
       [&](Backend& b, const Tensor&) { b.AppendKv(heads.view(), heads.view(), outside.batch(), outside.kv()); }},
      {"positions[2] is 32, outside a table of 1 blocks of 32",
       [&](Backend& b, const Tensor&) { b.AppendKv(heads.view(), heads.view(), late.batch(), late.kv()); }},
      {"seq_starts runs from 0 to 2, expected 0 to 3",
       [&](Backend& b, const Tensor&) { b.AppendKv(heads.view(), heads.view(), ragged.batch(), ragged.kv()); }},
      {"seq_starts[1] is 100000, above the next, 3",
       [&](Backend& b, const Tensor&) { b.AppendKv(heads.view(), heads.view(), beyond.batch(), beyond.kv()); }},
      {"seq_starts[1] is 100000, above the next, 3",
       [&](Backend& b, const Tensor&) {
         b.PagedAttention(heads.view(), beyond.kv(), beyond.batch(), 1, {attended.view(), {}, {}});
       }},
      {"PagedAttention: tokens i32 [3] with keys f32 [4, 1, 32, 4]: block_tables[0, 0] is 99",
       [&](Backend& b, const Tensor&) {
         b.PagedAttention(heads.view(), outside.kv(), outside.batch(), 1, {attended.view(), {}, {}});
       }},
      {"out.values is f32 [3, 128], expected f32 [3, 4]",
       [&](Backend& b, const Tensor& out) {
         b.PagedAttention(heads.view(), cache.kv(), cache.batch(), 1, {out, {}, {}});
       }},
      {"GatherRows: x f32 [3, 128] rows i32 [3]: rows[1] is 128, outside the 3 rows of x",
       [&](Backend& b, const Tensor& out) { b.GatherRows(out, bad_ids.view(), out); }},
      {"CopyKvBlocks: keys f32 [4, 1, 32, 4]: block 77 lies outside the 4 blocks",
       [&](Backend& b, const Tensor&) { b.CopyKvBlocks(cache.kv(), block, far_block); }},
      {"Sample: logits f32 [3, 64] for 3 rows: temperature -1",
       [&](Backend& b, const Tensor&) { b.Sample(x.view(), hot, results); }},
      {"expected f32 [2, 64]",
       [&](Backend& b, const Tensor&) { b.Sample(x.view(), std::span(rows).first(2), results); }},
      {"CopyIn: f32 [3, 96] is absent or has gaps between its rows",
       [&](Backend& b, const Tensor& out) { b.CopyIn(weights.view().data(), out.Columns(0, 96)); }},
  };
  for (const WrongCall& wrong : calls) {
    TestTensor out(DType::kF32, {3, 128});
    wrong.call(*backend, out.view());
    backend->Linear({x96.view(), {}, {}}, *w, {}, out.view());  // right, but after the error
    EXPECT_EQ(out.Bytes(), TestTensor(DType::kF32, {3, 128}).Bytes()) << wrong.message;
    absl::Status status = backend->Synchronize();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << wrong.message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.message));
    EXPECT_TRUE(backend->Synchronize().ok());
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, OpErrorTest, ::testing::Values("reference", "portable", "avx2"),
                         [](const auto& param_info) { return param_info.param; });

TEST_F(ReferenceTest, BuffersAreCountedByTagAndGivenBack) {
  auto buffer = backend_->Allocate(1000, {MemoryComponent::kKvCache, 3});
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
  TestTensor weights = RandomFloats(rng_, DType::kF32, {4, 64});
  auto w = Pack(weights.view(), "int4_weight_only,group_size=32");
  EXPECT_EQ(w->bytes(), 4 * 32 + 2 * (4 * 2 * 2));  // codes; bf16 scales and zeros of two groups a row
  EXPECT_EQ(backend_->memory().models.at(3).bytes, (std::array<int64_t, 3>{w->bytes(), 1000, 0}));
  *buffer = Buffer();
  w.reset();
  EXPECT_EQ(backend_->memory().models.at(3).total(), 0);
  EXPECT_EQ(backend_->memory().peak_bytes.at(3), 1000 + 4 * 32 + 32);
}

TEST_F(ReferenceTest, CopiesGoInAndOut) {
  auto buffer = backend_->Allocate(16, kTag);
  Tensor device(buffer->data(), DType::kI32, {4});
  const int32_t in[] = {1, 2, 3, 4};
  int32_t out[4] = {};
  backend_->CopyIn(in, device);
  backend_->CopyOut(device, out);
  ExpectOk();
  EXPECT_THAT(out, ElementsAre(1, 2, 3, 4));
}

TEST_F(ReferenceTest, DryRunCountsChecksAndTouchesNothing) {
  BackendOptions options;
  options.dry_run = true;
  auto dry = CreateBackend("reference", options).value();
  TestTensor weights = RandomFloats(rng_, DType::kF32, {4, 64});
  QuantizedMatrix matrix = Quantize(weights.view(), ParseQuantScheme("int8_weight_only").value()).value();
  QuantizedView view = matrix.view();
  view.data = Tensor(nullptr, DType::kI8, {4, 64});  // a planner has no weights
  auto w = dry->Pack(view, kTag);
  ASSERT_TRUE(w.ok()) << w.status();
  EXPECT_EQ(dry->memory().models.at(3).total(), 4 * 64 + 4 * 4);
  EXPECT_EQ(dry->Allocate(int64_t{1} << 50, kTag)->data(), nullptr);
  Tensor x(nullptr, DType::kF32, {2, 64}), ids(nullptr, DType::kI32, {2}), out(nullptr, DType::kF32, {2, 4});
  dry->Linear({x, {}, {}}, **w, {}, out);
  dry->Embedding(ids, **w, x);
  EXPECT_TRUE(dry->Synchronize().ok());
  dry->Linear({out, {}, {}}, **w, {}, out);
  EXPECT_EQ(dry->Synchronize().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ReferenceTest, PackRefusesWhatIsNoWeight) {
  QuantizedView view;
  view.n = view.k = 4;
  EXPECT_EQ(backend_->Pack(view, kTag).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(backend_->Supports(ParseQuantScheme("int4_weight_only").value(), 8, 64).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(CreateBackendTest, UnknownKindsAreNamed) {
  absl::Status status = CreateBackend("tpu", {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"tpu\" is unknown; there are: cpu, reference"));
}

}  // namespace
}  // namespace quantd
