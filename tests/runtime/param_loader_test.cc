// Weights on their way to a device: requantized ones, and layers whose parts have different schemes.
#include "runtime/param_loader.h"

#include <algorithm>
#include <map>
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
    infos_.push_back({name, {matrix.n, matrix.k}, matrix.scheme, static_cast<int64_t>(matrix.data.size())});
    std::sort(infos_.begin(), infos_.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    tensors_[name] = std::move(matrix);
  }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  absl::StatusOr<QuantizedMatrix> Read(std::string_view name) const override { return tensors_.at(std::string(name)); }

 private:
  std::vector<TensorInfo> infos_;
  std::map<std::string, QuantizedMatrix> tensors_;
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
  ParamLoader Loader(const std::vector<std::pair<std::string, std::string>>& rules) {
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
    QuantizedLinear qkv = loader.Linear({{"q", 40}, {"k", 24}, {"v", 24}}, kK, /*with_bias=*/false);
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
