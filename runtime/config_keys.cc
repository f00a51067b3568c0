#include "runtime/config_keys.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/strings.h"
#include "runtime/generation_config.h"
#include "runtime/json.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

// LlamaConfig, RopeConfig and MistralConfig's window.
constexpr std::string_view kRead[] = {"architectures",
                                      "model_type",
                                      "hidden_act",
                                      "vocab_size",
                                      "hidden_size",
                                      "intermediate_size",
                                      "num_hidden_layers",
                                      "num_attention_heads",
                                      "num_key_value_heads",
                                      "head_dim",
                                      "max_position_embeddings",
                                      "rms_norm_eps",
                                      "attention_bias",
                                      "mlp_bias",
                                      "tie_word_embeddings",
                                      "eos_token_id",
                                      "rope_theta",
                                      "rope_scaling",
                                      "rope_parameters",
                                      "original_max_position_embeddings",
                                      "partial_rotary_factor",
                                      "sliding_window",
                                      "use_sliding_window",
                                      "layer_types",
                                      "quantization_config",
                                      "compression_config",
                                      "torch_dtype",
                                      "dtype"};
// Of training, of files, of other tasks, of how and not what is computed (transformers configuration_utils.py).
constexpr std::string_view kNoEffect[] = {"transformers_version",
                                          "transformers.js_config",
                                          "_name_or_path",
                                          "_attn_implementation",
                                          "_attn_implementation_autoset",
                                          "attn_implementation",
                                          "_flash_attn_2_enabled",
                                          "use_flash_attn",
                                          "_commit_hash",
                                          "use_cache",
                                          "bos_token_id",
                                          "pad_token_id",
                                          "sep_token_id",
                                          "cls_token_id",
                                          "mask_token_id",
                                          "unk_token_id",
                                          "decoder_start_token_id",
                                          "initializer_range",
                                          "attention_dropout",
                                          "hidden_dropout",
                                          "hidden_dropout_prob",
                                          "resid_pdrop",
                                          "embd_pdrop",
                                          "attn_pdrop",
                                          "gradient_checkpointing",
                                          "pretraining_tp",
                                          "is_llama_config",
                                          "max_sequence_length",
                                          "max_window_layers",
                                          "model_max_length",
                                          "tokenizer_class",
                                          "tokenizer_model_max_length",
                                          "return_dict",
                                          "torchscript",
                                          "use_bfloat16",
                                          "tf_legacy_loss",
                                          "pruned_heads",
                                          "tie_encoder_decoder",
                                          "chunk_size_feed_forward",
                                          "cross_attention_hidden_size",
                                          "is_decoder",
                                          "finetuning_task",
                                          "id2label",
                                          "label2id",
                                          "num_labels",
                                          "task_specific_params",
                                          "problem_type",
                                          "prefix",
                                          "unsloth_version",
                                          "unsloth_fixed"};

struct Unsupported {
  std::string_view name;
  double neutral = 0;  // the number that does nothing, beside null, false and what is empty
};
// Keys of families whose graph is not Llama's. A folder that says LlamaForCausalLM and one of these means it.
constexpr Unsupported kUnsupported[] = {{"attn_logit_softcapping"},  // Gemma 2
                                        {"final_logit_softcapping"},
                                        {"logit_softcapping"},
                                        {"attn_logit_softcap"},
                                        {"final_logit_softcap"},
                                        {"embedding_multiplier", 1},  // Granite
                                        {"residual_multiplier", 1},
                                        {"logits_scaling", 1},
                                        {"logit_scale", 1},  // Cohere
                                        {"embedding_scale", 1},
                                        {"scale_emb", 1},  // MiniCPM
                                        {"scale_depth"},
                                        {"dim_model_base"},
                                        {"clip_qkv"},  // OLMo, DBRX
                                        {"qk_norm"},
                                        {"use_qk_norm"},
                                        {"qk_layernorm"},
                                        {"qkv_bias"},
                                        {"use_bias"},
                                        {"use_qkv_bias"},
                                        {"lm_head_bias"},
                                        {"num_experts"},  // mixtures of experts
                                        {"num_local_experts"},
                                        {"n_routed_experts"},
                                        {"moe_intermediate_size"},
                                        {"q_lora_rank"},  // DeepSeek
                                        {"kv_lora_rank"},
                                        {"no_rope_layers"},  // SmolLM3, Llama 4
                                        {"no_rope_layer_interval"},
                                        {"attention_chunk_size"},
                                        {"use_double_wide_mlp"},
                                        {"rope_interleaved"},
                                        {"rotary_pct", 1},
                                        {"rope_pct", 1},
                                        {"alibi"},
                                        {"use_alibi"},
                                        {"parallel_attn"},
                                        {"use_parallel_residual"},
                                        {"parallel_residual"},
                                        {"add_cross_attention"},
                                        {"is_encoder_decoder"},
                                        {"use_bidirectional_attention"},
                                        {"quantization"},  // MLX
                                        {"transformers_weights"}};

bool Contains(const auto& names, std::string_view name) { return std::ranges::find(names, name) != std::end(names); }

// What the value of a key that is a number would have to be for Llama's graph; 0 for other keys.
double NeutralByHead(std::string_view key, int64_t head_dim) {
  const double dim = static_cast<double>(head_dim);
  if (key == "attention_multiplier") return 1 / std::sqrt(dim);
  if (key == "query_pre_attn_scalar") return dim;
  return 0;
}

absl::Status Refuse(std::string_view key, const Json& value) {
  return absl::UnimplementedError(absl::StrCat("config.json: ", ToAbsl(key), " ", Excerpt(value), " is not supported"));
}

absl::Status CheckKey(std::string_view key, const Json& value, int64_t head_dim) {
  if (const auto it = std::ranges::find(kUnsupported, key, &Unsupported::name); it != std::end(kUnsupported)) {
    return HasNoEffect(value, it->neutral) ? absl::OkStatus() : Refuse(key, value);
  }
  if (const double neutral = NeutralByHead(key, head_dim); neutral != 0) {
    const bool same = value.is_null() || (value.is_number() && std::abs(value.get<double>() / neutral - 1) < 1e-6);
    return same ? absl::OkStatus() : Refuse(key, value);
  }
  if (key == "position_embedding_type" && value.is_string() && value != "rope" && value != "rotary" &&
      value != "absolute") {
    return Refuse(key, value);
  }
  return absl::OkStatus();
}

bool Known(std::string_view key) {
  return Contains(kRead, key) || Contains(kNoEffect, key) || IsGenerationKey(key) ||
         std::ranges::find(kUnsupported, key, &Unsupported::name) != std::end(kUnsupported) ||
         NeutralByHead(key, 1) != 0 || key == "position_embedding_type";
}

}  // namespace

absl::Status CheckConfigKeys(const Json& config, int64_t head_dim, std::vector<std::string>& warnings) {
  constexpr size_t kMostNamed = 8;
  std::vector<std::string> unknown;
  for (const auto& [key, value] : config.items()) {
    if (const absl::Status status = CheckKey(key, value, head_dim); !status.ok()) return status;
    if (!Known(key)) unknown.push_back(Printable(key, 40));
  }
  if (unknown.empty()) return absl::OkStatus();
  std::string names;
  for (size_t i = 0; i < std::min(kMostNamed, unknown.size()); ++i) absl::StrAppend(&names, i ? ", " : "", unknown[i]);
  if (unknown.size() > kMostNamed) absl::StrAppend(&names, " and ", unknown.size() - kMostNamed, " more");
  warnings.push_back(absl::StrCat("config.json: unknown keys, ignored as by transformers: ", names));
  return absl::OkStatus();
}

}  // namespace quantd
