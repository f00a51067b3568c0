// Rates of the cpu backend's Linear and PagedAttention, as fractions of what the machine reads and multiplies in the
// same run.
//   kernels_bench [--threads N] [--n N] [--k K] [--isa NAME] [--quick]
// Weights are copied until they outgrow the last-level cache, so few rows show what memory gives. Best of several runs:
// on a shared host the best is what the code can do, the rest is what others did meanwhile.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "kernels/backend.h"
#include "tools/bench/calibrate.h"

namespace quantd {
namespace {

struct Args {
  int threads = 0;
  int64_t n = 8192, k = 2048;  // the MLP of a 1B Llama
  std::string isa;
  bool quick = false;
};

Args Parse(int argc, char** argv) {
  Args args;
  for (int i = 1; i < argc; ++i) {
    std::string a = argv[i];
    auto value = [&] { return std::string(i + 1 < argc ? argv[++i] : ""); };
    if (a == "--threads") args.threads = std::stoi(value());
    if (a == "--n") args.n = std::stoll(value());
    if (a == "--k") args.k = std::stoll(value());
    if (a == "--isa") args.isa = value();
    if (a == "--quick") args.quick = true;
  }
  return args;
}

class Memory {
 public:
  explicit Memory(Backend& backend) : backend_(backend) {}
  Tensor New(DType dtype, Shape shape, MemoryComponent component = MemoryComponent::kWorkspace) {
    buffers_.push_back(
        backend_.Allocate(shape.elements() * SizeOf(dtype), {.component = component, .model = 0}).value());
    std::memset(buffers_.back().data(), 0, static_cast<size_t>(buffers_.back().bytes()));
    return Tensor(buffers_.back().data(), dtype, shape);
  }
  // Numbers of either sign, of the size of activations.
  Tensor NewFloats(DType dtype, Shape shape) {
    Tensor t = New(dtype, shape);
    for (int64_t i = 0; i < shape.elements(); ++i) {
      StoreFloat(t.data(), dtype, i, static_cast<float>((i * 2654435761u) % 2001) * 1e-3f - 1);
    }
    return t;
  }

 private:
  Backend& backend_;
  std::vector<Buffer> buffers_;
};

// The fastest call of `run`, in seconds.
template <typename Run>
double Best(double seconds, const Run& run) {
  double best = 1e9, end = bench::Seconds() + seconds;
  run();
  for (int i = 0; i < 3 || bench::Seconds() < end; ++i) {
    double begin = bench::Seconds();
    run();
    best = std::min(best, bench::Seconds() - begin);
  }
  return best;
}

void BenchLinear(Backend& backend, const Args& args, const bench::Ceilings& ceilings, const char* scheme_name) {
  QuantScheme scheme = ParseQuantScheme(scheme_name).value();
  bool integer = scheme.activation == ActivationFormat::kInt8PerToken;
  Memory memory(backend);
  std::vector<std::unique_ptr<DeviceWeight>> weights;
  {
    Tensor values = memory.NewFloats(DType::kF32, {args.n, args.k});
    QuantizedMatrix matrix = Quantize(values, scheme).value();
    int64_t bytes = 0;
    while (bytes < (int64_t{96} << 20)) {
      weights.push_back(backend.Pack(matrix.view(), {MemoryComponent::kWeights, 1}).value());
      bytes += weights.back()->bytes();
    }
  }
  constexpr int64_t kMaxRows = 512;
  Activation x{memory.NewFloats(DType::kBF16, {kMaxRows, args.k}), memory.New(DType::kI8, {kMaxRows, args.k}),
               memory.New(DType::kF32, {kMaxRows})};
  Tensor ones = memory.NewFloats(DType::kF32, {args.k}), out = memory.New(DType::kBF16, {kMaxRows, args.n});
  backend.RmsNorm(x.values, ones, 1e-5f, {{}, x.quantized, x.scales});
  double bytes = static_cast<double>(weights[0]->bytes());
  for (int64_t rows : {1, 2, 4, 8, 16, 64, 512}) {
    Activation in{x.values.Rows(0, rows), x.quantized.Rows(0, rows), x.scales.Rows(0, rows)};
    size_t next = 0;
    double s = Best(args.quick ? 0.1 : 0.5, [&] {
      backend.Linear(in, *weights[next], {}, out.Rows(0, rows));
      next = (next + 1) % weights.size();
    });
    QD_CHECK(backend.Synchronize().ok());
    double ops = 2.0 * static_cast<double>(rows * args.n * args.k) / s;
    double peak = integer ? ceilings.int8_ops_per_second : ceilings.f32_flops_per_second;
    std::printf("%-38s %5ld  %8.1f us  %6.1f GB/s %4.0f%%  %7.1f GOP/s %4.0f%%\n", scheme_name, static_cast<long>(rows),
                s * 1e6, bytes / s * 1e-9, 100 * bytes / s / ceilings.read_bytes_per_second, ops * 1e-9,
                100 * ops / peak);
  }
}

struct AttentionShape {
  const char* name;
  int64_t heads, kv_heads, d;
};

// One decode token at the end of a context, and a chunk of 256 there.
void BenchAttention(Backend& backend, const Args& args, const bench::Ceilings& ceilings, KvFormat format,
                    const AttentionShape& shape) {
  constexpr int64_t kContext = 4096, kBlocks = kContext / kKvBlockTokens, kChunk = 256;
  DType dtype = format == KvFormat::kBF16 ? DType::kBF16 : DType::kI8;
  Memory memory(backend);
  Shape cache{kBlocks, shape.kv_heads, kKvBlockTokens, shape.d}, strip{kBlocks, shape.kv_heads, kKvBlockTokens};
  constexpr MemoryComponent kCache = MemoryComponent::kKvCache;  // as the product's: on small pages
  PagedKv kv{format, format, memory.New(dtype, cache, kCache), memory.New(dtype, cache, kCache), {}, {}};
  if (format == KvFormat::kInt8) {
    kv.key_scales = memory.New(DType::kF32, strip, kCache);
    kv.value_scales = memory.New(DType::kF32, strip, kCache);
  }
  Tensor positions = memory.New(DType::kI32, {kContext}), starts = memory.New(DType::kI32, {2});
  Tensor tables = memory.New(DType::kI32, {1, kBlocks});
  for (int32_t t = 0; t < kContext; ++t) positions.as<int32_t>()[t] = t;
  for (int32_t b = 0; b < kBlocks; ++b) tables.as<int32_t>()[b] = b;
  auto batch = [&](int64_t begin, int64_t count) {
    starts.as<int32_t>()[1] = static_cast<int32_t>(count);
    Tensor own = positions.Rows(begin, count);
    return RaggedBatch{own, own, starts, tables};
  };
  Tensor rows = memory.NewFloats(DType::kBF16, {kContext, shape.kv_heads, shape.d});
  backend.AppendKv(rows, rows, batch(0, kContext), kv);
  Tensor q = memory.NewFloats(DType::kBF16, {kChunk, shape.heads, shape.d});
  Tensor out = memory.New(DType::kBF16, {kChunk, shape.heads * shape.d});
  for (int64_t tokens : {int64_t{1}, kChunk}) {
    RaggedBatch b = batch(kContext - tokens, tokens);
    double s = Best(args.quick ? 0.1 : 0.5, [&] {
      backend.PagedAttention(q.Rows(0, tokens), kv, b, 0.125f, {out.Rows(0, tokens), {}, {}});
    });
    QD_CHECK(backend.Synchronize().ok());
    double bytes = 2.0 * static_cast<double>(kContext * shape.kv_heads) *
                   static_cast<double>(shape.d * KvElementBytes(format) + KvScaleBytes(format));
    double flops =
        4.0 * static_cast<double>(tokens * shape.heads * shape.d) * static_cast<double>(kContext - tokens / 2) / s;
    std::printf("attention %-12s %-15s %5ld  %8.1f us  %6.1f GB/s %4.0f%%  %7.1f GOP/s %4.0f%%\n", shape.name,
                format == KvFormat::kBF16 ? "bf16" : "int8", static_cast<long>(tokens), s * 1e6, bytes / s * 1e-9,
                100 * bytes / s / ceilings.read_bytes_per_second, flops * 1e-9,
                100 * flops / ceilings.f32_flops_per_second);
  }
}

int Main(int argc, char** argv) {
  Args args = Parse(argc, argv);
  BackendOptions options;
  options.threads = args.threads;
  options.isa = args.isa;
  auto backend = CreateBackend("cpu", options);
  if (!backend.ok()) {
    std::fprintf(stderr, "%s\n", std::string(backend.status().message()).c_str());
    return 1;
  }
  DeviceInfo device = (*backend)->device();
  auto calibrate = [&] {
    bench::Ceilings c = bench::Calibrate(device.threads);
    std::printf("%s, %s, %d threads: reads %.1f GB/s, f32 FMA %.0f GFLOP/s, int8 %.0f GOP/s\n", device.name.c_str(),
                device.isa.c_str(), device.threads, c.read_bytes_per_second * 1e-9, c.f32_flops_per_second * 1e-9,
                c.int8_ops_per_second * 1e-9);
    return c;
  };
  std::printf(
      "W[%ld, %ld]: rows, time, weight bytes read and their share of the bandwidth, operations and their share of the "
      "peak\n",
      static_cast<long>(args.n), static_cast<long>(args.k));
  for (const char* scheme : {"bf16", "int8_weight_only", "int4_weight_only,group_size=64",
                             "int4_weight_only,group_size=32", "int8_dynamic_activation_int8_weight"}) {
    BenchLinear(**backend, args, calibrate(), scheme);
  }
  bench::Ceilings ceilings = calibrate();
  std::printf("tokens at the end of a context of 4096:\n");
  for (const AttentionShape& shape : {AttentionShape{"9/3 x 64", 9, 3, 64}, AttentionShape{"32/8 x 64", 32, 8, 64},
                                      AttentionShape{"32/8 x 128", 32, 8, 128}}) {
    for (KvFormat format : {KvFormat::kBF16, KvFormat::kInt8}) BenchAttention(**backend, args, ceilings, format, shape);
  }
  return 0;
}

}  // namespace
}  // namespace quantd

int main(int argc, char** argv) { return quantd::Main(argc, argv); }
