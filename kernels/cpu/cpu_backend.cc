// The cpu backend: argument checks, memory, and jobs for the tiles.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "kernels/backend.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/host_memory.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu_backend_factory.h"
#include "kernels/memory_ledger.h"
#include "kernels/op_checks.h"

namespace quantd::cpu {
namespace {

std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    size_t colon = line.find(':');
    if (line.compare(0, 10, "model name") == 0 && colon != std::string::npos && colon + 2 <= line.size()) {
      return line.substr(colon + 2);
    }
  }
  return "unknown";
}

RowForms FormsOfRow(const Activation& out, int64_t row) {
  RowForms forms;
  if (out.values.present()) forms.values = out.values.row(row);
  if (out.quantized.present()) {
    forms.quantized = static_cast<int8_t*>(out.quantized.row(row));
    forms.scale = out.scales.as<float>() + row;
  }
  return forms;
}

class CpuBackend : public Backend {
 public:
  CpuBackend(const CpuOps& ops, int threads, bool dry_run)
      : ops_(ops), pool_(dry_run ? 1 : threads), threads_(dry_run ? threads : pool_.size()), dry_run_(dry_run) {}

  // Working memory; the rest comes with the weights (Pack).
  absl::Status Init() {
    QD_ASSIGN_OR_RETURN(scratch_, Allocate(threads_ * static_cast<int64_t>(sizeof(ThreadScratch)), MemoryTag{}));
    QD_ASSIGN_OR_RETURN(attention_rows_, Allocate(kAttentionBytes, MemoryTag{}));
    return absl::OkStatus();
  }

  DeviceInfo device() const override { return {"cpu", ProcessorName(), ops_.name, threads_}; }
  bool dry_run() const override { return dry_run_; }

  absl::StatusOr<Buffer> Allocate(int64_t bytes, MemoryTag tag) override {
    QD_CHECK(bytes >= 0);
    void* data = nullptr;
    if (!dry_run_) {
      const bool kv = tag.component == MemoryComponent::kKvCache;  // most of it may never be used
      data = AllocateHost(bytes, kv ? Residency::kOnFirstUse : Residency::kFromTheStart);
      if (data == nullptr) {
        return WithReason(absl::ResourceExhaustedError(absl::StrCat("cpu: the system has no ", bytes, " bytes for ",
                                                                    ToAbsl(Name(tag.component)))),
                          "OUT_OF_MEMORY");
      }
    }
    ledger_.Add(tag, bytes);
    return Buffer(this, data, bytes, tag);
  }
  MemorySnapshot memory() const override { return ledger_.snapshot(); }

  void CopyIn(const void* host, const Tensor& device) override {
    if (Ready(CheckCopy("CopyIn", device))) std::memcpy(device.data(), host, static_cast<size_t>(device.bytes()));
  }
  void CopyOut(const Tensor& device, void* host) override {
    if (Ready(CheckCopy("CopyOut", device))) std::memcpy(host, device.data(), static_cast<size_t>(device.bytes()));
  }
  absl::Status Synchronize() override { return std::exchange(status_, absl::OkStatus()); }

  absl::Status Supports(const QuantScheme& scheme, int64_t n, int64_t k) const override {
    return PanelsOf(scheme, n, k).status();
  }

  absl::StatusOr<std::unique_ptr<DeviceWeight>> Pack(const QuantizedView& weight, MemoryTag tag) override {
    QD_ASSIGN_OR_RETURN(PanelView view, PanelsOf(weight.scheme, weight.n, weight.k));
    if (!dry_run_) QD_RETURN_IF_ERROR(Validate(weight));
    QD_RETURN_IF_ERROR(ReserveSampling(weight.n));
    QD_ASSIGN_OR_RETURN(Buffer buffer, Allocate(view.panels() * view.panel_bytes, tag));
    if (!dry_run_) {
      uint8_t* data = static_cast<uint8_t*>(buffer.data());
      pool_.For(view.panels(), [&](int64_t panel, int) { PackPanel(weight, view, panel, data); });
    }
    return std::make_unique<CpuWeight>(weight.scheme, view, std::move(buffer));
  }

  void Linear(const Activation& x, const DeviceWeight& w, const LinearArgs& args, const Tensor& out) override {
    if (!Ready(CheckLinear(x, w, args, out))) return;
    LinearJob job;
    job.w = static_cast<const CpuWeight&>(w).view();
    bool quantized = job.w.format == PanelFormat::kInt8Dot;
    const Tensor& in = quantized ? x.quantized : x.values;
    job.x = in.data();
    job.rows = in.rows();
    job.x_dtype = in.dtype();
    job.x_stride = in.row_stride();
    if (quantized) job.x_scales = x.scales.as<float>();
    if (args.bias.present()) job.bias = args.bias.as<float>();
    if (args.residual.present()) {
      job.residual = args.residual.data();
      job.residual_stride = args.residual.row_stride();
    }
    job.out = out.data();
    job.out_dtype = out.dtype();
    job.out_stride = out.row_stride();
    job.activation = args.activation;
    RunLinear(cpu(), job);
  }

  void Embedding(const Tensor& ids, const DeviceWeight& table, const Tensor& out) override {
    if (!Ready(CheckEmbedding(ids, table, out)) || !Ready(CheckEmbeddingValues(ids, table))) return;
    const PanelView& view = static_cast<const CpuWeight&>(table).view();
    const int32_t* rows = ids.as<int32_t>();
    ForRows(cpu(), ids.rows(), view.k, [&](int64_t t) { UnpackRow(view, rows[t], out.dtype(), out.row(t)); });
  }

  void RmsNorm(const Tensor& x, const Tensor& weight, float eps, const Activation& out) override {
    if (!Ready(CheckRmsNorm(x, weight, eps, out))) return;
    ForRows(cpu(), x.rows(), x.dim(1), [&](int64_t t) {
      ops_.rms_norm(x.row(t), x.dtype(), weight.as<float>(), eps, x.dim(1), NormDType(x, out), FormsOfRow(out, t));
    });
  }

  void GatedActivation(ActivationKind kind, const Tensor& gate_up, const Activation& out) override {
    if (!Ready(CheckGatedActivation(kind, gate_up, out))) return;
    int64_t columns = gate_up.dim(1) / 2, up_offset = columns * SizeOf(gate_up.dtype());
    ForRows(cpu(), gate_up.rows(), 4 * columns, [&](int64_t t) {  // an exponential weighs several elements
      const char* gate = static_cast<const char*>(gate_up.row(t));
      ops_.gated(kind, gate, gate + up_offset, gate_up.dtype(), columns, FormsOfRow(out, t));
    });
  }

  void Rope(RopeStyle style, const Tensor& cos_sin, const Tensor& positions, const Tensor& x) override {
    if (!Ready(CheckRope(style, cos_sin, positions, x)) || !Ready(CheckRopeValues(cos_sin, positions))) return;
    const int32_t* position = positions.as<int32_t>();
    int64_t heads = x.dim(1), d = x.dim(2), head_bytes = d * SizeOf(x.dtype());
    ForRows(cpu(), x.rows(), heads * d, [&](int64_t t) {
      const float* row = static_cast<const float*>(cos_sin.row(position[t]));
      char* head = static_cast<char*>(x.row(t));
      for (int64_t h = 0; h < heads; ++h, head += head_bytes) ops_.rope(head, x.dtype(), row, d / 2);
    });
  }

  void AppendKv(const Tensor& k, const Tensor& v, const RaggedBatch& batch, const PagedKv& kv) override {
    if (!Ready(CheckAppendKv(k, v, batch, kv)) || !Ready(CheckAppendKvValues(batch, kv))) return;
    const int32_t *starts = batch.seq_starts.as<int32_t>(), *positions = batch.positions.as<int32_t>();
    for (int64_t s = 0; s < batch.sequences(); ++s) {
      const int32_t* blocks = static_cast<const int32_t*>(batch.block_tables.row(s));
      ForRows(cpu(), starts[s + 1] - starts[s], 4 * k.row_elements(), [&](int64_t i) {
        int64_t t = starts[s] + i, block = blocks[positions[t] / kKvBlockTokens], slot = positions[t] % kKvBlockTokens;
        AppendToken(k, t, block, slot, kv.key_format, kv.keys, kv.key_scales);
        AppendToken(v, t, block, slot, kv.value_format, kv.values, kv.value_scales);
      });
    }
  }

  void PagedAttention(const Tensor& q, const PagedKv& kv, const RaggedBatch& batch, float scale,
                      const Activation& out) override {
    absl::Status check = CheckPagedAttention(q, kv, batch, out);
    if (check.ok()) check = CheckAttentionSize(q);  // in a dry run too: a plan must not promise what cannot run
    if (!Ready(check) || !Ready(CheckPagedAttentionValues(batch, kv))) return;
    AttentionJob job;
    job.q = q.data();
    job.dtype = q.dtype();
    job.q_stride = q.row_stride();
    job.positions = batch.positions.as<int32_t>();
    job.heads = q.dim(1);
    job.kv_heads = kv.keys.dim(1);
    job.head_dim = q.dim(2);
    job.scale = scale;
    job.key_format = kv.key_format;
    job.value_format = kv.value_format;
    job.keys = static_cast<const uint8_t*>(kv.keys.data());
    job.values = static_cast<const uint8_t*>(kv.values.data());
    if (kv.key_format == KvFormat::kInt8) job.key_scales = kv.key_scales.as<float>();
    if (kv.value_format == KvFormat::kInt8) job.value_scales = kv.value_scales.as<float>();
    Attend(job, batch, out);
  }

  void GatherRows(const Tensor& x, const Tensor& rows, const Tensor& out) override {
    if (!Ready(CheckGatherRows(x, rows, out)) || !Ready(CheckGatherRowsValues(x, rows))) return;
    const int32_t* row = rows.as<int32_t>();
    size_t bytes = static_cast<size_t>(x.row_elements() * SizeOf(x.dtype()));
    for (int64_t i = 0; i < rows.rows(); ++i) std::memcpy(out.row(i), x.row(row[i]), bytes);
  }

  void CopyKvBlocks(const PagedKv& kv, std::span<const int32_t> src, std::span<const int32_t> dst) override {
    if (!Ready(CheckCopyKvBlocks(kv, src, dst))) return;
    for (const Tensor* t : {&kv.keys, &kv.values, &kv.key_scales, &kv.value_scales}) {
      if (!t->present()) continue;
      size_t bytes = static_cast<size_t>(t->row_elements() * SizeOf(t->dtype()));
      for (size_t i = 0; i < src.size(); ++i) std::memcpy(t->row(dst[i]), t->row(src[i]), bytes);
    }
  }

  void Sample(const Tensor& logits, SamplingRows rows, std::span<SampleResult> results) override {
    if (!Ready(CheckSample(logits, rows, results))) return;
    int64_t vocab = logits.dim(1), count = static_cast<int64_t>(rows.size());
    if (absl::Status status = ReserveSampling(vocab); !Ready(status)) return;
    auto* entries = static_cast<SampleScratch::Entry*>(sampling_.data());
    int64_t lanes = SamplingLanes();
    pool_.For(std::min(lanes, count), [&](int64_t lane, int) {
      std::span<SampleScratch::Entry> own(entries + lane * vocab, static_cast<size_t>(vocab));
      for (int64_t r = lane; r < count; r += lanes) {
        size_t i = static_cast<size_t>(r);
        results[i] = SampleRow(static_cast<float*>(logits.row(r)), vocab, rows[i], SampleScratch{own});
      }
    });
  }

 private:
  // Tokens whose attention is wanted only quantized pass through a buffer of this size, in chunks.
  static constexpr int64_t kAttentionBytes = 128 << 10;

  void Free(void* data, int64_t bytes, MemoryTag tag) override {
    ledger_.Remove(tag, bytes);
    if (data != nullptr) FreeHost(data, bytes);
  }

  // Records the first failure; false when the op is not to run.
  bool Ready(const absl::Status& check) {
    if (status_.ok() && !check.ok()) status_ = check;
    return status_.ok() && !dry_run_;
  }

  Cpu cpu() { return {ops_, pool_, static_cast<ThreadScratch*>(scratch_.data())}; }

  int64_t SamplingLanes() const { return std::min(threads_, 4); }

  // Room for the entries of rows of `vocab` logits. Pack calls it with every N, so no step finds it too small.
  absl::Status ReserveSampling(int64_t vocab) {
    int64_t bytes = SamplingLanes() * vocab * static_cast<int64_t>(sizeof(SampleScratch::Entry));
    if (bytes <= sampling_.bytes()) return absl::OkStatus();
    sampling_ = Buffer();
    QD_ASSIGN_OR_RETURN(sampling_, Allocate(bytes, MemoryTag{}));
    return absl::OkStatus();
  }

  void AppendToken(const Tensor& x, int64_t token, int64_t block, int64_t slot, KvFormat format, const Tensor& cache,
                   const Tensor& scales) {
    int64_t heads = x.dim(1), d = x.dim(2);
    const char* in = static_cast<const char*>(x.row(token));
    for (int64_t h = 0; h < heads; ++h, in += d * SizeOf(x.dtype())) {
      int64_t index = (block * heads + h) * kKvBlockTokens + slot;
      char* to = static_cast<char*>(cache.data()) + index * d * KvElementBytes(format);
      if (format == KvFormat::kInt8) {
        ops_.quantize(in, x.dtype(), d, reinterpret_cast<int8_t*>(to), scales.as<float>() + index);
      } else {
        ops_.convert(in, x.dtype(), to, format == KvFormat::kF32 ? DType::kF32 : DType::kBF16, d);
      }
    }
  }

  absl::Status CheckAttentionSize(const Tensor& q) const {
    if (q.dim(2) <= kMaxHeadDim && q.row_elements() * 4 <= kAttentionBytes) return absl::OkStatus();
    return absl::UnimplementedError(absl::StrCat("PagedAttention: ", q.dim(1), " heads of ", q.dim(2),
                                                 "; the cpu backend takes ", kMaxHeadDim, " channels a head and ",
                                                 kAttentionBytes / 4, " in all"));
  }

  void Attend(AttentionJob& job, const RaggedBatch& batch, const Activation& out) {
    int64_t tokens = batch.tokens(), columns = job.heads * job.head_dim;
    if (out.values.present()) {
      job.out = out.values.data();
      job.out_stride = out.values.row_stride();
      RunAttention(cpu(), job, batch, 0, tokens);
      QuantizeTokens(out.values, 0, out);
      return;
    }
    int64_t chunk = kAttentionBytes / (columns * SizeOf(job.dtype));
    for (int64_t begin = 0; begin < tokens; begin += chunk) {
      int64_t count = std::min(chunk, tokens - begin);
      job.out = static_cast<char*>(attention_rows_.data()) - begin * columns * SizeOf(job.dtype);
      job.out_stride = columns;
      RunAttention(cpu(), job, batch, begin, begin + count);
      QuantizeTokens(Tensor(attention_rows_.data(), job.dtype, {count, columns}), begin, out);
    }
  }

  // The heads of a token come from several threads, so its scale waits for all of them.
  void QuantizeTokens(const Tensor& values, int64_t first, const Activation& out) {
    if (!out.quantized.present()) return;
    ForRows(cpu(), values.rows(), values.dim(1), [&](int64_t t) {
      ops_.quantize(values.row(t), values.dtype(), values.dim(1), static_cast<int8_t*>(out.quantized.row(first + t)),
                    out.scales.as<float>() + first + t);
    });
  }

  const CpuOps& ops_;
  ThreadPool pool_;
  const int threads_;
  const bool dry_run_;
  MemoryLedger ledger_;
  absl::Status status_;
  Buffer scratch_, attention_rows_, sampling_;
};

}  // namespace
}  // namespace quantd::cpu

namespace quantd {

absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(const BackendOptions& options) {
  if (options.threads < 0 || options.threads > 1024) {
    return absl::InvalidArgumentError(absl::StrCat("threads is ", options.threads, ", expected 0 to 1024"));
  }
  const char* environment = std::getenv("QUANTD_CPU_ISA");
  std::string isa = !options.isa.empty() ? options.isa : environment != nullptr ? environment : "";
  const absl::StatusOr<const cpu::CpuOps*> selected = cpu::SelectOps(isa);
  if (!selected.ok()) return options.isa.empty() ? WithField(selected.status(), "QUANTD_CPU_ISA") : selected.status();
  int threads = options.threads > 0 ? options.threads : cpu::AvailableCpus();
  auto backend = std::make_unique<cpu::CpuBackend>(**selected, threads, options.dry_run);
  QD_RETURN_IF_ERROR(backend->Init());
  return backend;
}

}  // namespace quantd
