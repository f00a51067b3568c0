// Choosing the next token from a row of logits. Random numbers are Philox4x32-10 keyed by (seed, output index,
// position), so a result does not depend on batching, thread or device.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "kernels/tensor.h"

namespace quantd {

struct SamplingParams {
  float temperature = 1.0f;  // 0 = greedy
  int32_t top_k = 0;         // 0 = off
  float top_p = 1.0f;        // 1 = off
  float min_p = 0.0f;        // 0 = off
  uint64_t seed = 0;
  float repetition_penalty = 1.0f;                          // more than 0; 1 = off
  float presence_penalty = 0.0f, frequency_penalty = 0.0f;  // 0 = off
  int32_t no_repeat_ngram_size = 0;                         // 0 = off

  bool penalizes() const { return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0; }
};

struct SeenToken {
  int32_t id = 0;
  int32_t times_chosen = 0;  // 0: it occurs in the prompt alone
};

struct SamplingRow {
  SamplingParams params;
  uint32_t output_index = 0;
  uint64_t position = 0;  // of the token being chosen
  // Borrowed for the call.
  std::span<const SeenToken> seen;          // each token of prompt and output once; read where params.penalizes()
  std::span<const int32_t> context;         // prompt and output so far; read where params.no_repeat_ngram_size > 0
  std::span<const int32_t> banned_ids;      // never chosen: those that the model's generation config suppresses
  std::span<const int32_t> suppressed_ids;  // nor these: end tokens before min_new_tokens
};
using SamplingRows = std::span<const SamplingRow>;

struct SampleResult {
  int32_t token = -1;  // -1: the row held a value that is not finite, or no token is left to choose
};

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; Random123's philox4x32).
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Uniform in [0, 1) with 24 bits.
float PhiloxUniform(uint64_t seed, uint32_t stream, uint64_t position);

// All in the order of transformers: penalties, repeated n-grams and suppressed tokens (kernels/logits_processors.h),
// which a greedy choice heeds too, then temperature, top-k, top-p, min-p. Ties go to the lower id, so top-k keeps
// exactly k (transformers keeps all ties of the last). The draw inverts the cumulative distribution of the kept tokens
// in order of id. `logits` f32 [V] is changed by the processors alone; `scratch` has room for V entries, so nothing is
// allocated (greedy rows use none of it).
struct SampleScratch {
  struct Entry {
    float value;  // a logit, then what the filters make of it
    int32_t id;
  };
  std::span<Entry> entries;
};
SampleResult SampleRow(float* logits, int64_t vocab, const SamplingRow& row, SampleScratch scratch);

}  // namespace quantd
