// From a checkpoint to a model that can step; and the same on a dry-run backend, which is the memory plan.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/checkpoint.h"
#include "runtime/llama_config.h"
#include "runtime/llm_runner.h"
#include "runtime/text_codec.h"

namespace quantd {

struct LoadSpec {
  std::string path;
  std::string weights;                                     // scheme for linear layers; empty = as the checkpoint is
  std::vector<std::pair<std::string, std::string>> rules;  // glob over layer names → scheme; first match wins
  KvFormat keys = KvFormat::kBF16, values = KvFormat::kBF16;
  DType activations = DType::kF32;  // f32 or bf16
  int64_t max_context = 0;          // InvalidArgument where the KV cache is smaller; 0 = the model's or what fits there
  int64_t kv_cache_bytes = 0;       // 0 = room for max_sequences at max_context, at most 1 GiB
  int64_t max_batch_tokens = 512;
  int64_t max_sequences = 16;
};

// One line of the quantization report.
struct LayerReport {
  std::string name;            // "model.layers.0.self_attn.q_proj.weight"
  std::string scheme, kernel;  // names of QuantScheme and DeviceWeight::layout_id
  std::string reason;          // "default", "rule mlp*", "checkpoint", "fallback: K 100 is no multiple of group 64"
  int64_t n = 0, k = 0, bytes = 0, bf16_bytes = 0;
};

// Belongs to the thread that owns the backend, and is destroyed there. Members in order of construction.
struct LoadedModel {
  std::unique_ptr<LanguageModel> model;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<LlmRunner> runner;
  StepLimits limits;
  std::vector<LayerReport> layers;
  int64_t parameters = 0;
};

// One setting of LoadSpec and the API's LoadSpec ("quantize" is weights), changed alone.
struct WayToFit {
  std::string setting, value;  // "kv_cache_bytes", "512MiB": as in a configuration file
  int64_t total_bytes = 0;     // that the model then takes
};

// What a load on this backend kind would take. `use` equals, component by component, what the running model reports.
struct MemoryPlan {
  MemoryUsage use;
  int64_t kv_bytes_per_token = 0, kv_blocks = 0, parameters = 0;
  // What a sequence can have, and what the model would take: more where the KV cache is too small and the specification
  // does not insist.
  int64_t max_context = 0, model_context = 0;
  std::vector<LayerReport> layers;
  std::vector<std::string> warnings;  // what the checkpoint says and nothing does, by file and key
  std::vector<WayToFit> ways_to_fit;  // where it does not fit: for whoever knows the budget to fill in
};

struct LoadProgress {
  int64_t done_bytes = 0, total_bytes = 0;  // of the checkpoint's tensors
};
struct LoadHooks {
  std::function<void(const LoadProgress&)> progress;  // on the calling thread
  std::function<bool()> cancelled;                    // asked between tensors; true ends in Cancelled
  // Runs its argument on the thread that owns the backend and returns when it has run. Empty = call it here.
  std::function<void(const std::function<void()>&)> on_device;
  void OnDevice(const std::function<void()>& fn) const { on_device ? on_device(fn) : fn(); }
};

absl::StatusOr<MemoryPlan> PlanModel(const Checkpoint& checkpoint, const LoadSpec& spec, std::string_view backend_kind,
                                     const BackendOptions& backend_options);
// Reads and quantizes on the calling thread, tensor by tensor; touches the backend through hooks.on_device only. `plan`
// is PlanModel's of the same checkpoint, specification and kind of backend: what it measured is allocated.
absl::StatusOr<LoadedModel> LoadModel(const Checkpoint& checkpoint, const LoadSpec& spec, const MemoryPlan& plan,
                                      Backend& backend, ModelId id, const LoadHooks& hooks);

}  // namespace quantd
