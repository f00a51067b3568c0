// What config.json says of rotary positions (transformers modeling_rope_utils.py).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <nlohmann/json_fwd.hpp>

namespace quantd {

struct RopeScaling {
  // kDynamic: NTK-aware, the base grows with the longest sequence that can be.
  enum class Kind : uint8_t { kNone, kLinear, kDynamic, kYarn, kLlama3 };
  Kind kind = Kind::kNone;
  float factor = 1.0f;
  float low_freq_factor = 1.0f, high_freq_factor = 4.0f;  // llama3
  int64_t original_max_position = 0;                      // dynamic, yarn, llama3: tokens that the model was trained on
  float beta_fast = 32.0f, beta_slow = 1.0f;              // yarn: rotations that bound the ramp
  float attention_factor = 1.0f;                          // yarn: of cosines and sines
  bool truncate = true;                                   // yarn: the ramp's bounds are whole dimensions
};

struct RopeConfig {
  float theta = 10000.0f;
  RopeScaling scaling;
  int64_t longest_context = 0;  // tokens, at least max_position: what the scaling stretches the model to
};

// Of the object of a config.json: rope_theta, rope_scaling or rope_parameters, original_max_position_embeddings and
// partial_rotary_factor. Two places that disagree are a warning that says which counts, the one that transformers
// takes. InvalidArgument: a value out of range, of another kind or missing. Unimplemented: another rope type, partial
// rotation.
absl::StatusOr<RopeConfig> ParseRopeConfig(const nlohmann::json& config, int64_t max_position, int64_t head_dim,
                                           std::vector<std::string>& warnings);

}  // namespace quantd
