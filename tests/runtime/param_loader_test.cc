// Weights on their way to a device: requantized ones, and layers whose parts have different schemes.
#include "runtime/param_loader.h"

#include <cmath>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace quantd {
namespace {

using ::testing::HasSubstr;

// Tensors in memory.
class FakeStore : public WeightStore {
 public:
  void Add(const std::string& name, QuantizedMatrix matrix) {
    const Shape shape = matrix.n == 1 ? Shape{matrix.k} : Shape{matrix.n, matrix.k};
    WeightStore::Add({name, shape, matrix.scheme, static_cast<int64_t>(matrix.data.size()), matrices_.size(), ""});
    Finish();
    matrices_.push_back(std::move(matrix));
  }

 private:
  absl::StatusOr<QuantizedMatrix> ReadItem(const TensorInfo& info) const override { return matrices_[info.item]; }
  std::vector<QuantizedMatrix> matrices_;
};

QuantizedMatrix Weights(int64_t n, int64_t k, const char* scheme) {
  std::vector<float> values(static_cast<size_t>(n * k));
  uint32_t state = 1;
  for (float& v : values) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(state >> 8) * 0x1p-24f - 0.5f;
  }
  return Quantize(Tensor(values.data(), DType::kF32, {n, k}), ParseQuantScheme(scheme).value()).value();
}

class ParamLoaderTest : public ::testing::Test {
 protected:
  using Rules = std::vector<std::pair<std::string, std::string>>;
  ParamLoader Loader(const Rules& rules) {
    recipe_ = QuantRecipe::Parse("", rules).value();
    return ParamLoader(store_, recipe_, *backend_, {MemoryComponent::kWeights, 1}, DType::kF32, hooks_, params_);
  }
  std::unique_ptr<Backend> backend_ =
      CreateBackend("cpu", BackendOptions{.threads = 2, .dry_run = false, .isa = ""}).value();
  FakeStore store_;
  QuantRecipe recipe_;
  LoadHooks hooks_;
  ModelParams params_;
};

// More elements than are widened at a time, and no multiple of them.
TEST_F(ParamLoaderTest, RequantizedTableHasEveryRow) {
  constexpr int64_t kRows = 1500, kK = 4096;
  const QuantizedMatrix stored = Weights(kRows, kK, "int4_weight_only,group_size=32,zero=min,params=f16");
  store_.Add("table.weight", stored);
  ParamLoader loader = Loader({{"table", "f32"}});
  const DeviceWeight* table = loader.Table("table", kRows, kK, WeightRole::kEmbedding);
  ASSERT_TRUE(loader.Finish().ok()) << loader.Finish();
  EXPECT_THAT(params_.report.at(0).reason, HasSubstr("requantized from int4_weight_only"));
  std::vector<int32_t> ids = {0, 1, 1023, 1024, 1025, kRows - 1};
  const int64_t count = static_cast<int64_t>(ids.size());
  std::vector<float> got(static_cast<size_t>(count * kK)), want(static_cast<size_t>(kK));
  backend_->Embedding(Tensor(ids.data(), DType::kI32, {count}), *table, Tensor(got.data(), DType::kF32, {count, kK}));
  ASSERT_TRUE(backend_->Synchronize().ok());
  for (int64_t i = 0; i < count; ++i) {
    DequantizeRow(stored.view(), ids[static_cast<size_t>(i)], want.data());
    EXPECT_EQ(std::vector<float>(got.begin() + i * kK, got.begin() + (i + 1) * kK), want)
        << "row " << ids[static_cast<size_t>(i)];
  }
}

TEST_F(ParamLoaderTest, PartsOfDifferentSchemesStandSideBySide) {
  constexpr int64_t kK = 64;
  for (const char* name : {"q.weight", "k.weight", "v.weight"})
    store_.Add(name, Weights(name[0] == 'q' ? 40 : 24, kK, "f32"));
  Workspace workspace(backend_->Allocate(1 << 20, {}).value());
  std::vector<float> x(static_cast<size_t>(3 * kK));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 11) / 8 - 0.5f;
  std::vector<float> outs[2];
  for (bool mixed : {false, true}) {
    params_ = {};
    std::vector<std::pair<std::string, std::string>> rules;
    if (mixed) rules = {{"k", "int8_dynamic_activation_int8_weight"}, {"v", "int8_weight_only"}};
    ParamLoader loader = Loader(rules);
    QuantizedLinear qkv = loader.Linear({{"q", 40}, {"k", 24}, {"v", 24}}, kK, ParamLoader::Bias::kNone);
    ASSERT_TRUE(loader.Finish().ok()) << loader.Finish();
    EXPECT_EQ(params_.weights.size(), mixed ? 3u : 1u);
    // A norm with weights of one and rows of unit mean square: both forms are made by whoever produces the input.
    std::vector<float> ones(static_cast<size_t>(kK), 1.0f);
    Workspace::Scope scope(workspace);
    Activation input = qkv.NewInput(workspace, 3);
    EXPECT_EQ(input.quantized.present(), mixed);
    backend_->RmsNorm(Tensor(x.data(), DType::kF32, {3, kK}), Tensor(ones.data(), DType::kF32, {kK}), 1e-5f, input);
    outs[mixed].resize(3 * 88);
    StepContext step{*backend_, workspace};
    qkv.Forward(step, input, Tensor(outs[mixed].data(), DType::kF32, {3, 88}));
    ASSERT_TRUE(backend_->Synchronize().ok());
  }
  // q is the same weight either way; k and v differ by the quantization alone: half a step of 0.5/127.5 a weight and of
  // max|x|/127 an activation, over 64 inputs of unit mean square.
  for (size_t i = 0; i < outs[0].size(); ++i) {
    if (i % 88 < 40) {
      EXPECT_EQ(outs[1][i], outs[0][i]) << i;
    } else {
      EXPECT_NEAR(outs[1][i], outs[0][i], 64 * (0.5 * 0.5 / 127.5 + 0.5 * 0.5 * 2 / 127)) << i;
      EXPECT_NE(outs[1][i], outs[0][i]) << i;
    }
  }
}

// Whatever the scheme that is stored and the one that is wanted, and whether it is a weight, a norm or a bias.
TEST_F(ParamLoaderTest, ValuesThatAreNotFiniteAreDataLossThatNamesTheTensor) {
  for (const char* stored : {"f32", "f16", "bf16"}) {
    for (const char* wanted : {"", "bf16", "int8_weight_only"}) {
      for (float bad : {NAN, INFINITY, -INFINITY}) {
        for (int64_t at : {0, 7, 2 * 33 - 1}) {  // in the first word, within one, in the last that is not full
          store_ = {};
          QuantizedMatrix matrix = Weights(2, 33, stored);
          StoreFloat(matrix.data.data(), WeightDType(matrix.scheme.weight), at, bad);
          store_.Add("q.weight", matrix);
          ParamLoader loader = Loader(*wanted ? Rules{{"q", wanted}} : Rules{});
          loader.Linear({{"q", 2}}, 33, ParamLoader::Bias::kNone);
          EXPECT_EQ(loader.Finish().code(), absl::StatusCode::kDataLoss) << stored << " " << wanted << " " << at;
          EXPECT_THAT(std::string(loader.Finish().message()),
                      HasSubstr(at < 33 ? "q.weight: the value in row 0, column " : "row 1"));
        }
      }
    }
  }
  store_ = {};
  QuantizedMatrix norm = Weights(1, 5, "bf16");
  StoreFloat(norm.data.data(), DType::kBF16, 4, NAN);
  store_.Add("norm.weight", norm);
  ParamLoader loader = Loader({});
  loader.Vector("norm.weight", 5);
  EXPECT_EQ(loader.Finish().message(),
            "tensor norm.weight: the value in row 0, column 4 is nan, expected a finite one");
}

TEST_F(ParamLoaderTest, ParametersThatAreNotFiniteAreDataLossThatNamesTheTensor) {
  for (bool zeros : {false, true}) {
    store_ = {};
    QuantizedMatrix matrix = Weights(3, 64, "int4_weight_only,group_size=32,zero=min,params=f16");
    StoreFloat((zeros ? matrix.zeros : matrix.scales).data(), DType::kF16, 5, INFINITY);
    store_.Add("q.weight", matrix);
    ParamLoader loader = Loader({});
    loader.Linear({{"q", 3}}, 64, ParamLoader::Bias::kNone);
    EXPECT_EQ(loader.Finish().code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(loader.Finish().message()),
                HasSubstr(zeros ? "q.weight: the zero in row 2, group 1 is inf"
                                : "q.weight: the scale in row 2, group 1 is inf"));
  }
}

TEST_F(ParamLoaderTest, TheLargestFiniteValuesLoad) {
  for (const char* scheme : {"f32", "f16", "bf16"}) {
    store_ = {};
    QuantizedMatrix matrix = Weights(2, 33, scheme);
    const float largest = scheme == std::string("f16") ? 65504.0f : 0x1.fep127f;
    for (int64_t i = 0; i < 66; ++i) {
      StoreFloat(matrix.data.data(), WeightDType(matrix.scheme.weight), i, i % 2 ? -largest : largest);
    }
    store_.Add("table.weight", matrix);
    ParamLoader loader = Loader({});
    loader.Table("table", 2, 33, WeightRole::kEmbedding);
    EXPECT_TRUE(loader.Finish().ok()) << loader.Finish();
  }
}

TEST_F(ParamLoaderTest, NothingIsReadOrMadeAfterAFailure) {
  store_.Add("a.weight", Weights(32, 32, "f32"));
  ParamLoader loader = Loader({});
  EXPECT_EQ(loader.Table("missing", 32, 32, WeightRole::kEmbedding), nullptr);
  EXPECT_EQ(loader.Table("a", 32, 32, WeightRole::kEmbedding), nullptr);
  bool filled = false;
  loader.Constant({int64_t{1} << 40, 16}, [&](float*) { filled = true; });
  EXPECT_FALSE(filled);
  EXPECT_TRUE(loader.HostVector("norm", int64_t{1} << 40).empty());
  EXPECT_TRUE(params_.weights.empty() && params_.buffers.empty());
  EXPECT_EQ(loader.Finish().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(loader.Finish().message()), HasSubstr("missing.weight"));
}

}  // namespace
}  // namespace quantd
