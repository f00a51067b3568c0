// Hyperparameters of LlamaForCausalLM and of the families whose graph is the same, from config.json text (transformers
// configuration_llama.py, configuration_mistral.py).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/rope_config.h"

namespace quantd {

struct LlamaConfig {
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, layers = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t max_position = 0;
  int64_t sliding_window = 0;  // tokens that a layer attends to, itself included; 0 = all
  float rms_norm_eps = 1e-6f;
  RopeConfig rope;
  bool attention_bias = false, mlp_bias = false, tie_word_embeddings = false;
  bool biases_where_there = false;     // GGUF: its metadata says nothing of biases, each one that the file has counts
  std::vector<int32_t> eos_token_ids;  // below vocab_size
  std::vector<std::string> warnings;   // what the file says and nothing does, by key
};
// DataLoss: no JSON. InvalidArgument: a value out of range, of another kind or missing (names the key). Unimplemented:
// an architecture, activation, rope kind or quantization_config that is not built, or a key of another family's graph.
absl::StatusOr<LlamaConfig> ParseLlamaConfig(std::string_view config_json);

}  // namespace quantd
