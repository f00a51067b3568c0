// What is the cpu backend's own: instruction sets, memory, and results that depend neither on the rows beside them, nor
// on chunks, nor on threads. That its numbers are right, backend_ops_test shows against the reference.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace quantd {
namespace {

constexpr const char* kSchemes[] = {"f32",
                                    "f16",
                                    "bf16",
                                    "int8_weight_only",
                                    "int8_weight_only,group_size=32,params=f16",
                                    "int4_weight_only,group_size=32",
                                    "int4_weight_only,group_size=64",
                                    "int4_weight_only,group_size=128",
                                    "int4_weight_only,group_size=32,zero=min,params=f16",
                                    "int4_weight_only,group_size=32,zero=none,params=f16",
                                    "int8_dynamic_activation_int8_weight"};

// Memory of a tensor, poisoned with NaN bytes.
struct Owned {
  Owned(DType dtype, Shape shape)
      : bytes(static_cast<size_t>(shape.elements() * SizeOf(dtype)), 0xff), tensor(bytes.data(), dtype, shape) {}
  std::vector<uint8_t> bytes;
  Tensor tensor;
};

Owned RandomFloats(DType dtype, Shape shape, uint32_t seed) {
  Owned result(dtype, shape);
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < shape.elements(); ++i) StoreFloat(result.bytes.data(), dtype, i, normal(rng));
  return result;
}

Owned Ints(const std::vector<int32_t>& values, Shape shape) {
  Owned result(DType::kI32, shape);
  std::memcpy(result.bytes.data(), values.data(), result.bytes.size());
  return result;
}
Owned Ints(const std::vector<int32_t>& values) { return Ints(values, {static_cast<int64_t>(values.size())}); }

BackendOptions Options(int threads, std::string isa = "", bool dry_run = false) {
  BackendOptions options;
  options.threads = threads;
  options.dry_run = dry_run;
  options.isa = std::move(isa);
  return options;
}

class CpuBackendTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    backend_ = Make(2);
    if (backend_ == nullptr) GTEST_SKIP() << "hardware: no " << GetParam();
  }
  static std::unique_ptr<Backend> Make(int threads, bool dry_run = false) {
    auto backend = CreateBackend("cpu", Options(threads, GetParam(), dry_run));
    if (backend.status().code() == absl::StatusCode::kUnavailable) return nullptr;
    EXPECT_TRUE(backend.ok()) << backend.status();
    return std::move(backend).value();
  }
  static QuantizedMatrix RandomMatrix(const std::string& scheme, int64_t n, int64_t k, uint32_t seed = 1) {
    auto quantized = Quantize(RandomFloats(DType::kF32, {n, k}, seed).tensor, ParseQuantScheme(scheme).value());
    EXPECT_TRUE(quantized.ok()) << quantized.status();
    return std::move(quantized).value();
  }
  std::unique_ptr<DeviceWeight> PackRandom(Backend& backend, const std::string& scheme, int64_t n, int64_t k) {
    auto packed = backend.Pack(RandomMatrix(scheme, n, k).view(), {MemoryComponent::kWeights, 1});
    EXPECT_TRUE(packed.ok()) << packed.status();
    return std::move(packed).value();
  }
  // The forms of x that any scheme may want.
  static Activation Forms(Backend& backend, const Owned& x, Owned& quantized, Owned& scales, const Owned& ones) {
    Activation forms{x.tensor, quantized.tensor, scales.tensor};
    backend.RmsNorm(x.tensor, ones.tensor, 1e-5f, {Tensor(), quantized.tensor, scales.tensor});
    return forms;
  }
  static Activation RowOf(const Activation& x, int64_t row, int64_t count) {
    return {x.values.Rows(row, count), x.quantized.Rows(row, count), x.scales.Rows(row, count)};
  }
  std::unique_ptr<Backend> backend_;
};

TEST_P(CpuBackendTest, SaysWhatRuns) {
  DeviceInfo device = backend_->device();
  EXPECT_EQ(device.id, "cpu");
  EXPECT_EQ(device.isa, GetParam());
  EXPECT_EQ(device.threads, 2);
  EXPECT_FALSE(device.name.empty());
}

// Every tile height, several tiles, several chunks.
TEST_P(CpuBackendTest, LinearOfARowIsTheSameAloneAndAmongOthers) {
  constexpr int64_t kRows = 105, kN = 83, kK = 640;
  for (const char* scheme : kSchemes) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(testing::Message() << scheme << " " << Name(dtype));
      auto w = PackRandom(*backend_, scheme, kN, kK);
      Owned x = RandomFloats(dtype, {kRows, kK}, 2), residual = RandomFloats(dtype, {kRows, kN}, 3);
      Owned bias = RandomFloats(DType::kF32, {kN}, 4), ones = RandomFloats(DType::kF32, {kK}, 5);
      Owned quantized(DType::kI8, {kRows, kK}), scales(DType::kF32, {kRows});
      Activation forms = Forms(*backend_, x, quantized, scales, ones);
      Owned alone(dtype, {kRows, kN}), out(dtype, {kRows, kN});
      for (int64_t r = 0; r < kRows; ++r) {
        LinearArgs args{bias.tensor, residual.tensor.Rows(r, 1), ActivationKind::kSilu};
        backend_->Linear(RowOf(forms, r, 1), *w, args, alone.tensor.Rows(r, 1));
      }
      for (int64_t rows : {2, 3, 4, 5, 6, 7, 8, 13, 16, 96, 97, 105}) {
        backend_->Linear(RowOf(forms, 0, rows), *w, {bias.tensor, residual.tensor.Rows(0, rows), ActivationKind::kSilu},
                         out.tensor.Rows(0, rows));
        EXPECT_EQ(std::memcmp(alone.bytes.data(), out.bytes.data(), static_cast<size_t>(rows * kN * SizeOf(dtype))), 0)
            << rows;
      }
      ASSERT_TRUE(backend_->Synchronize().ok());
    }
  }
}

TEST_P(CpuBackendTest, LinearWritesNothingBesideItsColumns) {
  auto w = PackRandom(*backend_, "int4_weight_only,group_size=32", 21, 64);
  Owned x = RandomFloats(DType::kF32, {3, 64}, 1), wide(DType::kF32, {3, 40});
  backend_->Linear({x.tensor, {}, {}}, *w, {}, wide.tensor.Columns(8, 21));
  ASSERT_TRUE(backend_->Synchronize().ok());
  for (int64_t r = 0; r < 3; ++r) {
    const float* row = static_cast<const float*>(wide.tensor.row(r));
    for (int64_t n = 0; n < 40; ++n) EXPECT_EQ(std::isnan(row[n]), n < 8 || n >= 29) << r << " " << n;
  }
}

TEST_P(CpuBackendTest, LinearAddsToItsResidualInPlace) {
  auto w = PackRandom(*backend_, "bf16", 33, 48);
  Owned x = RandomFloats(DType::kF32, {7, 48}, 1), in_place = RandomFloats(DType::kF32, {7, 33}, 2),
        out(DType::kF32, {7, 33});
  backend_->Linear({x.tensor, {}, {}}, *w, {{}, in_place.tensor, ActivationKind::kNone}, out.tensor);
  backend_->Linear({x.tensor, {}, {}}, *w, {{}, in_place.tensor, ActivationKind::kNone}, in_place.tensor);
  ASSERT_TRUE(backend_->Synchronize().ok());
  EXPECT_EQ(in_place.bytes, out.bytes);
}

TEST_P(CpuBackendTest, EmbeddingGivesTheCanonicalValues) {
  constexpr int64_t kN = 37, kK = 256;
  for (const char* scheme : kSchemes) {
    SCOPED_TRACE(scheme);
    QuantizedMatrix matrix = RandomMatrix(scheme, kN, kK);
    auto table = backend_->Pack(matrix.view(), {MemoryComponent::kWeights, 1});
    ASSERT_TRUE(table.ok()) << table.status();
    Owned ids = Ints({36, 0, 15, 16, 16}), out(DType::kF32, {5, kK});
    backend_->Embedding(ids.tensor, **table, out.tensor);
    ASSERT_TRUE(backend_->Synchronize().ok());
    std::vector<float> row(kK);
    for (int64_t t = 0; t < 5; ++t) {
      DequantizeRow(matrix.view(), ids.tensor.as<int32_t>()[t], row.data());
      EXPECT_EQ(std::memcmp(row.data(), out.tensor.row(t), kK * sizeof(float)), 0) << t;
    }
  }
}

TEST_P(CpuBackendTest, NormAndActivationOfARowAreTheSameAloneAndAmongOthers) {
  constexpr int64_t kRows = 9, kK = 203;
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    Owned x = RandomFloats(dtype, {kRows, 2 * kK}, 1), weight = RandomFloats(DType::kF32, {kK}, 2);
    auto run = [&](int64_t step, bool gated) {
      Owned values(dtype, {kRows, kK}), quantized(DType::kI8, {kRows, kK}), scales(DType::kF32, {kRows});
      for (int64_t r = 0; r < kRows; r += step) {
        Activation out = RowOf({values.tensor, quantized.tensor, scales.tensor}, r, step);
        Tensor in = x.tensor.Rows(r, step);
        if (gated) {
          backend_->GatedActivation(ActivationKind::kSilu, in, out);
        } else {
          backend_->RmsNorm(in.Columns(0, kK), weight.tensor, 1e-5f, out);
        }
      }
      std::vector<uint8_t> all = values.bytes;
      all.insert(all.end(), quantized.bytes.begin(), quantized.bytes.end());
      all.insert(all.end(), scales.bytes.begin(), scales.bytes.end());
      return all;
    };
    for (bool gated : {false, true}) EXPECT_EQ(run(1, gated), run(kRows, gated));
  }
  EXPECT_TRUE(backend_->Synchronize().ok());
}

// A cache of random content, sequences of different lengths, and what attention gives for the tokens from `begins` on.
struct AttentionCase {
  int64_t heads, kv_heads, d;
  KvFormat format;
  DType dtype;
};

class CpuAttention {
 public:
  CpuAttention(Backend& backend, AttentionCase c, std::vector<int32_t> lengths)
      : backend_(backend), c_(c), lengths_(std::move(lengths)) {
    int64_t sequences = static_cast<int64_t>(lengths_.size());
    blocks_ = sequences * kBlocks;
    int64_t bytes = blocks_ * c.kv_heads * kKvBlockTokens * c.d * KvElementBytes(c.format);
    keys_.assign(static_cast<size_t>(bytes), 0xff);
    values_ = keys_;
    key_scales_.assign(static_cast<size_t>(blocks_ * c.kv_heads * kKvBlockTokens), NAN);
    value_scales_ = key_scales_;
    for (int64_t s = 0; s < sequences; ++s) {
      for (int64_t b = 0; b < kBlocks; ++b) tables_.push_back(static_cast<int32_t>((b * sequences + s) % blocks_));
      for (int32_t p = 0; p < lengths_[static_cast<size_t>(s)]; ++p) Append(s, p);
    }
  }
  enum class Forms { kAll, kQuantized };
  struct Result {
    std::vector<uint8_t> values;  // poisoned still where only the quantized form was asked for
    std::vector<uint8_t> codes, scales;
  };
  // Attention of tokens [begin, end) of each of the sequences, one after another in one batch.
  std::vector<uint8_t> Run(const std::vector<int32_t>& sequences, const std::vector<int32_t>& begins,
                           const std::vector<int32_t>& ends) {
    return Run(sequences, begins, ends, Forms::kAll).values;
  }
  Result Run(const std::vector<int32_t>& sequences, const std::vector<int32_t>& begins,
             const std::vector<int32_t>& ends, Forms wanted) {
    std::vector<int32_t> positions, starts = {0}, tables;
    for (size_t i = 0; i < sequences.size(); ++i) {
      for (int32_t p = begins[i]; p < ends[i]; ++p) positions.push_back(p);
      starts.push_back(static_cast<int32_t>(positions.size()));
      auto table = tables_.begin() + sequences[i] * kBlocks;
      tables.insert(tables.end(), table, table + kBlocks);
    }
    int64_t tokens = static_cast<int64_t>(positions.size()), columns = c_.heads * c_.d;
    Owned q(c_.dtype, {tokens, c_.heads, c_.d}), out(c_.dtype, {tokens, columns});
    Owned quantized(DType::kI8, {tokens, columns}), scales(DType::kF32, {tokens});
    for (int64_t i = 0, t = 0; i < static_cast<int64_t>(sequences.size()); ++i) {
      for (int32_t p = begins[static_cast<size_t>(i)]; p < ends[static_cast<size_t>(i)]; ++p, ++t) {
        Owned row = RandomFloats(c_.dtype, {c_.heads * c_.d},
                                 static_cast<uint32_t>(1000 * sequences[static_cast<size_t>(i)] + p));
        std::memcpy(q.tensor.row(t), row.bytes.data(), row.bytes.size());
      }
    }
    Owned position_tensor = Ints(positions), start_tensor = Ints(starts);
    Owned table_tensor = Ints(tables, {static_cast<int64_t>(sequences.size()), kBlocks});
    RaggedBatch batch{position_tensor.tensor, position_tensor.tensor, start_tensor.tensor, table_tensor.tensor};
    Activation forms{wanted == Forms::kAll ? out.tensor : Tensor(), quantized.tensor, scales.tensor};
    backend_.PagedAttention(q.tensor, Kv(), batch, 0.125f, forms);
    absl::Status status = backend_.Synchronize();
    EXPECT_TRUE(status.ok()) << status;
    return {out.bytes, quantized.bytes, scales.bytes};
  }

 private:
  static constexpr int64_t kBlocks = 5;
  PagedKv Kv() {
    DType dtype = c_.format == KvFormat::kF32 ? DType::kF32 : c_.format == KvFormat::kBF16 ? DType::kBF16 : DType::kI8;
    Shape shape{blocks_, c_.kv_heads, kKvBlockTokens, c_.d}, scales{blocks_, c_.kv_heads, kKvBlockTokens};
    PagedKv kv{c_.format, c_.format, Tensor(keys_.data(), dtype, shape), Tensor(values_.data(), dtype, shape), {}, {}};
    if (c_.format == KvFormat::kInt8) {
      kv.key_scales = Tensor(key_scales_.data(), DType::kF32, scales);
      kv.value_scales = Tensor(value_scales_.data(), DType::kF32, scales);
    }
    return kv;
  }
  void Append(int64_t sequence, int32_t position) {
    Owned k = RandomFloats(c_.dtype, {1, c_.kv_heads, c_.d}, static_cast<uint32_t>(sequence * 7919 + position));
    Owned v =
        RandomFloats(c_.dtype, {1, c_.kv_heads, c_.d}, static_cast<uint32_t>(sequence * 7919 + position + 500000));
    std::vector<int32_t> table(tables_.end() - kBlocks, tables_.end());
    Owned positions = Ints({position}), starts = Ints({0, 1}), tables = Ints(table, {1, kBlocks});
    backend_.AppendKv(k.tensor, v.tensor, {positions.tensor, positions.tensor, starts.tensor, tables.tensor}, Kv());
  }

  Backend& backend_;
  AttentionCase c_;
  std::vector<int32_t> lengths_, tables_;
  int64_t blocks_ = 0;
  std::vector<uint8_t> keys_, values_;
  std::vector<float> key_scales_, value_scales_;
};

std::vector<uint8_t> Concatenated(std::initializer_list<std::vector<uint8_t>> parts) {
  std::vector<uint8_t> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

TEST_P(CpuBackendTest, AttentionDependsNeitherOnChunksNorOnTheBatch) {
  const AttentionCase cases[] = {{8, 2, 64, KvFormat::kBF16, DType::kBF16}, {9, 3, 64, KvFormat::kInt8, DType::kBF16},
                                 {4, 4, 20, KvFormat::kF32, DType::kF32},   {8, 1, 48, KvFormat::kInt8, DType::kF32},
                                 {50, 1, 80, KvFormat::kBF16, DType::kF32}, {2, 1, 128, KvFormat::kF32, DType::kBF16}};
  for (const AttentionCase& c : cases) {
    SCOPED_TRACE(testing::Message() << c.heads << "/" << c.kv_heads << " heads of " << c.d);
    CpuAttention attention(*backend_, c, {130, 37, 1});
    std::vector<uint8_t> whole = attention.Run({0}, {0}, {130});
    EXPECT_EQ(whole,
              Concatenated({attention.Run({0}, {0}, {1}), attention.Run({0}, {1}, {33}), attention.Run({0}, {33}, {96}),
                            attention.Run({0}, {96}, {129}), attention.Run({0}, {129}, {130})}));
    EXPECT_EQ(Concatenated({attention.Run({1}, {0}, {37}), whole, attention.Run({2}, {0}, {1})}),
              attention.Run({1, 0, 2}, {0, 0, 0}, {37, 130, 1}));
    // Without values, tokens pass through a buffer in chunks: the codes are those beside values.
    using Forms = CpuAttention::Forms;
    CpuAttention::Result beside = attention.Run({0, 1}, {0, 0}, {130, 37}, Forms::kAll),
                         alone = attention.Run({0, 1}, {0, 0}, {130, 37}, Forms::kQuantized);
    EXPECT_EQ(alone.codes, beside.codes);
    EXPECT_EQ(alone.scales, beside.scales);
  }
}

TEST_P(CpuBackendTest, ResultsDoNotDependOnThreads) {
  auto one = Make(1), three = Make(3);
  Owned x = RandomFloats(DType::kF32, {20, 96}, 1), a(DType::kF32, {20, 150}), b(DType::kF32, {20, 150});
  one->Linear({x.tensor, {}, {}}, *PackRandom(*one, "int8_weight_only", 150, 96), {}, a.tensor);
  three->Linear({x.tensor, {}, {}}, *PackRandom(*three, "int8_weight_only", 150, 96), {}, b.tensor);
  EXPECT_EQ(a.bytes, b.bytes);
}

// A NaN stays one in the quantized form: its row's scale says so, and other rows are as they were.
TEST_P(CpuBackendTest, NanInARowShowsInItsScaleAlone) {
  Owned x = RandomFloats(DType::kF32, {2, 40}, 1), weight = RandomFloats(DType::kF32, {40}, 2);
  x.tensor.as<float>()[7] = NAN;
  Owned quantized(DType::kI8, {2, 40}), scales(DType::kF32, {2});
  backend_->RmsNorm(x.tensor, weight.tensor, 1e-5f, {{}, quantized.tensor, scales.tensor});
  EXPECT_TRUE(std::isnan(scales.tensor.as<float>()[0]));
  EXPECT_TRUE(std::isfinite(scales.tensor.as<float>()[1]));
}

TEST_P(CpuBackendTest, CountsWhatWeightsTakeAndGivesItBack) {
  int64_t scratch = backend_->memory().models[0].total();
  EXPECT_GT(scratch, 0);
  for (const char* scheme : kSchemes) {
    auto w = PackRandom(*backend_, scheme, 70, 256);
    EXPECT_EQ(backend_->memory().models[1].total(), w->bytes());
    EXPECT_EQ(w->layout_id().substr(0, 4), "cpu.");
  }
  EXPECT_EQ(backend_->memory().models[1].total(), 0);
}

// int4 keeps two codes a byte and its parameters in 16 bits.
TEST_P(CpuBackendTest, PackedWeightsTakeNoMoreThanTheScheme) {
  EXPECT_EQ(PackRandom(*backend_, "int4_weight_only,group_size=64", 64, 512)->bytes(), 64 * (512 / 2 + 512 / 64 * 4));
  EXPECT_EQ(PackRandom(*backend_, "int8_weight_only,group_size=32,params=f16", 64, 512)->bytes(),
            64 * (512 + 512 / 32 * 2));
  EXPECT_EQ(PackRandom(*backend_, "int8_dynamic_activation_int8_weight", 64, 512)->bytes(), 64 * (512 + 4));
  EXPECT_EQ(PackRandom(*backend_, "bf16", 64, 512)->bytes(), 64 * 512 * 2);
}

TEST_P(CpuBackendTest, DryRunCountsTheSame) {
  auto dry = Make(2, /*dry_run=*/true);
  auto weight =
      dry->Pack(RandomMatrix("int4_weight_only,group_size=32", 100, 96).view(), {MemoryComponent::kWeights, 1});
  ASSERT_TRUE(weight.ok());
  auto real = PackRandom(*backend_, "int4_weight_only,group_size=32", 100, 96);
  EXPECT_EQ((*weight)->bytes(), real->bytes());
  for (ModelId model : {0, 1}) EXPECT_EQ(dry->memory().models[model].bytes, backend_->memory().models[model].bytes);
}

TEST_P(CpuBackendTest, BigBuffersAreAlignedAndUsable) {
  for (int64_t bytes : {int64_t{0}, int64_t{1}, (int64_t{2} << 20) - 1, int64_t{2} << 20, (int64_t{5} << 20) + 12345}) {
    auto buffer = backend_->Allocate(bytes, {MemoryComponent::kKvCache, 2});
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    std::memset(buffer->data(), 1, static_cast<size_t>(bytes));
    EXPECT_EQ(backend_->memory().models[2].total(), bytes);
  }
}

TEST_P(CpuBackendTest, RefusesWhatTheSystemHasNot) {
  auto buffer = backend_->Allocate(int64_t{1} << 50, {MemoryComponent::kKvCache, 2});
  EXPECT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted) << buffer.status();
  EXPECT_EQ(backend_->memory().models[2].total(), 0);
}

TEST_P(CpuBackendTest, SupportsNamesWhatItCannotRun) {
  QuantScheme scheme = ParseQuantScheme("int4_weight_only,group_size=128").value();
  EXPECT_TRUE(backend_->Supports(scheme, 48, 256).ok());
  EXPECT_EQ(backend_->Supports(scheme, 48, 192).code(), absl::StatusCode::kInvalidArgument);
  QuantScheme dynamic = ParseQuantScheme("int8_dynamic_activation_int8_weight").value();
  EXPECT_TRUE(backend_->Supports(dynamic, 48, 100000).ok());
  EXPECT_EQ(backend_->Supports(dynamic, 48, 200000).code(), absl::StatusCode::kInvalidArgument);
}

// The first failure stays until Synchronize, and no op runs meanwhile.
TEST_P(CpuBackendTest, AFailedOpStopsTheRestOfTheStep) {
  Owned x = RandomFloats(DType::kF32, {2, 8}, 1), weight = RandomFloats(DType::kF32, {9}, 2), out(DType::kF32, {2, 8});
  Owned good = RandomFloats(DType::kF32, {8}, 3);
  backend_->RmsNorm(x.tensor, weight.tensor, 1e-5f, {out.tensor, {}, {}});
  backend_->RmsNorm(x.tensor, good.tensor, 1e-5f, {out.tensor, {}, {}});
  EXPECT_TRUE(std::isnan(out.tensor.as<float>()[0]));
  EXPECT_EQ(backend_->Synchronize().code(), absl::StatusCode::kInvalidArgument);
  backend_->RmsNorm(x.tensor, good.tensor, 1e-5f, {out.tensor, {}, {}});
  EXPECT_TRUE(backend_->Synchronize().ok());
  EXPECT_FALSE(std::isnan(out.tensor.as<float>()[0]));
}

INSTANTIATE_TEST_SUITE_P(Isa, CpuBackendTest, testing::Values("portable", "avx2"),
                         [](const auto& param_info) { return std::string(param_info.param); });

TEST(CpuBackendOptionsTest, UnknownInstructionSetIsNamed) {
  auto backend = CreateBackend("cpu", Options(1, "sse9"));
  EXPECT_EQ(backend.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(backend.status().message().find("sse9"), absl::string_view::npos);
}

TEST(CpuBackendOptionsTest, EnvironmentForcesALowerSetAndOptionsComeFirst) {
  setenv("QUANTD_CPU_ISA", "portable", 1);
  EXPECT_EQ(CreateBackend("cpu", Options(1)).value()->device().isa, "portable");
  setenv("QUANTD_CPU_ISA", "nonsense", 1);
  EXPECT_EQ(CreateBackend("cpu", Options(1)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CreateBackend("cpu", Options(1, "portable")).value()->device().isa, "portable");
  unsetenv("QUANTD_CPU_ISA");
}

TEST(CpuBackendOptionsTest, ThreadsAreBounded) {
  EXPECT_EQ(CreateBackend("cpu", Options(-1)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_GE(CreateBackend("cpu", {}).value()->device().threads, 1);
}

}  // namespace
}  // namespace quantd
