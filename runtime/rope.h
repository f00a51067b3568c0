// Rotary position tables (Su et al., RoFormer; Peng et al., YaRN; transformers modeling_rope_utils.py).
#pragma once

#include <cstdint>
#include <span>

#include "runtime/rope_config.h"

namespace quantd {

// table f32 [positions, D]: D/2 cosines, then D/2 sines. Inverse frequencies and angles are f32, as in transformers.
// `factors` (D/2 of them, or none) divide the inverse frequencies: llama.cpp's rope_freqs. The dynamic kind has the
// base of a sequence of `max_context` tokens from its first token on, as in vLLM: with the base of the length so far,
// as in transformers, a result would depend on how its prompt was cut. Up to the original length the two are the same.
void FillRopeTable(int64_t head_dim, const RopeConfig& rope, std::span<const float> factors, int64_t max_context,
                   int64_t positions, float* table);

}  // namespace quantd
