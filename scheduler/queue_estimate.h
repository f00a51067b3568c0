// How long a new request would wait for its first step, from what recent ones took. A plain value.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace quantd {

class QueueEstimate {
 public:
  // `max_batch_tokens` of a step, `max_sequences` in one.
  QueueEstimate(int64_t max_batch_tokens, int64_t max_sequences)
      : max_batch_tokens_(max_batch_tokens), max_sequences_(max_sequences) {}

  void OnStep(int64_t tokens, Duration took);
  void OnStarted(int64_t prompt_tokens, int64_t cached_tokens);
  void OnEnded(Duration service);  // from its first step to its end, time that its reader held it up left out

  // With `waiting` requests of `prompt_tokens` altogether ahead and `free_places` of max_sequences. The larger of two
  // bounds: a place becomes free every service / max_sequences (Little's law) once the free ones are taken, and the
  // prompts must be computed, less what the prefix cache will hold of them. What was not measured yet is taken to be as
  // short as it can be: until a first request has ended, service as long as all steps so far, and until a step was half
  // full, a full one as long as others took. So a guess refuses nobody. Nothing before the first step.
  Duration For(int64_t waiting, int64_t prompt_tokens, int64_t free_places) const;

 private:
  const int64_t max_batch_tokens_, max_sequences_;
  double service_seconds_ = 0;    // smoothed, as the next three; 0 = not measured
  double seconds_per_token_ = 0;  // of steps at least half full: others take as long for fewer tokens
  double seconds_per_step_ = 0;   // of all steps
  double computed_ratio_ = 0;     // of prompt tokens, those that the prefix cache did not hold
  double stepped_seconds_ = 0;    // all steps until service_seconds_ is measured, together
};

}  // namespace quantd
