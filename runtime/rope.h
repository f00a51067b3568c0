// Rotary position tables (Su et al., RoFormer; transformers modeling_rope_utils.py).
#pragma once

#include <cstdint>
#include <span>

#include "runtime/llama_config.h"

namespace quantd {

// table f32 [positions, D]: D/2 cosines, then D/2 sines. Inverse frequencies and angles are f32, as in transformers.
// `factors` (D/2 of them, or none) divide the inverse frequencies: llama.cpp's rope_freqs.
void FillRopeTable(int64_t head_dim, float theta, const RopeScaling& scaling, std::span<const float> factors,
                   int64_t positions, float* table);

}  // namespace quantd
