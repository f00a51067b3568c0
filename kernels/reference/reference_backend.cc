#include "kernels/reference/reference_backend.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "kernels/memory_ledger.h"
#include "kernels/op_checks.h"

namespace quantd {
namespace {

// Canonical parts, as QuantizedView has them.
class ReferenceWeight : public DeviceWeight {
 public:
  ReferenceWeight(const QuantizedView& v, Buffer data, Buffer scales, Buffer zeros)
      : DeviceWeight(v.scheme, v.n, v.k, "reference.canonical.v1"),
        view_(v),
        data_(std::move(data)),
        scales_(std::move(scales)),
        zeros_(std::move(zeros)) {
    auto over = [](const Tensor& t, const Buffer& b) {
      return t.present() ? Tensor(b.data(), t.dtype(), t.shape()) : t;
    };
    view_.data = over(v.data, data_);
    view_.scales = over(v.scales, scales_);
    view_.zeros = over(v.zeros, zeros_);
    bytes_ = data_.bytes() + scales_.bytes() + zeros_.bytes();
  }
  const QuantizedView& view() const { return view_; }

 private:
  QuantizedView view_;
  Buffer data_, scales_, zeros_;
};

float Silu(float x) { return x / (1.0f + std::exp(-x)); }

float Apply(ActivationKind kind, float x) { return kind == ActivationKind::kSilu ? Silu(x) : x; }

// kInt8PerToken, also of an int8 KV row: returns s = max(amax/127, 1e-5); q = clamp(rne(x * (1/s)), -127, 127). A value
// that is not finite makes the scale NaN, so that it cannot pass for a number further on; a NaN's code is -127.
float QuantizeInt8(const float* x, int64_t count, int8_t* q) {
  float amax = 0, nan = 0;
  for (int64_t i = 0; i < count; ++i) {
    amax = std::max(amax, std::fabs(x[i]));  // a NaN leaves it as it is
    nan += x[i] * 0.0f;
  }
  float scale = std::max(amax / 127.0f, 1e-5f), inverse = 1.0f / scale;
  for (int64_t i = 0; i < count; ++i) {
    float code = std::nearbyint(x[i] * inverse);
    q[i] = static_cast<int8_t>(code > -127.0f ? std::min(code, 127.0f) : -127.0f);
  }
  return scale + nan;
}

// Writes f32 `x` [K], rounded to `dtype`, as row `row` of the forms that `out` has. `x` is rounded in place.
void StoreForms(std::vector<float>& x, DType dtype, int64_t row, const Activation& out) {
  auto count = static_cast<int64_t>(x.size());
  if (dtype == DType::kBF16) {
    for (float& v : x) v = Bf16ToF32(F32ToBf16(v));
  }
  if (out.values.present()) StoreFloats(x.data(), count, out.values.row(row), dtype);
  if (out.quantized.present()) {
    out.scales.as<float>()[row] = QuantizeInt8(x.data(), count, static_cast<int8_t*>(out.quantized.row(row)));
  }
}

std::vector<float> LoadRow(const Tensor& t, int64_t row) {
  std::vector<float> values(static_cast<size_t>(t.row_elements()));
  LoadFloats(t.row(row), t.dtype(), t.row_elements(), values.data());
  return values;
}

// The dot product of row `t` of x with output `n`'s weights, before bias. Whole-row int8 weights multiply as codes,
// their scale comes last; all others are dequantized to f32 first.
class LinearRow {
 public:
  explicit LinearRow(const QuantizedView& w) : w_(w), weights_(static_cast<size_t>(w.k)) {}

  void Load(int64_t n) {
    whole_row_int8_ = w_.scheme.weight == WeightFormat::kInt8 && w_.scheme.group_k == 0;
    if (!whole_row_int8_) return DequantizeRow(w_, n, weights_.data());
    codes_ = static_cast<const int8_t*>(w_.data.row(n));
    scale_ = LoadFloat(w_.scales.data(), w_.scheme.param_dtype, n);
    for (int64_t k = 0; k < w_.k; ++k) weights_[static_cast<size_t>(k)] = codes_[k];
  }
  float Dot(const float* x) const {
    float sum = 0;
    for (int64_t k = 0; k < w_.k; ++k) sum += x[k] * weights_[static_cast<size_t>(k)];
    return whole_row_int8_ ? sum * scale_ : sum;
  }
  // int32 sum of codes, then one f32 factor: torchao's order but for the product of the scales, which comes first.
  float DotInt8(const int8_t* x, float x_scale) const {
    int32_t sum = 0;
    for (int64_t k = 0; k < w_.k; ++k) sum += static_cast<int32_t>(x[k]) * codes_[k];
    return static_cast<float>(sum) * (x_scale * scale_);
  }

 private:
  const QuantizedView& w_;
  std::vector<float> weights_;
  const int8_t* codes_ = nullptr;
  float scale_ = 1;
  bool whole_row_int8_ = false;
};

// One side (keys or values) of a layer's cache.
struct KvSide {
  KvFormat format;
  const Tensor& cache;
  const Tensor& scales;
  int64_t heads() const { return cache.dim(1); }
  int64_t dim() const { return cache.dim(3); }
  // Slot of a token's head: the index of its scale; its D elements start at slot * D.
  int64_t slot(int32_t block, int64_t head, int64_t token) const {
    return (block * heads() + head) * kKvBlockTokens + token;
  }

  void Store(int64_t slot, const float* x) const {
    switch (format) {
      case KvFormat::kF32:
        StoreFloats(x, dim(), cache.as<float>() + slot * dim(), DType::kF32);
        break;
      case KvFormat::kBF16:
        StoreFloats(x, dim(), cache.as<uint16_t>() + slot * dim(), DType::kBF16);
        break;
      case KvFormat::kInt8:
        scales.as<float>()[slot] = QuantizeInt8(x, dim(), cache.as<int8_t>() + slot * dim());
        break;
    }
  }
  void Load(int64_t slot, float* x) const {
    if (format != KvFormat::kInt8) {
      const char* from = static_cast<const char*>(cache.data()) + slot * dim() * SizeOf(cache.dtype());
      return LoadFloats(from, cache.dtype(), dim(), x);
    }
    const int8_t* codes = cache.as<int8_t>() + slot * dim();
    for (int64_t d = 0; d < dim(); ++d) x[d] = static_cast<float>(codes[d]) * scales.as<float>()[slot];
  }
};

KvSide Keys(const PagedKv& kv) { return {kv.key_format, kv.keys, kv.key_scales}; }
KvSide Values(const PagedKv& kv) { return {kv.value_format, kv.values, kv.value_scales}; }

// softmax(q K^T * scale) V of one head over positions 0..position. q, out: f32 [D].
void Attend(const float* q, const KvSide& keys, const KvSide& values, const int32_t* table, int64_t head,
            int32_t position, float scale, float* out) {
  int64_t dim = keys.dim();
  std::vector<float> scores(static_cast<size_t>(position) + 1), row(static_cast<size_t>(dim));
  auto slot = [&](size_t p) {
    return keys.slot(table[p / kKvBlockTokens], head, static_cast<int64_t>(p) % kKvBlockTokens);
  };
  float largest = -INFINITY;
  for (size_t p = 0; p < scores.size(); ++p) {
    keys.Load(slot(p), row.data());
    float dot = 0;
    for (int64_t d = 0; d < dim; ++d) dot += q[d] * row[static_cast<size_t>(d)];
    scores[p] = dot * scale;
    largest = std::max(largest, scores[p]);
  }
  float total = 0;
  std::fill_n(out, dim, 0.0f);
  for (size_t p = 0; p < scores.size(); ++p) {
    float weight = std::exp(scores[p] - largest);
    total += weight;
    values.Load(slot(p), row.data());
    for (int64_t d = 0; d < dim; ++d) out[d] += weight * row[static_cast<size_t>(d)];
  }
  for (int64_t d = 0; d < dim; ++d) out[d] /= total;
}

class ReferenceBackend : public Backend {
 public:
  explicit ReferenceBackend(const BackendOptions& options) : dry_run_(options.dry_run) {}

  DeviceInfo device() const override {
    return {.id = "reference", .name = "plain loops", .isa = "portable", .threads = 1};
  }
  bool dry_run() const override { return dry_run_; }
  MemorySnapshot memory() const override { return ledger_.snapshot(); }

  absl::StatusOr<Buffer> Allocate(int64_t bytes, MemoryTag tag) override {
    QD_CHECK(bytes >= 0);
    void* data = nullptr;
    if (!dry_run_ && bytes > 0) {
      data = std::aligned_alloc(64, (static_cast<size_t>(bytes) + 63) / 64 * 64);
      if (data == nullptr) {
        return WithReason(absl::ResourceExhaustedError(absl::StrCat("reference: no memory for ", bytes, " bytes of ",
                                                                    ToAbsl(Name(tag.component)))),
                          "OUT_OF_MEMORY");
      }
    }
    ledger_.Add(tag, bytes);
    return Buffer(this, data, bytes, tag);
  }

  void CopyIn(const void* host, const Tensor& device) override {
    if (Ready(CheckCopy("CopyIn", device))) std::memcpy(device.data(), host, static_cast<size_t>(device.bytes()));
  }
  void CopyOut(const Tensor& device, void* host) override {
    if (Ready(CheckCopy("CopyOut", device))) std::memcpy(host, device.data(), static_cast<size_t>(device.bytes()));
  }
  absl::Status Synchronize() override { return std::exchange(error_, absl::OkStatus()); }

  absl::Status Supports(const QuantScheme& scheme, int64_t n, int64_t k) const override {
    return CheckScheme(scheme, n, k);
  }

  absl::StatusOr<std::unique_ptr<DeviceWeight>> Pack(const QuantizedView& weight, MemoryTag tag) override {
    QD_RETURN_IF_ERROR(Validate(weight));
    QD_ASSIGN_OR_RETURN(Buffer data, Keep(weight.data, tag));
    QD_ASSIGN_OR_RETURN(Buffer scales, Keep(weight.scales, tag));
    QD_ASSIGN_OR_RETURN(Buffer zeros, Keep(weight.zeros, tag));
    return std::make_unique<ReferenceWeight>(weight, std::move(data), std::move(scales), std::move(zeros));
  }

  void Linear(const Activation& x, const DeviceWeight& w, const LinearArgs& args, const Tensor& out) override {
    if (!Ready(CheckLinear(x, w, args, out))) return;
    bool int8_input = w.scheme().activation == ActivationFormat::kInt8PerToken;
    int64_t rows = out.rows();
    std::vector<float> values;  // f32 [T, K]
    for (int64_t t = 0; t < rows && !int8_input; ++t) {
      std::vector<float> row = LoadRow(x.values, t);
      values.insert(values.end(), row.begin(), row.end());
    }
    LinearRow weights(static_cast<const ReferenceWeight&>(w).view());
    for (int64_t n = 0; n < w.n(); ++n) {
      weights.Load(n);
      for (int64_t t = 0; t < rows; ++t) {
        float y = int8_input ? weights.DotInt8(static_cast<const int8_t*>(x.quantized.row(t)), x.scales.as<float>()[t])
                             : weights.Dot(values.data() + t * w.k());
        if (args.bias.present()) y += args.bias.as<float>()[n];
        y = Apply(args.activation, y);
        if (args.residual.present()) y += LoadFloat(args.residual.row(t), args.residual.dtype(), n);
        StoreFloat(out.row(t), out.dtype(), n, y);
      }
    }
  }

  void Embedding(const Tensor& ids, const DeviceWeight& table, const Tensor& out) override {
    if (!Ready(CheckEmbedding(ids, table, out)) || !Ready(CheckEmbeddingValues(ids, table))) return;
    std::vector<float> row(static_cast<size_t>(table.k()));
    for (int64_t t = 0; t < out.rows(); ++t) {
      DequantizeRow(static_cast<const ReferenceWeight&>(table).view(), ids.as<int32_t>()[t], row.data());
      StoreFloats(row.data(), table.k(), out.row(t), out.dtype());
    }
  }

  void RmsNorm(const Tensor& x, const Tensor& weight, float eps, const Activation& out) override {
    if (!Ready(CheckRmsNorm(x, weight, eps, out))) return;
    for (int64_t t = 0; t < x.rows(); ++t) {
      std::vector<float> row = LoadRow(x, t);
      float squares = 0;
      for (float v : row) squares += v * v;
      float factor = 1.0f / std::sqrt(squares / static_cast<float>(row.size()) + eps);
      for (size_t i = 0; i < row.size(); ++i) row[i] = row[i] * factor * weight.as<float>()[i];
      StoreForms(row, NormDType(x, out), t, out);
    }
  }

  void GatedActivation(ActivationKind kind, const Tensor& gate_up, const Activation& out) override {
    if (!Ready(CheckGatedActivation(kind, gate_up, out))) return;
    for (int64_t t = 0; t < gate_up.rows(); ++t) {
      std::vector<float> row = LoadRow(gate_up, t);
      size_t features = row.size() / 2;
      for (size_t i = 0; i < features; ++i) row[i] = Apply(kind, row[i]) * row[features + i];
      row.resize(features);
      StoreForms(row, gate_up.dtype(), t, out);
    }
  }

  void Rope(RopeStyle style, const Tensor& cos_sin, const Tensor& positions, const Tensor& x) override {
    if (!Ready(CheckRope(style, cos_sin, positions, x)) || !Ready(CheckRopeValues(cos_sin, positions))) return;
    int64_t heads = x.dim(1), half = x.dim(2) / 2;
    for (int64_t t = 0; t < x.rows(); ++t) {
      const auto* cosines = static_cast<const float*>(cos_sin.row(positions.as<int32_t>()[t]));
      const float* sines = cosines + half;
      std::vector<float> row = LoadRow(x, t);
      for (int64_t h = 0; h < heads; ++h) {
        float* low = row.data() + h * 2 * half;
        float* high = low + half;
        for (int64_t i = 0; i < half; ++i) {
          float a = low[i], b = high[i];
          low[i] = a * cosines[i] - b * sines[i];
          high[i] = b * cosines[i] + a * sines[i];
        }
      }
      StoreFloats(row.data(), x.row_elements(), x.row(t), x.dtype());
    }
  }

  void AppendKv(const Tensor& k, const Tensor& v, const RaggedBatch& batch, const PagedKv& kv) override {
    if (!Ready(CheckAppendKv(k, v, batch, kv)) || !Ready(CheckAppendKvValues(batch, kv))) return;
    KvSide keys = Keys(kv), values = Values(kv);
    ForEachToken(batch, [&](int64_t t, int32_t position, const int32_t* table) {
      std::vector<float> key = LoadRow(k, t), value = LoadRow(v, t);
      for (int64_t h = 0; h < keys.heads(); ++h) {
        int64_t slot = keys.slot(table[position / kKvBlockTokens], h, position % kKvBlockTokens);
        keys.Store(slot, key.data() + h * keys.dim());
        values.Store(slot, value.data() + h * values.dim());
      }
    });
  }

  void PagedAttention(const Tensor& q, const PagedKv& kv, const RaggedBatch& batch, float scale,
                      const Activation& out) override {
    if (!Ready(CheckPagedAttention(q, kv, batch, out)) || !Ready(CheckPagedAttentionValues(batch, kv))) return;
    KvSide keys = Keys(kv), values = Values(kv);
    int64_t heads = q.dim(1), dim = q.dim(2), heads_per_kv = heads / keys.heads();
    ForEachToken(batch, [&](int64_t t, int32_t position, const int32_t* table) {
      std::vector<float> query = LoadRow(q, t), result(query.size());
      for (int64_t h = 0; h < heads; ++h) {
        Attend(query.data() + h * dim, keys, values, table, h / heads_per_kv, position, scale, result.data() + h * dim);
      }
      StoreForms(result, q.dtype(), t, out);
    });
  }

  void GatherRows(const Tensor& x, const Tensor& rows, const Tensor& out) override {
    if (!Ready(CheckGatherRows(x, rows, out)) || !Ready(CheckGatherRowsValues(x, rows))) return;
    auto row_bytes = static_cast<size_t>(x.row_elements() * SizeOf(x.dtype()));
    for (int64_t i = 0; i < out.rows(); ++i) std::memcpy(out.row(i), x.row(rows.as<int32_t>()[i]), row_bytes);
  }

  void CopyKvBlocks(const PagedKv& kv, std::span<const int32_t> src, std::span<const int32_t> dst) override {
    if (!Ready(CheckCopyKvBlocks(kv, src, dst))) return;
    for (const Tensor* t : {&kv.keys, &kv.values, &kv.key_scales, &kv.value_scales}) {
      if (!t->present()) continue;
      auto block_bytes = static_cast<size_t>(t->row_elements() * SizeOf(t->dtype()));
      for (size_t i = 0; i < src.size(); ++i) std::memmove(t->row(dst[i]), t->row(src[i]), block_bytes);
    }
  }

  void Sample(const Tensor& logits, SamplingRows rows, std::span<SampleResult> results) override {
    if (!Ready(CheckSample(logits, rows, results))) return;
    std::vector<SampleScratch::Entry> entries(static_cast<size_t>(logits.dim(1)));
    for (size_t i = 0; i < rows.size(); ++i) {
      auto* row = static_cast<float*>(logits.row(static_cast<int64_t>(i)));
      results[i] = SampleRow(row, logits.dim(1), rows[i], {entries});
    }
  }

 private:
  // Keeps the first error. False: the op does nothing, for an error or because this is a dry run.
  bool Ready(const absl::Status& status) {
    if (error_.ok() && !status.ok()) error_ = status;
    return error_.ok() && !dry_run_;
  }

  // A copy of one part of a weight; an empty Buffer for an absent one.
  absl::StatusOr<Buffer> Keep(const Tensor& part, MemoryTag tag) {
    if (!part.present()) return Buffer();
    QD_ASSIGN_OR_RETURN(Buffer buffer, Allocate(part.bytes(), tag));
    if (!dry_run_) std::memcpy(buffer.data(), part.data(), static_cast<size_t>(part.bytes()));
    return buffer;
  }

  // Calls visit(token, position, block table of its sequence).
  template <typename Visit>
  static void ForEachToken(const RaggedBatch& batch, Visit visit) {
    const int32_t* starts = batch.seq_starts.as<int32_t>();
    for (int64_t s = 0; s < batch.sequences(); ++s) {
      const auto* table = static_cast<const int32_t*>(batch.block_tables.row(s));
      for (int64_t t = starts[s]; t < starts[s + 1]; ++t) visit(t, batch.positions.as<int32_t>()[t], table);
    }
  }

  void Free(void* data, int64_t bytes, MemoryTag tag) override {
    std::free(data);
    ledger_.Remove(tag, bytes);
  }

  const bool dry_run_;
  MemoryLedger ledger_;
  absl::Status error_;
};

}  // namespace

std::unique_ptr<Backend> CreateReferenceBackend(const BackendOptions& options) {
  return std::make_unique<ReferenceBackend>(options);
}

}  // namespace quantd
