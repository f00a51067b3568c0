// No op of the cpu backend allocates: everything it needs was there after Pack.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "tests/testing/allocation_counter.h"

namespace quantd {
namespace {

constexpr int64_t kTokens = 6, kHeads = 4, kKvHeads = 2, kD = 32, kWidth = kHeads * kD, kVocab = 200;

// One step's buffers, zeroed.
class Memory {
 public:
  Tensor New(DType dtype, Shape shape) {
    blocks_.push_back(std::make_unique<std::vector<uint8_t>>(static_cast<size_t>(shape.elements() * SizeOf(dtype))));
    return Tensor(blocks_.back()->data(), dtype, shape);
  }

 private:
  std::vector<std::unique_ptr<std::vector<uint8_t>>> blocks_;
};

TEST(NoAllocTest, AStepOfOps) {
  BackendOptions options;
  options.threads = 2;
  auto backend = CreateBackend("cpu", options).value();
  Memory memory;
  std::vector<float> values(static_cast<size_t>(kVocab * kWidth));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 17) * 0.01f - 0.08f;
  Tensor dense(values.data(), DType::kF32, {kVocab, kWidth});
  std::vector<std::unique_ptr<DeviceWeight>> weights;
  for (const char* scheme :
       {"bf16", "int8_weight_only", "int4_weight_only,group_size=32", "int8_dynamic_activation_int8_weight"}) {
    weights.push_back(backend->Pack(Quantize(dense, ParseQuantScheme(scheme).value())->view(), {}).value());
  }
  Tensor x = memory.New(DType::kBF16, {kTokens, kWidth}), norm = memory.New(DType::kF32, {kWidth});
  Tensor ids = memory.New(DType::kI32, {kTokens}), positions = memory.New(DType::kI32, {kTokens});
  for (int32_t i = 0; i < kTokens; ++i) positions.as<int32_t>()[i] = i;
  Tensor starts = memory.New(DType::kI32, {2}), tables = memory.New(DType::kI32, {1, 1});
  starts.as<int32_t>()[1] = kTokens;
  RaggedBatch batch{ids, positions, starts, tables};
  Tensor keys = memory.New(DType::kI8, {2, kKvHeads, kKvBlockTokens, kD}), v = memory.New(DType::kI8, keys.shape());
  Tensor key_scales = memory.New(DType::kF32, {2, kKvHeads, kKvBlockTokens}),
         v_scales = memory.New(DType::kF32, key_scales.shape());
  PagedKv kv{KvFormat::kInt8, KvFormat::kInt8, keys, v, key_scales, v_scales};
  Tensor kv_rows = memory.New(DType::kBF16, {kTokens, kKvHeads, kD}),
         gate_up = memory.New(DType::kBF16, {kTokens, 2 * kWidth});
  Activation forms{memory.New(DType::kBF16, {kTokens, kWidth}), memory.New(DType::kI8, {kTokens, kWidth}),
                   memory.New(DType::kF32, {kTokens})};
  Tensor cos_sin = memory.New(DType::kF32, {kTokens, kD}), logits = memory.New(DType::kF32, {kTokens, kVocab});
  std::vector<SamplingRow> rows(static_cast<size_t>(kTokens));
  const std::vector<SeenToken> seen = {{3, 1}, {5, 0}};
  const std::vector<int32_t> context = {3, 5, 3};
  for (SamplingRow& row : rows) {
    row.params.repetition_penalty = 1.1f;
    row.params.no_repeat_ngram_size = 2;
    row.seen = seen;
    row.context = context;
    row.banned_ids = context;
  }
  std::vector<SampleResult> results(rows.size());
  const int32_t src[] = {0}, dst[] = {1};

  int64_t before = allocation_count.load();
  for (int step = 0; step < 3; ++step) {
    backend->Embedding(ids, *weights[2], x);
    backend->RmsNorm(x, norm, 1e-5f, forms);
    backend->Rope(RopeStyle::kHalves, cos_sin, positions, x.Reshape({kTokens, kHeads, kD}));
    backend->AppendKv(kv_rows, kv_rows, batch, kv);
    backend->PagedAttention(x.Reshape({kTokens, kHeads, kD}), kv, batch, 1.0f, forms);
    backend->GatedActivation(ActivationKind::kSilu, gate_up, forms);
    for (const auto& w : weights) backend->Linear(forms, *w, {}, logits);
    backend->GatherRows(x, ids, forms.values);
    backend->CopyKvBlocks(kv, src, dst);
    backend->Sample(logits, rows, results);
  }
  bool ok = backend->Synchronize().ok();
  EXPECT_EQ(allocation_count.load() - before, 0);
  EXPECT_TRUE(ok);
}

}  // namespace
}  // namespace quantd
