#include "kernels/op_checks.h"

#include <cmath>
#include <initializer_list>
#include <string>

#include "base/status_macros.h"
#include "base/strings.h"

namespace quantd {
namespace {

std::string Describe(DType dtype, const Shape& shape) { return std::string(Name(dtype)) + " " + ToString(shape); }

std::string Describe(const Tensor& t) { return t.present() ? Describe(t.dtype(), t.shape()) : "absent"; }

// Puts the op and its operands before what went wrong with them.
absl::Status Within(const absl::Status& status, const char* op, std::initializer_list<std::string_view> operands) {
  if (status.ok()) return status;
  std::string message = std::string(op) + ":";
  for (std::string_view operand : operands) message.append(" ").append(operand);
  return absl::InvalidArgumentError(absl::StrCat(message, ": ", status.message()));
}

absl::Status Fail(const std::string& what) { return absl::InvalidArgumentError(what); }

absl::Status Expect(const char* name, const Tensor& t, DType dtype, const Shape& shape) {
  if (t.present() && t.dtype() == dtype && t.shape() == shape) return absl::OkStatus();
  return Fail(absl::StrCat(name, " is ", Describe(t), ", expected ", Describe(dtype, shape)));
}

// Vectors and caches have no gaps between their rows.
absl::Status ExpectDense(const char* name, const Tensor& t, DType dtype, const Shape& shape) {
  QD_RETURN_IF_ERROR(Expect(name, t, dtype, shape));
  if (t.contiguous()) return absl::OkStatus();
  return Fail(absl::StrCat(name, " has a row stride of ", t.row_stride(), ", expected ", t.row_elements()));
}

// f32 or bf16 of the given rank.
absl::Status ExpectFloat(const char* name, const Tensor& t, int rank) {
  if (t.present() && (t.dtype() == DType::kF32 || t.dtype() == DType::kBF16) && t.shape().rank() == rank) {
    return absl::OkStatus();
  }
  return Fail(absl::StrCat(name, " is ", Describe(t), ", expected f32 or bf16 of rank ", rank));
}

absl::Status ExpectVector(const char* name, const Tensor& t, DType dtype) {
  if (t.present() && t.dtype() == dtype && t.shape().rank() == 1 && t.contiguous()) return absl::OkStatus();
  return Fail(absl::StrCat(name, " is ", Describe(t), ", expected a dense vector of ", ToAbsl(Name(dtype))));
}

// What an op writes: values of the inputs' dtype, the quantized form, or both.
absl::Status ExpectForms(const Activation& out, DType dtype, int64_t rows, int64_t columns) {
  if (!out.values.present() && !out.quantized.present()) return Fail("out has no form to write");
  if (out.values.present()) QD_RETURN_IF_ERROR(Expect("out.values", out.values, dtype, {rows, columns}));
  if (out.quantized.present() || out.scales.present()) {
    QD_RETURN_IF_ERROR(Expect("out.quantized", out.quantized, DType::kI8, {rows, columns}));
    QD_RETURN_IF_ERROR(ExpectDense("out.scales", out.scales, DType::kF32, {rows}));
  }
  return absl::OkStatus();
}

// Entries of an i32 vector lie in [0, limit).
absl::Status ExpectBelow(const char* name, const Tensor& t, int64_t limit, const char* of) {
  const int32_t* values = t.as<int32_t>();
  for (int64_t i = 0; i < t.rows(); ++i) {
    if (values[i] < 0 || values[i] >= limit) {
      return Fail(absl::StrCat(name, "[", i, "] is ", values[i], ", outside the ", limit, " ", of));
    }
  }
  return absl::OkStatus();
}

absl::Status LinearOperands(const Activation& x, const DeviceWeight& w, const LinearArgs& args, const Tensor& out) {
  bool quantized = w.scheme().activation == ActivationFormat::kInt8PerToken;
  const Tensor& in = quantized ? x.quantized : x.values;
  int64_t rows = in.rows();
  if (quantized) {
    QD_RETURN_IF_ERROR(Expect("x.quantized", in, DType::kI8, {rows, w.k()}));
    QD_RETURN_IF_ERROR(ExpectDense("x.scales", x.scales, DType::kF32, {rows}));
  } else {
    QD_RETURN_IF_ERROR(ExpectFloat("x.values", in, 2));
    QD_RETURN_IF_ERROR(Expect("x.values", in, in.dtype(), {rows, w.k()}));
  }
  QD_RETURN_IF_ERROR(ExpectFloat("out", out, 2));
  QD_RETURN_IF_ERROR(Expect("out", out, out.dtype(), {rows, w.n()}));
  if (x.values.present() && x.values.dtype() == DType::kF32 && out.dtype() != DType::kF32) {
    return Fail("out is bf16 where x is f32");
  }
  if (args.bias.present()) QD_RETURN_IF_ERROR(ExpectDense("bias", args.bias, DType::kF32, {w.n()}));
  if (args.residual.present()) QD_RETURN_IF_ERROR(Expect("residual", args.residual, out.dtype(), {rows, w.n()}));
  return absl::OkStatus();
}

std::string DescribeWeight(const DeviceWeight& w) {
  return "W " + ToString(Shape{w.n(), w.k()}) + " " + Name(w.scheme());
}

absl::Status RmsNormOperands(const Tensor& x, const Tensor& weight, float eps, const Activation& out) {
  QD_RETURN_IF_ERROR(ExpectFloat("x", x, 2));
  QD_RETURN_IF_ERROR(ExpectDense("weight", weight, DType::kF32, {x.dim(1)}));
  if (!(eps >= 0) || !std::isfinite(eps))
    return Fail(absl::StrCat("eps is ", eps, ", expected a finite one from 0 up"));
  if (x.dtype() == DType::kBF16 && out.values.present() && out.values.dtype() == DType::kF32) {
    return Fail("out.values is f32 where x is bf16");
  }
  return ExpectForms(out, NormDType(x, out), x.rows(), x.dim(1));
}

absl::Status GatedActivationOperands(const Tensor& gate_up, const Activation& out) {
  QD_RETURN_IF_ERROR(ExpectFloat("gate_up", gate_up, 2));
  if (gate_up.dim(1) % 2 != 0) return Fail("gate_up has an odd number of columns");
  return ExpectForms(out, gate_up.dtype(), gate_up.rows(), gate_up.dim(1) / 2);
}

absl::Status RopeOperands(const Tensor& cos_sin, const Tensor& positions, const Tensor& x) {
  QD_RETURN_IF_ERROR(ExpectFloat("x", x, 3));
  if (x.dim(2) % 2 != 0) return Fail("x has an odd head dimension");
  QD_RETURN_IF_ERROR(Expect("cos_sin", cos_sin, DType::kF32, {cos_sin.rows(), x.dim(2)}));
  return ExpectDense("positions", positions, DType::kI32, {x.rows()});
}

absl::Status ExpectCache(const char* name, const char* scales_name, const Tensor& cache, const Tensor& scales,
                         KvFormat format, const Shape& shape) {
  QD_RETURN_IF_ERROR(ExpectDense(name, cache, KvDType(format), shape));
  if (format != KvFormat::kInt8) return absl::OkStatus();
  return ExpectDense(scales_name, scales, DType::kF32, {shape[0], shape[1], shape[2]});
}

absl::Status ExpectKv(const PagedKv& kv) {
  if (!kv.keys.present() || kv.keys.shape().rank() != 4 || kv.keys.dim(2) != kKvBlockTokens) {
    return Fail(absl::StrCat("keys are ", Describe(kv.keys), ", expected [blocks, H_kv, ", kKvBlockTokens, ", D]"));
  }
  QD_RETURN_IF_ERROR(ExpectCache("keys", "key_scales", kv.keys, kv.key_scales, kv.key_format, kv.keys.shape()));
  return ExpectCache("values", "value_scales", kv.values, kv.value_scales, kv.value_format, kv.keys.shape());
}

absl::Status ExpectBatch(const RaggedBatch& batch, int64_t tokens) {
  QD_RETURN_IF_ERROR(ExpectDense("token_ids", batch.token_ids, DType::kI32, {tokens}));
  QD_RETURN_IF_ERROR(ExpectDense("positions", batch.positions, DType::kI32, {tokens}));
  QD_RETURN_IF_ERROR(ExpectVector("seq_starts", batch.seq_starts, DType::kI32));
  if (batch.seq_starts.rows() < 1) return Fail("seq_starts is empty, expected at least one entry");
  const Tensor& tables = batch.block_tables;
  if (!tables.present() || tables.dtype() != DType::kI32 || tables.shape().rank() != 2 ||
      tables.rows() != batch.sequences()) {
    return Fail(absl::StrCat("block_tables is ", Describe(tables), ", expected i32 [", batch.sequences(),
                             ", blocks a sequence]"));
  }
  return absl::OkStatus();
}

absl::Status AppendKvOperands(const Tensor& k, const Tensor& v, const RaggedBatch& batch, const PagedKv& kv) {
  QD_RETURN_IF_ERROR(ExpectKv(kv));
  QD_RETURN_IF_ERROR(ExpectFloat("k", k, 3));
  QD_RETURN_IF_ERROR(Expect("k", k, k.dtype(), {k.rows(), kv.keys.dim(1), kv.keys.dim(3)}));
  QD_RETURN_IF_ERROR(Expect("v", v, k.dtype(), k.shape()));
  return ExpectBatch(batch, k.rows());
}

absl::Status PagedAttentionOperands(const Tensor& q, const PagedKv& kv, const RaggedBatch& batch,
                                    const Activation& out) {
  QD_RETURN_IF_ERROR(ExpectKv(kv));
  QD_RETURN_IF_ERROR(ExpectFloat("q", q, 3));
  int64_t kv_heads = kv.keys.dim(1);
  if (q.dim(2) != kv.keys.dim(3)) return Fail("head dimensions differ");
  if (kv_heads == 0 || q.dim(1) % kv_heads != 0) return Fail("the heads of q are no multiple of those of the cache");
  QD_RETURN_IF_ERROR(ExpectBatch(batch, q.rows()));
  return ExpectForms(out, q.dtype(), q.rows(), q.dim(1) * q.dim(2));
}

absl::Status ExpectBlock(int32_t block, int64_t blocks, int64_t sequence, int64_t index) {
  if (block >= 0 && block < blocks) return absl::OkStatus();
  return Fail(
      absl::StrCat("block_tables[", sequence, ", ", index, "] is ", block, ", outside the ", blocks, " blocks"));
}

enum class BlocksUsed { kOwn, kAllBefore };

absl::Status BatchValues(const RaggedBatch& batch, const PagedKv& kv, BlocksUsed used) {
  const int32_t* starts = batch.seq_starts.as<int32_t>();
  const int32_t* positions = batch.positions.as<int32_t>();
  int64_t sequences = batch.sequences(), table_blocks = batch.block_tables.dim(1), blocks = kv.keys.rows();
  if (starts[0] != 0 || starts[sequences] != batch.tokens()) {
    return Fail(absl::StrCat("seq_starts runs from ", starts[0], " to ", starts[sequences], ", expected 0 to ",
                             batch.tokens()));
  }
  for (int64_t s = 0; s < sequences; ++s) {
    if (starts[s] > starts[s + 1]) {
      return Fail(absl::StrCat("seq_starts[", s, "] is ", starts[s], ", above the next, ", starts[s + 1]));
    }
  }
  // From here on every start is known to lie within the tokens.
  for (int64_t s = 0; s < sequences; ++s) {
    const auto* table = static_cast<const int32_t*>(batch.block_tables.row(s));
    int64_t checked = 0;  // blocks below this one are known to lie inside the pool
    for (int64_t t = starts[s]; t < starts[s + 1]; ++t) {
      int64_t index = positions[t] / kKvBlockTokens;
      if (positions[t] < 0 || index >= table_blocks) {
        return Fail(absl::StrCat("positions[", t, "] is ", positions[t], ", outside a table of ", table_blocks,
                                 " blocks of ", kKvBlockTokens));
      }
      if (used == BlocksUsed::kOwn) QD_RETURN_IF_ERROR(ExpectBlock(table[index], blocks, s, index));
      for (; used == BlocksUsed::kAllBefore && checked <= index; ++checked) {
        QD_RETURN_IF_ERROR(ExpectBlock(table[checked], blocks, s, checked));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status GatherRowsOperands(const Tensor& x, const Tensor& rows, const Tensor& out) {
  if (!x.present() || x.shape().rank() < 1) return Fail("x has no rows");
  QD_RETURN_IF_ERROR(ExpectVector("rows", rows, DType::kI32));
  if (!out.present() || out.dtype() != x.dtype() || out.shape().rank() < 1 || out.row_elements() != x.row_elements() ||
      out.rows() != rows.rows()) {
    return Fail("out does not take the rows");
  }
  return absl::OkStatus();
}

absl::Status CopyKvBlocksOperands(const PagedKv& kv, std::span<const int32_t> src, std::span<const int32_t> dst) {
  QD_RETURN_IF_ERROR(ExpectKv(kv));
  if (src.size() != dst.size()) return Fail("src and dst differ in length");
  for (size_t i = 0; i < src.size(); ++i) {
    for (int32_t block : {src[i], dst[i]}) {
      if (block < 0 || block >= kv.keys.rows()) {
        return Fail(absl::StrCat("block ", block, " lies outside the ", kv.keys.rows(), " blocks"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status SampleOperands(const Tensor& logits, SamplingRows rows, std::span<const SampleResult> results) {
  auto count = static_cast<int64_t>(rows.size());
  if (!logits.present() || logits.shape().rank() != 2) return Fail("logits is not f32 [R, V]");
  QD_RETURN_IF_ERROR(Expect("logits", logits, DType::kF32, {count, logits.dim(1)}));
  if (results.size() != rows.size()) return Fail(absl::StrCat("there is room for ", results.size(), " results"));
  for (const SamplingRow& row : rows) {
    const SamplingParams& p = row.params;
    if (!(p.temperature >= 0) || !std::isfinite(p.temperature) || p.top_k < 0 || !(p.top_p > 0 && p.top_p <= 1) ||
        !(p.min_p >= 0 && p.min_p <= 1)) {
      return Fail(absl::StrCat("temperature ", p.temperature, ", top_k ", p.top_k, ", top_p ", p.top_p, ", min_p ",
                               p.min_p, ": expected >= 0, >= 0, in (0, 1], in [0, 1]"));
    }
    if (!(p.repetition_penalty > 0) || !std::isfinite(p.repetition_penalty) || !std::isfinite(p.presence_penalty) ||
        !std::isfinite(p.frequency_penalty) || p.no_repeat_ngram_size < 0) {
      return Fail(absl::StrCat("repetition_penalty ", p.repetition_penalty, ", presence_penalty ", p.presence_penalty,
                               ", frequency_penalty ", p.frequency_penalty, ", no_repeat_ngram_size ",
                               p.no_repeat_ngram_size, ": expected > 0, finite, finite, >= 0"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

// The descriptions are made on failure alone: a passing check allocates nothing.
#define QD_WITHIN(expr, op, ...)              \
  do {                                        \
    absl::Status status = (expr);             \
    if (status.ok()) return status;           \
    return Within(status, op, {__VA_ARGS__}); \
  } while (false)

absl::Status CheckCopy(const char* op, const Tensor& device) {
  if (device.present() && device.contiguous()) return absl::OkStatus();
  return Fail(absl::StrCat(op, ": ", Describe(device), " is absent or has gaps between its rows"));
}

absl::Status CheckLinear(const Activation& x, const DeviceWeight& w, const LinearArgs& args, const Tensor& out) {
  const Tensor& in = w.scheme().activation == ActivationFormat::kInt8PerToken ? x.quantized : x.values;
  QD_WITHIN(LinearOperands(x, w, args, out), "Linear", "x", Describe(in), "with", DescribeWeight(w));
}

absl::Status CheckEmbedding(const Tensor& ids, const DeviceWeight& table, const Tensor& out) {
  auto operands = [&]() -> absl::Status {
    QD_RETURN_IF_ERROR(ExpectVector("ids", ids, DType::kI32));
    QD_RETURN_IF_ERROR(ExpectFloat("out", out, 2));
    return Expect("out", out, out.dtype(), {ids.rows(), table.k()});
  };
  QD_WITHIN(operands(), "Embedding", "ids", Describe(ids), "of", DescribeWeight(table));
}

absl::Status CheckEmbeddingValues(const Tensor& ids, const DeviceWeight& table) {
  QD_WITHIN(ExpectBelow("ids", ids, table.n(), "rows of the table"), "Embedding", "ids", Describe(ids), "of",
            DescribeWeight(table));
}

DType NormDType(const Tensor& x, const Activation& out) {
  return out.values.present() && out.values.dtype() == DType::kBF16 ? DType::kBF16 : x.dtype();
}

absl::Status CheckRmsNorm(const Tensor& x, const Tensor& weight, float eps, const Activation& out) {
  QD_WITHIN(RmsNormOperands(x, weight, eps, out), "RmsNorm", "x", Describe(x), "with weight", Describe(weight));
}

absl::Status CheckGatedActivation(ActivationKind, const Tensor& gate_up, const Activation& out) {
  QD_WITHIN(GatedActivationOperands(gate_up, out), "GatedActivation", "gate_up", Describe(gate_up));
}

absl::Status CheckRope(RopeStyle, const Tensor& cos_sin, const Tensor& positions, const Tensor& x) {
  QD_WITHIN(RopeOperands(cos_sin, positions, x), "Rope", "x", Describe(x), "with cos_sin", Describe(cos_sin));
}

absl::Status CheckRopeValues(const Tensor& cos_sin, const Tensor& positions) {
  QD_WITHIN(ExpectBelow("positions", positions, cos_sin.rows(), "positions of the table"), "Rope", "positions",
            Describe(positions), "with cos_sin", Describe(cos_sin));
}

absl::Status CheckAppendKv(const Tensor& k, const Tensor& v, const RaggedBatch& batch, const PagedKv& kv) {
  QD_WITHIN(AppendKvOperands(k, v, batch, kv), "AppendKv", "k", Describe(k), "v", Describe(v), "into keys",
            Describe(kv.keys));
}

absl::Status CheckAppendKvValues(const RaggedBatch& batch, const PagedKv& kv) {
  QD_WITHIN(BatchValues(batch, kv, BlocksUsed::kOwn), "AppendKv", "tokens", Describe(batch.positions), "into keys",
            Describe(kv.keys));
}

absl::Status CheckPagedAttention(const Tensor& q, const PagedKv& kv, const RaggedBatch& batch, const Activation& out) {
  QD_WITHIN(PagedAttentionOperands(q, kv, batch, out), "PagedAttention", "q", Describe(q), "with keys",
            Describe(kv.keys));
}

absl::Status CheckPagedAttentionValues(const RaggedBatch& batch, const PagedKv& kv) {
  QD_WITHIN(BatchValues(batch, kv, BlocksUsed::kAllBefore), "PagedAttention", "tokens", Describe(batch.positions),
            "with keys", Describe(kv.keys));
}

absl::Status CheckGatherRows(const Tensor& x, const Tensor& rows, const Tensor& out) {
  QD_WITHIN(GatherRowsOperands(x, rows, out), "GatherRows", "x", Describe(x), "rows", Describe(rows), "into",
            Describe(out));
}

absl::Status CheckGatherRowsValues(const Tensor& x, const Tensor& rows) {
  QD_WITHIN(ExpectBelow("rows", rows, x.rows(), "rows of x"), "GatherRows", "x", Describe(x), "rows", Describe(rows));
}

absl::Status CheckCopyKvBlocks(const PagedKv& kv, std::span<const int32_t> src, std::span<const int32_t> dst) {
  QD_WITHIN(CopyKvBlocksOperands(kv, src, dst), "CopyKvBlocks", "keys", Describe(kv.keys));
}

absl::Status CheckSample(const Tensor& logits, SamplingRows rows, std::span<const SampleResult> results) {
  QD_WITHIN(SampleOperands(logits, rows, results), "Sample", "logits", Describe(logits), "for",
            std::to_string(rows.size()), "rows");
}

#undef QD_WITHIN

}  // namespace quantd
