#include "runtime/llama_config.h"

#include <limits>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/architecture.h"
#include "runtime/config_keys.h"
#include "runtime/generation_config.h"
#include "runtime/json.h"
#include "runtime/json_members.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

constexpr JsonLimits kLimits = {.bytes = 4 << 20, .depth = 32};

constexpr int64_t kMaxSize = int64_t{1} << 24;  // of a hidden or intermediate dimension
constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
constexpr size_t kMostEos = 1024;
constexpr int64_t kMaxLayers = 4096, kMaxHeads = 4096;
constexpr int64_t kMaxPosition = std::numeric_limits<int32_t>::max();

// Families whose graph is Llama's, with what their classes of transformers have where config.json says nothing.
struct Family {
  std::string_view architecture, model_type;
  int64_t kv_heads, max_position;  // kv_heads 0: as many as heads
  int64_t sliding_window;          // 0: none
  bool biases;                     // whether attention_bias and mlp_bias are read
};
constexpr Family kFamilies[] = {{"LlamaForCausalLM", "llama", 0, 2048, 0, true},
                                {"LLaMAForCausalLM", "llama", 0, 2048, 0, true},  // of early conversions
                                {"MistralForCausalLM", "mistral", 8, 131072, 4096, false}};

absl::StatusOr<const Family*> FindFamily(const Json& config, JsonMembers& members) {
  const std::vector<std::string> names = ArchitectureNames(config);
  const std::string type = members.String("model_type", "");
  QD_RETURN_IF_ERROR(members.status());
  for (const Family& family : kFamilies) {
    const bool named = names.size() == 1 && names.front() == family.architecture;
    if (names.empty() ? family.model_type == type : named) return &family;
  }
  const std::string found = names.empty()
                                ? absl::StrCat("architectures names none and model_type is \"", Printable(type), "\"")
                                : absl::StrCat("architectures is ", Dumped(*FindMember(config, "architectures")));
  return absl::UnimplementedError(
      absl::StrCat("config.json: ", found, ", supported are LlamaForCausalLM and MistralForCausalLM"));
}

absl::Status CheckSupported(const Json& config, JsonMembers& members) {
  if (const Json* quantization = FindMember(config, "quantization_config")) {
    const Json* method = FindMember(*quantization, "quant_method");
    return absl::UnimplementedError(absl::StrCat("config.json: quantization_config with quant_method ",
                                                 method == nullptr ? "absent" : Excerpt(*method), " is not supported"));
  }
  const std::string activation = members.String("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {  // two names of one function
    return absl::UnimplementedError(
        absl::StrCat("config.json: hidden_act \"", Printable(activation), "\" is not supported (silu)"));
  }
  return members.status();
}

// MistralConfig's window, or that of layer_types; 0 where every layer attends to all that was before.
absl::StatusOr<int64_t> ReadSlidingWindow(const Json& config, const Family& family, JsonMembers& members) {
  bool some_slide = true;
  if (const Json* types = FindMember(config, "layer_types"); types != nullptr && types->is_array()) {
    some_slide = false;
    for (const Json& type : *types) {
      if (type != "full_attention" && type != "sliding_attention") {
        return absl::UnimplementedError(absl::StrCat("config.json: layer_types holds ", Excerpt(type),
                                                     ", supported are full_attention and sliding_attention"));
      }
      some_slide |= type == "sliding_attention";
    }
  }
  // Null is a value of its own here: no window, where an absent key is the class's.
  const auto said = config.find("sliding_window");
  if (said != config.end() && HasNoEffect(*said, 0)) return 0;
  const int64_t window = members.Int("sliding_window", family.sliding_window, 0, std::numeric_limits<int64_t>::max());
  const bool used = window == 0 || !some_slide || members.Bool("use_sliding_window", true);
  QD_RETURN_IF_ERROR(members.status());
  return used && some_slide ? window : 0;
}

// The size of a head, which config.json may leave to be derived.
int64_t ReadHeadDim(JsonMembers& members, const LlamaConfig& config) {
  int64_t head_dim = config.hidden_size / config.heads;
  if (members.Has("head_dim")) {
    head_dim = members.Int("head_dim", 0, 2, 1024);
  } else if (config.hidden_size % config.heads != 0) {
    members.Fail(
        absl::StrCat("hidden_size ", config.hidden_size, " is no multiple of num_attention_heads ", config.heads));
  }
  if (head_dim % 2 != 0 || head_dim < 2 || head_dim > 1024) {
    members.Fail(absl::StrCat("head_dim is ", head_dim, ", expected an even number from 2 to 1024"));
  }
  return head_dim;
}

}  // namespace

absl::StatusOr<LlamaConfig> ParseLlamaConfig(std::string_view config_json) {
  QD_ASSIGN_OR_RETURN(const JsonDocument document, ParseJson(config_json, "config.json", kLimits));
  const Json& json = *document;
  if (!json.is_object()) return absl::InvalidArgumentError("config.json: is no object");
  JsonMembers members(json, "config.json");
  QD_ASSIGN_OR_RETURN(const Family* family, FindFamily(json, members));
  QD_RETURN_IF_ERROR(CheckSupported(json, members));

  LlamaConfig config;
  config.vocab_size = members.RequiredInt("vocab_size", 1, kMaxVocabulary);
  config.hidden_size = members.RequiredInt("hidden_size", 1, kMaxSize);
  config.intermediate_size = members.RequiredInt("intermediate_size", 1, kMaxSize);
  config.layers = members.RequiredInt("num_hidden_layers", 1, kMaxLayers);
  config.heads = members.RequiredInt("num_attention_heads", 1, kMaxHeads);
  config.kv_heads =
      members.Int("num_key_value_heads", family->kv_heads > 0 ? family->kv_heads : config.heads, 1, kMaxHeads);
  config.max_position = members.Int("max_position_embeddings", family->max_position, 1, kMaxPosition);
  config.rms_norm_eps = members.Float("rms_norm_eps", 1e-6f, 0, 1);
  if (family->biases) {
    config.attention_bias = members.Bool("attention_bias", false);
    config.mlp_bias = members.Bool("mlp_bias", false);
  }
  config.tie_word_embeddings = members.Bool("tie_word_embeddings", false);
  config.eos_token_ids = IdsOfVocabulary(members.Ids("eos_token_id", kMostEos), config.vocab_size,
                                         "config.json: eos_token_id", config.warnings);
  QD_RETURN_IF_ERROR(members.status());

  config.head_dim = ReadHeadDim(members, config);
  if (config.heads % config.kv_heads != 0) {
    members.Fail(
        absl::StrCat("num_attention_heads ", config.heads, " is no multiple of num_key_value_heads ", config.kv_heads));
  }
  QD_RETURN_IF_ERROR(members.status());
  QD_ASSIGN_OR_RETURN(config.sliding_window, ReadSlidingWindow(json, *family, members));
  QD_ASSIGN_OR_RETURN(config.rope, ParseRopeConfig(json, config.max_position, config.head_dim, config.warnings));
  QD_RETURN_IF_ERROR(CheckConfigKeys(json, config.head_dim, config.warnings));
  return config;
}

}  // namespace quantd
