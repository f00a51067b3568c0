// Hyperparameters of LlamaForCausalLM (transformers configuration_llama.py), from config.json text.
#pragma once

#include <cstdint>
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
  std::vector<int32_t> eos_token_ids;  // below vocab_size
  std::vector<std::string> warnings;   // what the file says and nothing does, by key
};
// DataLoss: no JSON. InvalidArgument: a value out of range, of another kind or missing (names the key). Unimplemented:
// an architecture, activation, rope kind or quantization_config that is not built.
absl::StatusOr<LlamaConfig> ParseLlamaConfig(std::string_view config_json);

}  // namespace quantd
