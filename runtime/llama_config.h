// Hyperparameters of LlamaForCausalLM (transformers configuration_llama.py) and generation defaults, from config.json text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "kernels/dtype.h"

namespace quantd {

struct RopeScaling {
  enum class Kind : uint8_t { kNone, kLinear, kLlama3 };
  Kind kind = Kind::kNone;
  float factor = 1.0f;
  float low_freq_factor = 1.0f, high_freq_factor = 4.0f;  // llama3
  int64_t original_max_position = 0;                      // llama3
};

struct LlamaConfig {
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, layers = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t max_position = 0;
  float rms_norm_eps = 1e-6f, rope_theta = 10000.0f;
  RopeScaling rope_scaling;
  bool attention_bias = false, mlp_bias = false, tie_word_embeddings = false;
  std::optional<int32_t> bos_token_id;
  std::vector<int32_t> eos_token_ids;
};
// InvalidArgument: a value out of range or missing (names the key); Unimplemented: an activation or rope kind not built.
absl::StatusOr<LlamaConfig> ParseLlamaConfig(std::string_view config_json);

// What a request that says nothing gets. From generation_config.json, else greedy-free defaults of transformers
// (do_sample false means temperature 0).
struct GenerationDefaults {
  float temperature = 0.0f, top_p = 1.0f, min_p = 0.0f;
  int32_t top_k = 0;
  std::vector<int32_t> eos_token_ids;  // added to the config's
};
absl::StatusOr<GenerationDefaults> ParseGenerationConfig(std::string_view generation_config_json);

}  // namespace quantd
