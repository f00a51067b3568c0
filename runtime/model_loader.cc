#include "runtime/model_loader.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/architecture.h"
#include "runtime/llama.h"
#include "runtime/param_loader.h"
#include "runtime/printable.h"
#include "runtime/quant_recipe.h"

namespace quantd {
namespace {

// What a model class does with its config and parameters. One row for each known architecture.
using MakeModel = absl::StatusOr<std::unique_ptr<LanguageModel>> (*)(const Checkpoint&, const ContextLimits&, DType,
                                                                     ParamLoader&, std::unique_ptr<ModelParams>);
absl::StatusOr<std::unique_ptr<LanguageModel>> NewLlama(const Checkpoint& checkpoint, const ContextLimits& context,
                                                        DType activations, ParamLoader& loader,
                                                        std::unique_ptr<ModelParams> params) {
  QD_ASSIGN_OR_RETURN(LlamaConfig config, ParseLlamaConfig(checkpoint.config_json));
  config.biases_where_there = checkpoint.format == "gguf";
  return MakeLlama(config, context, activations, loader, std::move(params));
}
struct Architecture {
  std::string_view name;
  MakeModel make;
};
constexpr Architecture kArchitectures[] = {
    {"LlamaForCausalLM", NewLlama}, {"LLaMAForCausalLM", NewLlama}, {"MistralForCausalLM", NewLlama}};

absl::StatusOr<MakeModel> FindArchitecture(const Checkpoint& checkpoint) {
  QD_ASSIGN_OR_RETURN(std::string name, ReadArchitecture(checkpoint.config_json));
  for (const Architecture& a : kArchitectures) {
    if (a.name == name) return a.make;
  }
  return absl::UnimplementedError(absl::StrCat(checkpoint.path, ": architecture ", Printable(name),
                                               ", supported are LlamaForCausalLM and MistralForCausalLM"));
}

// A model with its cache on a backend, real or dry.
struct Assembled {
  std::unique_ptr<LanguageModel> model;
  std::unique_ptr<KvCache> cache;
  StepLimits limits;
  ModelParams* params = nullptr;  // owned by the model
};

// What the specification asks for cannot be had. `field` is of LoadSpec, here and in the API.
template <typename... Parts>
absl::Status SpecError(std::string_view field, const Parts&... what) {
  return WithField(absl::InvalidArgumentError(absl::StrCat(ToAbsl(field), " ", what...)),
                   absl::StrCat("spec.", ToAbsl(field)));
}

int64_t BlocksOf(int64_t tokens) { return (tokens + kKvBlockTokens - 1) / kKvBlockTokens; }

// InvalidArgument: not one block fits, or more than ids (int32) can name; so sums of bytes do not overflow.
absl::StatusOr<KvCacheConfig> CacheConfig(const LlamaConfig& model, int64_t max_context, const LoadSpec& spec) {
  KvCacheConfig config{model.layers, model.kv_heads, model.head_dim, 0, spec.keys, spec.values};
  constexpr int64_t kDefaultMost = int64_t{1} << 30;
  const int64_t bytes = spec.kv_cache_bytes > 0 ? spec.kv_cache_bytes : kDefaultMost;
  config.blocks = bytes / config.bytes_per_block();
  if (spec.kv_cache_bytes == 0) config.blocks = std::min(config.blocks, BlocksOf(max_context) * spec.max_sequences);
  constexpr int64_t kMostBlocks = std::numeric_limits<int32_t>::max();
  if (config.blocks >= 1 && config.blocks <= kMostBlocks) return config;
  const std::string why = absl::StrCat("kv_cache_bytes ", bytes, ": one block of ", kKvBlockTokens, " tokens takes ",
                                       config.bytes_per_block(), ", expected 1 to ", kMostBlocks, " blocks");
  const absl::Status status = absl::InvalidArgumentError(why);
  return spec.kv_cache_bytes > 0 ? WithField(status, "spec.kv_cache_bytes") : status;  // else the model is absurd
}

absl::Status CheckSpec(const LoadSpec& spec) {
  if (spec.activations != DType::kF32 && spec.activations != DType::kBF16) {
    return SpecError("activations", ToAbsl(Name(spec.activations)), ": expected f32 or bf16");
  }
  if (spec.max_batch_tokens < 1 || spec.max_batch_tokens > 65536) {
    return SpecError("max_batch_tokens", spec.max_batch_tokens, ": expected 1 to 65536");
  }
  if (spec.max_sequences < 1 || spec.max_sequences > 4096)
    return SpecError("max_sequences", spec.max_sequences, ": expected 1 to 4096");
  if (spec.max_sequences > spec.max_batch_tokens) {
    return SpecError("max_sequences", spec.max_sequences, ": more than max_batch_tokens ", spec.max_batch_tokens,
                     ", and each running sequence takes a token of a step");
  }
  if (spec.kv_cache_bytes < 0) return SpecError("kv_cache_bytes", spec.kv_cache_bytes, ": expected a positive number");
  return absl::OkStatus();
}

absl::StatusOr<int64_t> MaxContext(const LlamaConfig& config, const LoadSpec& spec) {
  if (spec.max_context < 0 || spec.max_context > config.rope.longest_context) {
    return SpecError("max_context", spec.max_context, ": expected 2 to the model's ", config.rope.longest_context);
  }
  const int64_t max_context = spec.max_context == 0 ? config.max_position : spec.max_context;
  if (max_context >= 2) return max_context;
  constexpr char kWhy[] = ": expected at least 2, a token read and one written";
  if (spec.max_context != 0) return SpecError("max_context", max_context, kWhy);
  return absl::InvalidArgumentError(absl::StrCat("the model's max_context ", max_context, kWhy));
}

// A window that no sequence outgrows does nothing.
absl::Status CheckWindow(const LlamaConfig& config, int64_t context) {
  if (config.sliding_window == 0 || config.sliding_window >= context) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("sliding_window ", config.sliding_window, " is shorter than the ", context,
                   " tokens that a sequence can have here, and attention within a window is not supported; with "
                   "max_context at most ",
                   config.sliding_window, " the model runs as it is"));
}

// A step's block tables are host and workspace memory: S times the longest sequence's blocks.
absl::Status CheckBlockTables(const StepLimits& limits) {
  constexpr int64_t kMostEntries = int64_t{1} << 26;
  if (limits.max_blocks_per_sequence() <= kMostEntries / limits.max_sequences) return absl::OkStatus();
  return SpecError("max_context", limits.max_context, " with max_sequences ", limits.max_sequences,
                   ": block tables of more than ", kMostEntries, " entries; lower one of the two");
}

// Loads weights and makes the cache. On failure `out` holds what was made so far: it must die on the device's thread.
absl::Status Assemble(const Checkpoint& checkpoint, const LoadSpec& spec, Backend& backend, ModelId id,
                      const LoadHooks& hooks, Assembled& out) {
  QD_RETURN_IF_ERROR(CheckSpec(spec));
  QD_ASSIGN_OR_RETURN(MakeModel make, FindArchitecture(checkpoint));
  QD_ASSIGN_OR_RETURN(QuantRecipe recipe, QuantRecipe::Parse(spec.weights, spec.rules));
  QD_ASSIGN_OR_RETURN(const LlamaConfig config, ParseLlamaConfig(checkpoint.config_json));
  QD_ASSIGN_OR_RETURN(const int64_t max_context, MaxContext(config, spec));
  QD_ASSIGN_OR_RETURN(const KvCacheConfig cache_config, CacheConfig(config, max_context, spec));
  const ContextLimits context{max_context, std::min(max_context, cache_config.blocks * kKvBlockTokens)};
  out.limits = {spec.max_batch_tokens, spec.max_sequences, context.positions};
  QD_RETURN_IF_ERROR(CheckBlockTables(out.limits));
  QD_RETURN_IF_ERROR(CheckWindow(config, context.positions));
  if (spec.max_context > context.positions) {
    return SpecError("max_context", spec.max_context, ": the KV cache holds ", context.positions, " tokens, ",
                     cache_config.bytes_per_block(), " bytes for each ", kKvBlockTokens, "; raise kv_cache_bytes to ",
                     BlocksOf(spec.max_context) * cache_config.bytes_per_block(), " or lower max_context");
  }
  auto params = std::make_unique<ModelParams>();
  out.params = params.get();
  ParamLoader loader(*checkpoint.weights, recipe, backend, {MemoryComponent::kWeights, id}, spec.activations, hooks,
                     *params);
  QD_ASSIGN_OR_RETURN(out.model, make(checkpoint, context, spec.activations, loader, std::move(params)));
  QD_RETURN_IF_ERROR(loader.Finish());
  absl::Status cache_status;
  hooks.OnDevice([&] {
    auto cache = KvCache::Create(backend, cache_config, {MemoryComponent::kKvCache, id});
    cache_status = cache.status();
    if (cache.ok()) out.cache = *std::move(cache);
  });
  return cache_status;
}

struct DryRun {
  std::unique_ptr<Backend> backend;
  Assembled assembled;
  std::unique_ptr<LlmRunner> runner;
};

absl::StatusOr<DryRun> RunDry(const Checkpoint& checkpoint, const LoadSpec& spec, std::string_view backend_kind,
                              BackendOptions options) {
  options.dry_run = true;
  DryRun dry;
  QD_ASSIGN_OR_RETURN(dry.backend, CreateBackend(backend_kind, options));
  Assembled& a = dry.assembled;
  QD_RETURN_IF_ERROR(Assemble(checkpoint, spec, *dry.backend, 1, {}, a));
  const int64_t workspace_bytes = LlmRunner::MeasureWorkspace(*dry.backend, *a.model, *a.cache, a.limits);
  QD_RETURN_IF_ERROR(dry.backend->Synchronize());
  QD_ASSIGN_OR_RETURN(dry.runner, LlmRunner::Create(*dry.backend, *a.model, *a.cache, a.limits, workspace_bytes,
                                                    {MemoryComponent::kWorkspace, 1}));
  return dry;
}

}  // namespace

absl::StatusOr<MemoryPlan> PlanModel(const Checkpoint& checkpoint, const LoadSpec& spec, std::string_view backend_kind,
                                     const BackendOptions& backend_options) {
  QD_ASSIGN_OR_RETURN(DryRun dry, RunDry(checkpoint, spec, backend_kind, backend_options));
  MemoryPlan plan;
  plan.use = dry.backend->memory().models[1];
  const KvCacheConfig& cache = dry.assembled.cache->config();
  plan.kv_bytes_per_token = cache.bytes_per_token();
  plan.kv_blocks = cache.blocks;
  plan.max_context = dry.assembled.limits.max_context;
  plan.model_context = dry.assembled.model->shape().max_context;
  plan.parameters = dry.assembled.params->parameters;
  plan.layers = dry.assembled.params->report;
  QD_ASSIGN_OR_RETURN(const LlamaConfig config, ParseLlamaConfig(checkpoint.config_json));
  plan.warnings = config.warnings;
  for (const auto* more : {&checkpoint.weights->warnings(), &std::as_const(dry.assembled.params->warnings)}) {
    plan.warnings.insert(plan.warnings.end(), more->begin(), more->end());
  }
  return plan;
}

absl::StatusOr<LoadedModel> LoadModel(const Checkpoint& checkpoint, const LoadSpec& spec, const MemoryPlan& plan,
                                      Backend& backend, ModelId id, const LoadHooks& hooks) {
  const int64_t workspace_bytes = plan.use.bytes[static_cast<size_t>(MemoryComponent::kWorkspace)];
  Assembled assembled;
  std::unique_ptr<LlmRunner> runner;
  absl::Status status = Assemble(checkpoint, spec, backend, id, hooks, assembled);
  hooks.OnDevice([&] {
    if (status.ok()) {
      auto created = LlmRunner::Create(backend, *assembled.model, *assembled.cache, assembled.limits, workspace_bytes,
                                       {MemoryComponent::kWorkspace, id});
      status = created.status();
      if (created.ok()) runner = *std::move(created);
    }
    if (!status.ok()) {
      assembled.cache.reset();
      assembled.model.reset();
    }
  });
  QD_RETURN_IF_ERROR(status);
  LoadedModel loaded;
  loaded.limits = assembled.limits;
  loaded.layers = std::move(assembled.params->report);
  loaded.parameters = assembled.params->parameters;
  loaded.model = std::move(assembled.model);
  loaded.cache = std::move(assembled.cache);
  loaded.runner = std::move(runner);
  return loaded;
}

}  // namespace quantd
