#include "scheduler/queue_estimate.h"

#include <algorithm>

namespace quantd {
namespace {

// Follows a change within about ten measurements.
void Smooth(double& mean, double value) { mean = mean == 0 ? value : mean + (value - mean) / 10; }

}  // namespace

void QueueEstimate::OnStep(int64_t tokens, Duration took) {
  const double seconds = ToSeconds(took);
  if (service_seconds_ == 0) stepped_seconds_ += seconds;
  Smooth(seconds_per_step_, seconds);
  if (2 * tokens >= max_batch_tokens_) Smooth(seconds_per_token_, seconds / static_cast<double>(tokens));
}

void QueueEstimate::OnStarted(int64_t prompt_tokens, int64_t cached_tokens) {
  Smooth(computed_ratio_, static_cast<double>(prompt_tokens - cached_tokens) / static_cast<double>(prompt_tokens));
}

void QueueEstimate::OnEnded(Duration service) { Smooth(service_seconds_, ToSeconds(service)); }

Duration QueueEstimate::For(int64_t waiting, int64_t prompt_tokens, int64_t free_places) const {
  const double service = service_seconds_ > 0 ? service_seconds_ : stepped_seconds_;
  const double per_token =
      seconds_per_token_ > 0 ? seconds_per_token_ : seconds_per_step_ / static_cast<double>(max_batch_tokens_);
  const double places =
      static_cast<double>(std::max<int64_t>(waiting - free_places, 0)) * service / static_cast<double>(max_sequences_);
  const double prompts = static_cast<double>(prompt_tokens) * computed_ratio_ * per_token;
  return FromSeconds(std::max(places, prompts));
}

}  // namespace quantd
