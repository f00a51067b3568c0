#include "tests/testing/op_harness.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>

namespace quantd::testing {
namespace {

constexpr size_t kGuardBytes = 64;
constexpr uint8_t kPoison = 0xff;

}  // namespace

TestTensor::TestTensor(DType dtype, Shape shape, int64_t gap) {
  int64_t row = Tensor(nullptr, dtype, shape).row_elements(), stride = row + gap;
  memory_.assign(2 * kGuardBytes + static_cast<size_t>(shape[0] * stride * SizeOf(dtype)), kPoison);
  view_ = Tensor(memory_.data() + kGuardBytes, dtype, shape, stride);
}

bool TestTensor::GuardsIntact() const {
  std::vector<uint8_t> rest = memory_;
  size_t row_bytes = static_cast<size_t>(view_.row_elements() * SizeOf(view_.dtype()));
  for (int64_t r = 0; r < view_.rows(); ++r) {
    auto offset = static_cast<const uint8_t*>(view_.row(r)) - memory_.data();
    std::memset(rest.data() + offset, kPoison, row_bytes);
  }
  return std::all_of(rest.begin(), rest.end(), [](uint8_t byte) { return byte == kPoison; });
}

std::vector<uint8_t> TestTensor::Bytes() const {
  std::vector<uint8_t> bytes;
  size_t row_bytes = static_cast<size_t>(view_.row_elements() * SizeOf(view_.dtype()));
  for (int64_t r = 0; r < view_.rows(); ++r) {
    const auto* row = static_cast<const uint8_t*>(view_.row(r));
    bytes.insert(bytes.end(), row, row + row_bytes);
  }
  return bytes;
}

std::vector<float> TestTensor::Floats() const {
  std::vector<float> values;
  for (int64_t r = 0; r < view_.rows(); ++r) {
    for (int64_t i = 0; i < view_.row_elements(); ++i) {
      bool i8 = view_.dtype() == DType::kI8;
      values.push_back(i8 ? static_cast<const int8_t*>(view_.row(r))[i] : LoadFloat(view_.row(r), view_.dtype(), i));
    }
  }
  return values;
}

TestTensor RandomFloats(Rng& rng, DType dtype, Shape shape, int64_t gap, float spread) {
  TestTensor tensor(dtype, shape, gap);
  std::normal_distribution<float> normal(0, spread);
  for (int64_t r = 0; r < shape[0]; ++r) {
    for (int64_t i = 0; i < tensor.view().row_elements(); ++i) StoreFloat(tensor.view().row(r), dtype, i, normal(rng));
  }
  return tensor;
}

TestTensor Ints(const std::vector<int32_t>& values, Shape shape) {
  TestTensor tensor(DType::kI32, shape);
  std::memcpy(tensor.view().data(), values.data(), values.size() * sizeof(int32_t));
  return tensor;
}

TestTensor Ints(const std::vector<int32_t>& values) { return Ints(values, {static_cast<int64_t>(values.size())}); }

std::unique_ptr<Backend> CpuBackendOrNull(const std::string& isa, int threads) {
  BackendOptions options;
  options.threads = threads;
  options.isa = isa;
  auto backend = CreateBackend("cpu", options);
  if (backend.ok()) return std::move(backend).value();
  EXPECT_EQ(backend.status().code(), absl::StatusCode::kUnavailable) << backend.status();
  return nullptr;
}

WeightPair PackForBoth(Backend& a, Backend& b, const Tensor& weights, const std::string& scheme) {
  WeightPair pair{Quantize(weights, ParseQuantScheme(scheme).value()).value(), nullptr, nullptr};
  pair.a = a.Pack(pair.matrix.view(), {MemoryComponent::kWeights, 1}).value();
  pair.b = b.Pack(pair.matrix.view(), {MemoryComponent::kWeights, 1}).value();
  return pair;
}

LinearOperands::LinearOperands(Rng& rng, DType dtype, DType out_dtype, LinearSize s)
    : x(RandomFloats(rng, dtype, {s.t, s.k}, 7)),
      codes(DType::kI8, {s.t, s.k}, 3),
      scales(DType::kF32, {s.t}),
      bias(RandomFloats(rng, DType::kF32, {s.n})),
      residual(RandomFloats(rng, out_dtype, {s.t, s.n}, 2)) {
  for (int64_t t = 0; t < s.t; ++t) {
    for (int64_t k = 0; k < s.k; ++k) {
      static_cast<int8_t*>(codes.view().row(t))[k] = static_cast<int8_t>(static_cast<int>(rng() % 255) - 127);
    }
    scales.view().as<float>()[t] = 0.01f + 0.001f * static_cast<float>(t);
  }
}

// What multiplies: dequantized weights f32 [N, K], and x f32 [T, K] as values or as codes times scale.
std::vector<float> Magnitudes(const LinearOperands& in, const QuantizedMatrix& w, LinearSize s) {
  bool int8 = w.scheme.activation == ActivationFormat::kInt8PerToken;
  std::vector<float> x = int8 ? in.codes.Floats() : in.x.Floats(), row(static_cast<size_t>(s.k)),
                     result(static_cast<size_t>(s.t * s.n));
  for (int64_t n = 0; n < s.n; ++n) {
    DequantizeRow(w.view(), n, row.data());
    float amax = 0;
    for (float v : row) amax = std::max(amax, std::fabs(v));
    for (int64_t t = 0; t < s.t; ++t) {
      float sum = 0;
      for (int64_t k = 0; k < s.k; ++k) {
        // (q-8)*s and z may be summed apart; each is at most |w| + |z| <= |w| + amax.
        float weight = std::fabs(row[static_cast<size_t>(k)]) + (w.scheme.zero == ZeroKind::kNone ? 0 : 2 * amax);
        sum += std::fabs(x[static_cast<size_t>(t * s.k + k)]) * weight;
      }
      result[static_cast<size_t>(t * s.n + n)] = sum * (int8 ? in.scales.view().as<float>()[t] : 1.0f);
    }
  }
  return result;
}

const Tensor& CacheCase::Own(TestTensor tensor) {
  tensors_.push_back(std::make_unique<TestTensor>(std::move(tensor)));
  return tensors_.back()->view();
}

CacheCase::CacheCase(Rng& rng, KvFormat key_format, KvFormat value_format, int64_t kv_heads, int64_t dim,
                     const std::vector<int32_t>& begins, const std::vector<int32_t>& ends) {
  int64_t sequences = static_cast<int64_t>(ends.size());
  int64_t table_blocks = *std::max_element(ends.begin(), ends.end()) / kKvBlockTokens + 1,
          blocks = sequences * table_blocks + 3;
  auto dtype = [](KvFormat f) {
    return f == KvFormat::kF32 ? DType::kF32 : f == KvFormat::kBF16 ? DType::kBF16 : DType::kI8;
  };
  Shape cache{blocks, kv_heads, kKvBlockTokens, dim}, scales{blocks, kv_heads, kKvBlockTokens};
  kv_.key_format = key_format;
  kv_.value_format = value_format;
  kv_.keys = Own(TestTensor(dtype(key_format), cache));
  kv_.values = Own(TestTensor(dtype(value_format), cache));
  if (key_format == KvFormat::kInt8) kv_.key_scales = Own(TestTensor(DType::kF32, scales));
  if (value_format == KvFormat::kInt8) kv_.value_scales = Own(TestTensor(DType::kF32, scales));

  std::vector<int32_t> order(static_cast<size_t>(blocks)), positions, starts = {0};
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), rng);
  order.resize(static_cast<size_t>(sequences * table_blocks));
  for (size_t s = 0; s < ends.size(); ++s) {
    for (int32_t p = begins[s]; p < ends[s]; ++p) positions.push_back(p);
    starts.push_back(static_cast<int32_t>(positions.size()));
  }
  batch_.token_ids = batch_.positions = Own(Ints(positions));
  batch_.seq_starts = Own(Ints(starts));
  batch_.block_tables = Own(Ints(order, {sequences, table_blocks}));
}

std::vector<uint8_t> CacheCase::Contents() const {
  std::vector<uint8_t> all;
  for (const auto& tensor : tensors_) {
    std::vector<uint8_t> bytes = tensor->Bytes();
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  return all;
}

bool CacheCase::GuardsIntact() const {
  return std::all_of(tensors_.begin(), tensors_.end(), [](const auto& tensor) { return tensor->GuardsIntact(); });
}

CacheCase FilledCache(Backend& reference, Rng& rng, KvFormat keys, KvFormat values, AttentionSize size,
                      const std::vector<int32_t>& begins, const std::vector<int32_t>& ends) {
  CacheCase cache(rng, keys, values, size.kv_heads, size.d, begins, ends);
  std::vector<int32_t> positions, starts = {0};
  for (int32_t end : ends) {
    for (int32_t p = 0; p < end; ++p) positions.push_back(p);
    starts.push_back(static_cast<int32_t>(positions.size()));
  }
  TestTensor where = Ints(positions), from = Ints(starts);
  int64_t tokens = static_cast<int64_t>(positions.size());
  TestTensor k = RandomFloats(rng, DType::kF32, {tokens, size.kv_heads, size.d}),
             v = RandomFloats(rng, DType::kF32, {tokens, size.kv_heads, size.d});
  reference.AppendKv(k.view(), v.view(), {where.view(), where.view(), from.view(), cache.batch().block_tables},
                     cache.kv());
  return cache;
}

}  // namespace quantd::testing
