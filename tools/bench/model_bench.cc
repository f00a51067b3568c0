// Prompt and decode rates of a model for each scheme, as fractions of what the machine reads and multiplies in the same
// run.
//   model_bench [MODEL] [--prompt N] [--decode N] [--threads N] [--kv bf16|int8] [SCHEME ...]
// MODEL defaults to the demo model in the cache (tools/fetch_demo_model.sh). An empty scheme is the checkpoint as it
// is.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "base/check.h"
#include "runtime/model_loader.h"
#include "tools/bench/calibrate.h"

namespace quantd {
namespace {

struct Args {
  std::string model;
  int64_t prompt = 512, decode = 128;
  int threads = 0;
  KvFormat kv = KvFormat::kInt8;
  std::vector<std::string> schemes;
};

std::string DefaultModel() {
  auto env = [](const char* name) { return std::string(std::getenv(name) ? std::getenv(name) : ""); };
  std::string cache = env("QUANTD_CACHE");
  if (cache.empty())
    cache = (env("XDG_CACHE_HOME").empty() ? env("HOME") + "/.cache" : env("XDG_CACHE_HOME")) + "/quantd";
  return cache + "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

Args Parse(int argc, char** argv) {
  Args args;
  for (int i = 1; i < argc; ++i) {
    std::string a = argv[i];
    auto value = [&] { return std::string(i + 1 < argc ? argv[++i] : ""); };
    if (a == "--prompt")
      args.prompt = std::stoll(value());
    else if (a == "--decode")
      args.decode = std::stoll(value());
    else if (a == "--threads")
      args.threads = std::stoi(value());
    else if (a == "--kv")
      args.kv = ParseKvFormat(value()).value();
    else if (args.model.empty())
      args.model = a;
    else
      args.schemes.push_back(a);
  }
  if (args.model.empty()) args.model = DefaultModel();
  if (args.schemes.empty()) {
    args.schemes = {"",
                    "bf16",
                    "int8_weight_only",
                    "int8_dynamic_activation_int8_weight",
                    "int4_weight_only,group_size=32",
                    "int4_weight_only,group_size=64"};
  }
  return args;
}

struct Rates {
  double prompt_tokens = 0, decode_tokens = 0, batch_tokens = 0;  // a second
};
constexpr int64_t kBatch = 8;

// S sequences that step together: each has its own row of blocks.
class Sequences {
 public:
  Sequences(LlmRunner& runner, int64_t count, int64_t capacity) : runner_(runner), count_(count) {
    width_ = (capacity + kKvBlockTokens - 1) / kKvBlockTokens;
    blocks_.resize(static_cast<size_t>(count * width_));
    std::iota(blocks_.begin(), blocks_.end(), 0);
  }
  // Appends `tokens` made-up tokens to every sequence in one step.
  void Step(int64_t tokens) {
    std::vector<int32_t> ids, positions, starts = {0}, rows;
    for (int64_t s = 0; s < count_; ++s) {
      for (int64_t t = 0; t < tokens; ++t) {
        ids.push_back(static_cast<int32_t>((s * 31 + (length_ + t) * 7) % 1000 + 100));
        positions.push_back(static_cast<int32_t>(length_ + t));
      }
      starts.push_back(static_cast<int32_t>(ids.size()));
      rows.push_back(static_cast<int32_t>(ids.size()) - 1);
    }
    std::vector<SamplingRow> sampling(static_cast<size_t>(count_));
    for (SamplingRow& row : sampling) row.params.temperature = 0;
    std::vector<SampleResult> results(static_cast<size_t>(count_));
    LlmStepInput input{ids, positions, starts, blocks_, width_, rows, sampling};
    QD_CHECK(runner_.Step(input, results).ok());
    length_ += tokens;
  }

 private:
  LlmRunner& runner_;
  int64_t count_, width_ = 0, length_ = 0;
  std::vector<int32_t> blocks_;
};

Rates Measure(LlmRunner& runner, const Args& args) {
  Rates best;
  for (int round = 0; round < 3; ++round) {
    Sequences one(runner, 1, args.prompt + args.decode);
    double begin = bench::Seconds();
    for (int64_t done = 0; done < args.prompt; done += 512) one.Step(std::min<int64_t>(512, args.prompt - done));
    double prompt_end = bench::Seconds();
    for (int64_t i = 0; i < args.decode; ++i) one.Step(1);
    double decode_end = bench::Seconds();
    Sequences many(runner, kBatch, 16 + args.decode / 4);
    many.Step(16);
    double batch_begin = bench::Seconds();
    for (int64_t i = 0; i < args.decode / 4; ++i) many.Step(1);
    double batch_end = bench::Seconds();
    best.prompt_tokens = std::max(best.prompt_tokens, static_cast<double>(args.prompt) / (prompt_end - begin));
    best.decode_tokens = std::max(best.decode_tokens, static_cast<double>(args.decode) / (decode_end - prompt_end));
    best.batch_tokens =
        std::max(best.batch_tokens, static_cast<double>(kBatch * (args.decode / 4)) / (batch_end - batch_begin));
  }
  return best;
}

int Main(int argc, char** argv) {
  Args args = Parse(argc, argv);
  BackendOptions options;
  options.threads = args.threads;
  auto backend = CreateBackend("cpu", options);
  QD_CHECK(backend.ok());
  DeviceInfo device = (*backend)->device();
  bench::Ceilings before = bench::Calibrate(device.threads);
  std::printf("%s, %s, %d threads; read %.1f GB/s, f32 %.0f GFLOP/s, int8 %.0f GOP/s (256-bit vectors)\n",
              device.name.c_str(), device.isa.c_str(), device.threads, before.read_bytes_per_second / 1e9,
              before.f32_flops_per_second / 1e9, before.int8_ops_per_second / 1e9);
  std::printf("%-42s %9s %12s %9s %9s %12s %12s %12s\n", "scheme", "MiB", "prompt tok/s", "of int8", "of f32",
              "decode tok/s", "of read", "batch 8 tok/s");
  for (const std::string& scheme : args.schemes) {
    auto checkpoint = OpenCheckpoint(args.model);
    if (!checkpoint.ok()) {
      std::fprintf(stderr, "%s\n", std::string(checkpoint.status().message()).c_str());
      return 1;
    }
    LoadSpec spec;
    spec.weights = scheme;
    spec.keys = spec.values = args.kv;
    spec.max_context = args.prompt + args.decode;
    auto plan = PlanModel(*checkpoint, spec, "cpu", options);
    auto loaded = plan.ok() ? LoadModel(*checkpoint, spec, *plan, **backend, 1, {}) : plan.status();
    if (!loaded.ok()) {
      std::fprintf(stderr, "%s: %s\n", scheme.c_str(), std::string(loaded.status().message()).c_str());
      return 1;
    }
    Rates rates = Measure(*loaded->runner, args);
    // A decoded token reads every matrix once (a tied table as the head). A prompt token multiplies with all but the
    // table and the head, which only the last one of a step needs.
    double bytes = 0, weights = 0;
    for (const LayerReport& line : loaded->layers) {
      bytes += static_cast<double>(line.bytes);
      const bool once = line.name == "model.embed_tokens.weight" || line.name == "lm_head.weight";
      if (!once) weights += static_cast<double>(line.n * line.k);
    }
    const double prompt_ops = rates.prompt_tokens * 2 * weights;
    std::printf("%-42s %9.1f %12.1f %8.1f%% %8.1f%% %12.1f %11.1f%% %12.1f\n",
                scheme.empty() ? "as the checkpoint is" : scheme.c_str(), bytes / (1 << 20), rates.prompt_tokens,
                100 * prompt_ops / before.int8_ops_per_second, 100 * prompt_ops / before.f32_flops_per_second,
                rates.decode_tokens, 100 * rates.decode_tokens * bytes / before.read_bytes_per_second,
                rates.batch_tokens);
    std::fflush(stdout);
    (*loaded).runner.reset();
  }
  bench::Ceilings after = bench::Calibrate(device.threads);
  std::printf("afterwards: read %.1f GB/s, f32 %.0f GFLOP/s, int8 %.0f GOP/s\n", after.read_bytes_per_second / 1e9,
              after.f32_flops_per_second / 1e9, after.int8_ops_per_second / 1e9);
  return 0;
}

}  // namespace
}  // namespace quantd

int main(int argc, char** argv) { return quantd::Main(argc, argv); }
