// Linear and attention at the sizes that models have, against the reference: outputs for thousands of panels, so that a
// task takes as many panels as the scratch holds; more rows than a tile; groups and heads at their maxima; contexts of
// thousands of tokens; hundreds of sequences in a step.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "tests/testing/op_harness.h"

namespace quantd {
namespace {

using testing::AttentionSize;
using testing::CacheCase;
using testing::ExpectNear;
using testing::LinearOperands;
using testing::LinearSize;
using testing::RandomFloats;
using testing::Rng;
using testing::TestTensor;

class ProductionShapesTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    for (const int threads : {1, 2, 5}) {
      auto backend = testing::CpuBackendOrNull(GetParam(), threads);
      if (backend == nullptr) GTEST_SKIP() << "hardware: " << GetParam();
      cpus_.push_back(std::move(backend));
    }
  }
  void ExpectOk(Backend& backend) {
    const absl::Status status = backend.Synchronize();
    ASSERT_TRUE(status.ok()) << status;
  }

  void ExpectLinear(const char* scheme, LinearSize s) {
    const TestTensor weights = RandomFloats(rng_, DType::kF32, {s.n, s.k}, 0, 0.1f);
    const LinearOperands in(rng_, DType::kBF16, DType::kF32, s);
    TestTensor expected(DType::kF32, {s.t, s.n}, 4);
    std::vector<float> magnitudes;
    for (const auto& cpu : cpus_) {
      SCOPED_TRACE(::testing::Message() << scheme << " " << s.t << "x" << s.n << "x" << s.k << ", "
                                        << cpu->device().threads << " threads");
      const auto w = testing::PackForBoth(*reference_, *cpu, weights.view(), scheme);
      if (magnitudes.empty()) {
        magnitudes = testing::Magnitudes(in, w.matrix, s);
        reference_->Linear(in.forms(), *w.a, {}, expected.view());
        ASSERT_NO_FATAL_FAILURE(ExpectOk(*reference_));
      }
      TestTensor actual(DType::kF32, {s.t, s.n}, 4);
      cpu->Linear(in.forms(), *w.b, {}, actual.view());
      ASSERT_NO_FATAL_FAILURE(ExpectOk(*cpu));
      ASSERT_NO_FATAL_FAILURE(ExpectNear(expected, actual, [&](size_t i, float) {
        return testing::SumRoundings(s.k) * testing::kRound * magnitudes[i];
      }));
    }
  }

  // Tokens [begins[i], ends[i]) of sequences that have the tokens before them in the cache.
  void ExpectAttention(KvFormat format, AttentionSize size, const std::vector<int32_t>& begins,
                       const std::vector<int32_t>& ends) {
    const CacheCase cache = testing::FilledCache(*reference_, rng_, format, format, size, begins, ends);
    const int64_t tokens = cache.batch().tokens(), longest = *std::max_element(ends.begin(), ends.end());
    const TestTensor q = RandomFloats(rng_, DType::kF32, {tokens, size.heads, size.d});
    const float scale = 1 / std::sqrt(static_cast<float>(size.d)), error = testing::AttentionError(size.d, longest);
    TestTensor expected(DType::kF32, {tokens, size.heads * size.d}, 3);
    reference_->PagedAttention(q.view(), cache.kv(), cache.batch(), scale, {expected.view(), {}, {}});
    ASSERT_NO_FATAL_FAILURE(ExpectOk(*reference_));
    for (const auto& cpu : cpus_) {
      SCOPED_TRACE(::testing::Message() << Name(KvDType(format)) << ", " << cpu->device().threads << " threads");
      TestTensor actual(DType::kF32, {tokens, size.heads * size.d}, 3);
      cpu->PagedAttention(q.view(), cache.kv(), cache.batch(), scale, {actual.view(), {}, {}});
      ASSERT_NO_FATAL_FAILURE(ExpectOk(*cpu));
      ASSERT_NO_FATAL_FAILURE(ExpectNear(expected, actual, [&](size_t, float) { return error; }));
    }
  }

  std::unique_ptr<Backend> reference_ = CreateBackend("reference", {}).value();
  std::vector<std::unique_ptr<Backend>> cpus_;
  Rng rng_{20261128};
};

TEST_P(ProductionShapesTest, LinearWithThousandsOfOutputs) {
  for (const char* scheme : {"f32", "f16", "bf16", "int8_weight_only", "int8_weight_only,group_size=32,params=f16",
                             "int4_weight_only,group_size=32,zero=min,params=f16", "int4_weight_only,group_size=256",
                             "int4_weight_only,zero=none", "int8_dynamic_activation_int8_weight"}) {
    for (LinearSize s : {LinearSize{1, 9989, 256}, {2, 4103, 512}, {9, 2053, 256}}) {
      ASSERT_NO_FATAL_FAILURE(ExpectLinear(scheme, s));
    }
  }
}

TEST_P(ProductionShapesTest, LinearWithMoreRowsThanATile) {
  for (const char* scheme : {"bf16", "int4_weight_only,group_size=64", "int8_dynamic_activation_int8_weight"}) {
    for (LinearSize s : {LinearSize{97, 1031, 128}, {301, 333, 256}}) ASSERT_NO_FATAL_FAILURE(ExpectLinear(scheme, s));
  }
}

TEST_P(ProductionShapesTest, LinearOfALongRow) {
  for (const char* scheme :
       {"bf16", "int8_weight_only", "int4_weight_only,group_size=128", "int8_dynamic_activation_int8_weight"}) {
    ASSERT_NO_FATAL_FAILURE(ExpectLinear(scheme, {3, 131, 14336}));
  }
}

TEST_P(ProductionShapesTest, AttentionOverALongContext) {
  for (KvFormat format : {KvFormat::kF32, KvFormat::kBF16, KvFormat::kInt8}) {
    ASSERT_NO_FATAL_FAILURE(ExpectAttention(format, {4, 1, 64}, {8191, 5000}, {8192, 5003}));
  }
}

TEST_P(ProductionShapesTest, AttentionWithTheWidestHead) {
  for (KvFormat format : {KvFormat::kBF16, KvFormat::kInt8}) {
    ASSERT_NO_FATAL_FAILURE(ExpectAttention(format, {2, 1, 256}, {0, 511}, {70, 512}));
  }
}

TEST_P(ProductionShapesTest, AttentionOfHundredsOfSequences) {
  std::vector<int32_t> begins, ends;
  for (int32_t s = 0; s < 400; ++s) {
    const int32_t context = 1 + s * 7 % 130, tokens = s % 9 == 0 ? std::min(context, 40) : 1;
    begins.push_back(context - tokens);
    ends.push_back(context);
  }
  for (KvFormat format : {KvFormat::kBF16, KvFormat::kInt8}) {
    ASSERT_NO_FATAL_FAILURE(ExpectAttention(format, {6, 2, 32}, begins, ends));
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, ProductionShapesTest, ::testing::Values("portable", "avx2"),
                         [](const auto& param_info) { return param_info.param; });

}  // namespace
}  // namespace quantd
