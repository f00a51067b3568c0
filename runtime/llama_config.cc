#include "runtime/llama_config.h"

#include <cmath>
#include <limits>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/generation_config.h"
#include "runtime/json.h"
#include "runtime/json_members.h"

namespace quantd {
namespace {

constexpr JsonLimits kLimits = {.bytes = 4 << 20, .depth = 32};

constexpr int64_t kMaxSize = int64_t{1} << 24;  // of a hidden or intermediate dimension
constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
constexpr size_t kMostEos = 1024;
constexpr int64_t kMaxLayers = 4096, kMaxHeads = 4096;
constexpr int64_t kMaxPosition = std::numeric_limits<int32_t>::max();

// rope_scaling {"type" or "rope_type": …}; since transformers 5 rope_parameters, which holds rope_theta too.
absl::Status ParseRope(const Json& object, const std::string& name, LlamaConfig& config) {
  if (!object.is_object())
    return absl::InvalidArgumentError(absl::StrCat(name, " is ", Excerpt(object), ", expected an object"));
  JsonMembers members(object, name);
  RopeScaling& scaling = config.rope_scaling;
  const std::string kind = members.String("rope_type", members.String("type", "default"));
  QD_RETURN_IF_ERROR(members.status());
  config.rope_theta =
      members.Float("rope_theta", config.rope_theta, 0, std::numeric_limits<float>::max(), /*above_min=*/true);
  if (members.Float("partial_rotary_factor", 1, 0, 1) != 1.0f) {
    return absl::UnimplementedError(absl::StrCat(name, ": partial_rotary_factor is not supported"));
  }
  if (kind == "default") return members.status();
  if (kind != "linear" && kind != "llama3") {
    return absl::UnimplementedError(
        absl::StrCat(name, ": rope type \"", kind, "\" is not supported (default, linear, llama3)"));
  }
  if (!members.Has("factor")) members.Fail("factor is missing");
  scaling.factor = members.Float("factor", 1, 1, 65536);
  if (kind == "linear") {
    scaling.kind = RopeScaling::Kind::kLinear;
    return members.status();
  }
  scaling.kind = RopeScaling::Kind::kLlama3;
  for (const char* key : {"low_freq_factor", "high_freq_factor"}) {
    if (!members.Has(key)) members.Fail(absl::StrCat(key, " is missing"));
  }
  scaling.low_freq_factor = members.Float("low_freq_factor", 1, 0, 65536, /*above_min=*/true);
  scaling.high_freq_factor = members.Float("high_freq_factor", 4, 0, 65536, /*above_min=*/true);
  scaling.original_max_position = members.RequiredInt("original_max_position_embeddings", 1, kMaxPosition);
  // The formula divides by their difference.
  if (scaling.high_freq_factor <= scaling.low_freq_factor)
    members.Fail("high_freq_factor is not above low_freq_factor");
  return members.status();
}

absl::Status CheckSupported(const Json& config, JsonMembers& members) {
  if (const Json* quantization = FindMember(config, "quantization_config")) {
    const Json* method = FindMember(*quantization, "quant_method");
    return absl::UnimplementedError(absl::StrCat("config.json: quantization_config with quant_method ",
                                                 method == nullptr ? "absent" : Excerpt(*method), " is not supported"));
  }
  if (const Json* names = FindMember(config, "architectures")) {
    const bool llama = names->is_array() && names->size() == 1 && names->front() == "LlamaForCausalLM";
    if (!llama) {
      return absl::UnimplementedError(
          absl::StrCat("config.json: architectures is ", Excerpt(*names), ", supported is LlamaForCausalLM"));
    }
  } else if (members.String("model_type", "") != "llama") {
    return absl::UnimplementedError("config.json: neither architectures nor model_type says llama");
  }
  const std::string activation = members.String("hidden_act", "silu");
  if (activation != "silu") {
    return absl::UnimplementedError(
        absl::StrCat("config.json: hidden_act \"", activation, "\" is not supported (silu)"));
  }
  return members.status();
}

}  // namespace

absl::StatusOr<LlamaConfig> ParseLlamaConfig(std::string_view config_json) {
  QD_ASSIGN_OR_RETURN(const Json json, ParseJson(config_json, "config.json", kLimits));
  if (!json.is_object()) return absl::InvalidArgumentError("config.json: is no object");
  JsonMembers members(json, "config.json");
  QD_RETURN_IF_ERROR(CheckSupported(json, members));

  LlamaConfig config;
  config.vocab_size = members.RequiredInt("vocab_size", 1, kMaxVocabulary);
  config.hidden_size = members.RequiredInt("hidden_size", 1, kMaxSize);
  config.intermediate_size = members.RequiredInt("intermediate_size", 1, kMaxSize);
  config.layers = members.RequiredInt("num_hidden_layers", 1, kMaxLayers);
  config.heads = members.RequiredInt("num_attention_heads", 1, kMaxHeads);
  config.kv_heads = members.Int("num_key_value_heads", config.heads, 1, kMaxHeads);
  config.max_position = members.Int("max_position_embeddings", 2048, 1, kMaxPosition);  // LlamaConfig's default
  config.rms_norm_eps = members.Float("rms_norm_eps", 1e-6f, 0, 1);
  config.rope_theta = members.Float("rope_theta", 10000, 0, std::numeric_limits<float>::max(), /*above_min=*/true);
  config.attention_bias = members.Bool("attention_bias", false);
  config.mlp_bias = members.Bool("mlp_bias", false);
  config.tie_word_embeddings = members.Bool("tie_word_embeddings", false);
  config.eos_token_ids = IdsOfVocabulary(members.Ids("eos_token_id", kMostEos), config.vocab_size,
                                         "config.json: eos_token_id", config.warnings);
  QD_RETURN_IF_ERROR(members.status());

  if (members.Has("head_dim")) {
    config.head_dim = members.Int("head_dim", 0, 2, 1024);
  } else if (config.hidden_size % config.heads != 0) {
    members.Fail(
        absl::StrCat("hidden_size ", config.hidden_size, " is no multiple of num_attention_heads ", config.heads));
  } else {
    config.head_dim = config.hidden_size / config.heads;
  }
  QD_RETURN_IF_ERROR(members.status());
  if (config.head_dim % 2 != 0 || config.head_dim < 2 || config.head_dim > 1024) {
    members.Fail(absl::StrCat("head_dim is ", config.head_dim, ", expected an even number from 2 to 1024"));
  }
  if (config.heads % config.kv_heads != 0) {
    members.Fail(
        absl::StrCat("num_attention_heads ", config.heads, " is no multiple of num_key_value_heads ", config.kv_heads));
  }
  QD_RETURN_IF_ERROR(members.status());
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (const Json* rope = FindMember(json, key)) {
      QD_RETURN_IF_ERROR(ParseRope(*rope, absl::StrCat("config.json: ", key), config));
    }
  }
  return config;
}

}  // namespace quantd
