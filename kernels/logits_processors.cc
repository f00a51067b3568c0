#include "kernels/logits_processors.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace quantd {
namespace {

bool InVocabulary(int32_t id, int64_t vocab) { return id >= 0 && id < vocab; }

void Ban(float* logits, int64_t vocab, std::span<const int32_t> ids) {
  for (const int32_t id : ids) {
    if (InVocabulary(id, vocab)) logits[id] = -INFINITY;
  }
}

// Rounded to f32; -inf is for banned tokens.
float Finite(double x) {
  constexpr double kMost = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(x, -kMost, kMost));
}

void Penalize(float* logits, int64_t vocab, const SamplingParams& params, std::span<const SeenToken> seen) {
  const double repetition = params.repetition_penalty;
  for (const SeenToken& token : seen) {
    if (!InVocabulary(token.id, vocab)) continue;
    double logit = logits[token.id];
    logit = Finite(logit < 0 ? logit * repetition : logit / repetition);
    if (token.times_chosen > 0) {
      logit = Finite(logit - Finite(double{params.frequency_penalty} * token.times_chosen));
      logit = Finite(logit - params.presence_penalty);
    }
    logits[token.id] = static_cast<float>(logit);
  }
}

// Every token of the context that comes after the same size - 1 tokens as the next one will.
void BanRepeatedNgrams(float* logits, int64_t vocab, std::span<const int32_t> context, size_t size) {
  if (context.size() < size) return;
  const auto last = context.last(size - 1);
  for (size_t i = size - 1; i < context.size(); ++i) {
    if (std::equal(last.rbegin(), last.rend(), context.first(i).rbegin())) Ban(logits, vocab, context.subspan(i, 1));
  }
}

}  // namespace

void ProcessLogits(float* logits, int64_t vocab, const SamplingRow& row) {
  if (row.params.penalizes()) Penalize(logits, vocab, row.params, row.seen);
  if (row.params.no_repeat_ngram_size > 0) {
    BanRepeatedNgrams(logits, vocab, row.context, static_cast<size_t>(row.params.no_repeat_ngram_size));
  }
  Ban(logits, vocab, row.banned_ids);
  Ban(logits, vocab, row.suppressed_ids);
}

}  // namespace quantd
