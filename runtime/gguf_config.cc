#include "runtime/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/json.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

// Keys of llama.cpp's other architectures, and what a Llama's graph has in their place.
struct OtherGraph {
  std::string_view key;
  double neutral;
};
constexpr OtherGraph kOtherGraphs[] = {{"attention.clamp_kqv", 0},
                                       {"attention.max_alibi_bias", 0},
                                       {"attention.causal", 1},
                                       {"attention.q_lora_rank", 0},
                                       {"attention.kv_lora_rank", 0},
                                       {"attention.temperature_scale", 0},
                                       {"attn_logit_softcapping", 0},
                                       {"final_logit_softcapping", 0},
                                       {"logit_scale", 1},
                                       {"embedding_scale", 1},
                                       {"residual_scale", 1},
                                       {"use_parallel_residual", 0},
                                       {"interleave_moe_layer_step", 0},
                                       {"rope.scaling.yarn_ext_factor", 1},
                                       {"rope.scaling.yarn_attn_factor", 1},  // releases of llama.cpp differ on it
                                       {"rope.scaling.yarn_log_multiplier", 0}};
constexpr std::string_view kKnownKeys[] = {"context_length",
                                           "embedding_length",
                                           "block_count",
                                           "feed_forward_length",
                                           "vocab_size",
                                           "expert_count",
                                           "expert_used_count",
                                           "tensor_data_layout",
                                           "attention.head_count",
                                           "attention.head_count_kv",
                                           "attention.key_length",
                                           "attention.value_length",
                                           "attention.layer_norm_rms_epsilon",
                                           "attention.sliding_window",
                                           "attention.scale",
                                           "rope.dimension_count",
                                           "rope.freq_base",
                                           "rope.scale_linear",
                                           "rope.scaling.type",
                                           "rope.scaling.factor",
                                           "rope.scaling.original_context_length",
                                           "rope.scaling.attn_factor",
                                           "rope.scaling.yarn_beta_fast",
                                           "rope.scaling.yarn_beta_slow",
                                           "rope.scaling.finetuned"};

// A value as the number that kOtherGraphs compares; nothing where it is no number.
std::optional<double> AsNumber(const GgufValue& value) {
  if (const bool* flag = std::get_if<bool>(&value.value)) return *flag ? 1 : 0;
  if (const int64_t* whole = std::get_if<int64_t>(&value.value)) return static_cast<double>(*whole);
  if (const double* number = std::get_if<double>(&value.value)) return *number;
  return std::nullopt;
}

absl::Status CheckKeys(const GgufMetadata& metadata, int64_t head_dim, std::vector<std::string>& warnings) {
  constexpr std::string_view kPrefix = "llama.";
  for (const auto& [key, value] : metadata.values()) {
    if (!std::string_view(key).starts_with(kPrefix)) continue;
    const std::string_view name = std::string_view(key).substr(kPrefix.size());
    const auto other = std::ranges::find(kOtherGraphs, name, &OtherGraph::key);
    const bool scale = name == "attention.scale";
    if (other == std::end(kOtherGraphs) && !scale) {
      if (std::ranges::find(kKnownKeys, name) == std::end(kKnownKeys)) {
        warnings.push_back(absl::StrCat("unknown key ", Printable(key), ", ignored"));
      }
      continue;
    }
    const double neutral = scale ? 1 / std::sqrt(static_cast<double>(head_dim)) : other->neutral;
    const std::optional<double> number = AsNumber(value);
    if (!number.has_value() || std::abs(*number - neutral) > 1e-6) {
      return absl::UnimplementedError(absl::StrCat(Printable(key), number.has_value() ? absl::StrCat(" ", *number) : "",
                                                   " is not supported (", neutral, ")"));
    }
  }
  return absl::OkStatus();
}

// llama.cpp scales the cosines of yarn by attn_factor times this (llama-context.cpp).
double YarnMscale(double factor) { return factor <= 1 ? 1.0 : 1.0 + 0.1 * std::log(factor); }

Json& WriteScaling(const char* kind, double factor, Json& config) {
  Json& scaling = config["rope_scaling"] = Json::object();
  scaling["rope_type"] = kind;
  scaling["factor"] = factor;
  return scaling;
}

absl::Status WriteRope(GgufMetadata& metadata, int64_t head_dim, Json& config) {
  const double theta = metadata.Float("llama.rope.freq_base").value_or(10000.0);
  config["rope_theta"] = theta;
  const int64_t rotated = metadata.Int("llama.rope.dimension_count", 1, 65536).value_or(head_dim);
  if (rotated != head_dim) {
    return absl::UnimplementedError(absl::StrCat("llama.rope.dimension_count ", rotated, " of head size ", head_dim,
                                                 ": partial rotation is not supported"));
  }
  // As llama.cpp (llama-model.cpp): a factor alone is linear, 0 is no factor.
  const double old_factor = metadata.Float("llama.rope.scale_linear").value_or(0);
  const std::string kind = metadata.String("llama.rope.scaling.type", "linear");
  const double named_factor = metadata.Float("llama.rope.scaling.factor").value_or(old_factor);
  const double factor = named_factor == 0 ? 1 : named_factor;
  const double attention = metadata.Float("llama.rope.scaling.attn_factor").value_or(1);
  QD_RETURN_IF_ERROR(metadata.status());
  if (kind != "none" && kind != "linear" && kind != "yarn") {
    return absl::UnimplementedError(
        absl::StrCat("llama.rope.scaling.type \"", Printable(kind), "\" is not supported (none, linear, yarn)"));
  }
  if (kind != "yarn" && attention != 1) {  // llama.cpp scales cosines by it whatever the type
    return absl::UnimplementedError(
        absl::StrCat("llama.rope.scaling.attn_factor ", attention, " without yarn is not supported (1)"));
  }
  if (kind == "none") return absl::OkStatus();
  if (kind == "linear") {
    if (factor != 1) WriteScaling("linear", factor, config);
    return metadata.status();
  }
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  Json& yarn = WriteScaling("yarn", factor, config);
  if (const auto original = metadata.Int("llama.rope.scaling.original_context_length", 1, kMax)) {
    yarn["original_max_position_embeddings"] = *original;
  }
  if (factor > 0) yarn["attention_factor"] = attention * YarnMscale(factor);
  if (const auto fast = metadata.Float("llama.rope.scaling.yarn_beta_fast")) yarn["beta_fast"] = *fast;
  if (const auto slow = metadata.Float("llama.rope.scaling.yarn_beta_slow")) yarn["beta_slow"] = *slow;
  return metadata.status();
}

// general.sampling.* as a generation_config.json, with the values that llama.cpp has for those that are not there
// (common.h, common_params_sampling). Empty if there are none.
JsonDocument GenerationConfig(GgufMetadata& metadata, std::vector<std::string>& warnings) {
  JsonDocument document(Json::object());
  Json& config = *document;
  const auto number = [&](const std::string& key) { return metadata.Float("general.sampling." + key); };
  const std::optional<double> temperature = number("temp"), top_p = number("top_p"), min_p = number("min_p");
  const std::optional<int64_t> top_k = metadata.Int("general.sampling.top_k", 0, std::numeric_limits<int32_t>::max());
  if (temperature || top_k || top_p || min_p) {
    config["do_sample"] = true;
    config["temperature"] = temperature.value_or(0.8);
    config["top_k"] = top_k.value_or(40);
    config["top_p"] = top_p.value_or(0.95);
    config["min_p"] = min_p.value_or(0.05);
  }
  if (const std::optional<double> penalty = number("penalty_repeat"); penalty.value_or(1) != 1) {
    config["repetition_penalty"] = *penalty;
    warnings.push_back(
        "general.sampling.penalty_repeat holds over the prompt and the output, not over a last few tokens");
  }
  for (const char* key : {"xtc_probability", "mirostat"}) {
    if (number(key).value_or(0) != 0) {
      warnings.push_back(absl::StrCat("general.sampling.", key, " is not supported and has no effect"));
    }
  }
  if (metadata.Has("general.sampling.sequence")) {
    warnings.push_back("general.sampling.sequence has no effect: temperature, top-k, top-p, min-p is the order here");
  }
  return document;
}

// The keys of LlamaForCausalLM's config.json (transformers configuration_llama.py). Ranges that matter to the model
// alone are ParseLlamaConfig's to check.
absl::Status WriteConfig(const GgufFile& file, GgufMetadata& metadata, const GgufVocab* vocab, Json& config) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  const int64_t hidden = metadata.RequiredInt("llama.embedding_length", 1, kMax);
  const int64_t heads = metadata.RequiredInt("llama.attention.head_count", 1, kMax);
  const int64_t derived = std::max<int64_t>(1, hidden / heads);
  const int64_t head_dim = metadata.Int("llama.attention.key_length", 1, kMax).value_or(derived);
  const int64_t value_dim = metadata.Int("llama.attention.value_length", 1, kMax).value_or(derived);
  (config["architectures"] = Json::array()).push_back("LlamaForCausalLM");
  config["model_type"] = "llama";
  config["hidden_act"] = "silu";
  config["hidden_size"] = hidden;
  config["intermediate_size"] = metadata.RequiredInt("llama.feed_forward_length", 1, kMax);
  config["num_hidden_layers"] = metadata.RequiredInt("llama.block_count", 1, kMax);
  config["num_attention_heads"] = heads;
  config["num_key_value_heads"] = metadata.Int("llama.attention.head_count_kv", 1, kMax).value_or(heads);
  config["head_dim"] = head_dim;
  config["max_position_embeddings"] = metadata.RequiredInt("llama.context_length", 1, kMax);
  config["rms_norm_eps"] = metadata.Float("llama.attention.layer_norm_rms_epsilon").value_or(-1.0);
  if (!metadata.Has("llama.attention.layer_norm_rms_epsilon")) {
    metadata.Fail("llama.attention.layer_norm_rms_epsilon is missing");
  }
  const std::optional<int64_t> vocab_size = metadata.Int("llama.vocab_size", 1, kMax);
  if (!vocab_size.has_value() && vocab == nullptr) metadata.Fail("neither llama.vocab_size nor tokenizer.ggml.tokens");
  config["vocab_size"] = vocab_size.value_or(vocab != nullptr ? static_cast<int64_t>(vocab->tokens.size()) : 0);
  QD_RETURN_IF_ERROR(metadata.status());
  if (value_dim != head_dim) {
    return absl::UnimplementedError(
        absl::StrCat("llama.attention.value_length ", value_dim, " differs from key_length ", head_dim));
  }
  QD_RETURN_IF_ERROR(WriteRope(metadata, head_dim, config));
  if (const auto window = metadata.Int("llama.attention.sliding_window", 0, kMax)) config["sliding_window"] = *window;
  config["tie_word_embeddings"] = std::none_of(file.tensors.begin(), file.tensors.end(),
                                               [](const GgufTensor& tensor) { return tensor.name == "output.weight"; });
  if (vocab == nullptr) return absl::OkStatus();
  if (vocab->bos_id.has_value()) config["bos_token_id"] = *vocab->bos_id;
  // Ends of a turn and of a message end a generation too.
  for (const std::optional<int32_t>& id : {vocab->eos_id, vocab->eot_id, vocab->eom_id}) {
    if (!id.has_value()) continue;
    Json& eos = config["eos_token_id"];
    if (eos.is_null()) eos = Json::array();
    if (std::find(eos.begin(), eos.end(), *id) == eos.end()) eos.push_back(*id);
  }
  return metadata.status();
}

}  // namespace

absl::Status CheckGgufArchitecture(GgufMetadata& metadata) {
  // Only the first part of a split file says what the model is.
  if (metadata.Int("split.count", 0, 65536).value_or(1) > 1) {
    return absl::UnimplementedError("is one part of a split GGUF; join the parts with llama-gguf-split --merge");
  }
  const std::string architecture = metadata.String("general.architecture");
  QD_RETURN_IF_ERROR(metadata.status());
  if (architecture.empty()) return absl::DataLossError("general.architecture is missing");
  if (architecture != "llama") {
    // Those of gguf-py (constants.py) and of ComfyUI-GGUF that make pictures and films.
    constexpr std::string_view kDiffusion[] = {"flux",    "sd1",   "sd3",     "sdxl", "aura", "cogvideox",  "cosmos",
                                               "hidream", "hyvid", "lumina2", "ltxv", "pig",  "qwen_image", "wan"};
    const bool pictures = std::ranges::find(kDiffusion, architecture) != std::end(kDiffusion);
    return absl::UnimplementedError(
        absl::StrCat("architecture \"", Printable(architecture), "\" is ",
                     pictures ? "a diffusion model, which is not built yet" : "not supported (llama)"));
  }
  if (metadata.Int("llama.expert_count", 0, 65536).value_or(0) > 0) {
    return absl::UnimplementedError("a mixture of experts (llama.expert_count) is not supported");
  }
  return metadata.status();
}

absl::StatusOr<GgufConfig> WriteGgufConfig(const GgufFile& file, GgufMetadata& metadata, const GgufVocab* vocab) {
  GgufConfig written;
  JsonDocument document(Json::object());
  Json& config = *document;
  QD_RETURN_IF_ERROR(WriteConfig(file, metadata, vocab, config));
  written.config_json = config.dump(2, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  written.layers = config["num_hidden_layers"].get<int64_t>();
  written.heads = config["num_attention_heads"].get<int64_t>();
  written.kv_heads = config["num_key_value_heads"].get<int64_t>();
  QD_RETURN_IF_ERROR(CheckKeys(metadata, config["head_dim"].get<int64_t>(), written.warnings));
  const JsonDocument generation = GenerationConfig(metadata, written.warnings);
  if (!generation->empty()) written.generation_config_json = generation->dump();
  QD_RETURN_IF_ERROR(metadata.status());
  return written;
}

}  // namespace quantd
