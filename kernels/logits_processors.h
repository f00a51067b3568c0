// What a request's history does to a row of logits before a token is chosen from it: penalties, repeated n-grams,
// tokens that may not come.
#pragma once

#include <cstdint>

#include "kernels/sampling.h"

namespace quantd {

// Changes `logits` f32 [V], all finite, in place. Of a token that was seen: a repetition penalty r makes l / r of a
// logit above 0 and l * r of one below (transformers RepetitionPenaltyLogitsProcessor: over prompt and output, each
// token once); then f * (times chosen) and, where it was chosen at all, p are taken off (OpenAI's frequency and
// presence penalties, over the output alone; order as in vLLM). A token that would complete an n-gram which prompt and
// output hold already (NoRepeatNGramLogitsProcessor), a banned and a suppressed token become -inf; all others stay
// finite. Costs O(seen + context + banned + suppressed), each only where it is in use, and allocates nothing. Ids
// outside the vocabulary are ignored.
void ProcessLogits(float* logits, int64_t vocab, const SamplingRow& row);

}  // namespace quantd
