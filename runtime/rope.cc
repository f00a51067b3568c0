#include "runtime/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace quantd {
namespace {

// The llama3 rule: long wavelengths are stretched by `factor`, short ones kept, those between blended.
float ScaleLlama3(float inverse_frequency, const RopeScaling& s) {
  float original = static_cast<float>(s.original_max_position);
  float wavelength = 2.0f * std::numbers::pi_v<float> / inverse_frequency;
  if (wavelength > original / s.low_freq_factor) return inverse_frequency / s.factor;
  if (wavelength < original / s.high_freq_factor) return inverse_frequency;
  float smooth = (original / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return (1.0f - smooth) * inverse_frequency / s.factor + smooth * inverse_frequency;
}

// The base that stretches the longest wavelength from the original length to `tokens`
// (_compute_dynamic_ntk_parameters).
float DynamicTheta(float theta, const RopeScaling& s, int64_t head_dim, int64_t tokens) {
  const double factor = static_cast<double>(s.factor), original = static_cast<double>(s.original_max_position);
  const double ratio = std::max(1.0, static_cast<double>(tokens) / original), dim = static_cast<double>(head_dim);
  return static_cast<float>(static_cast<double>(theta) * std::pow(factor * ratio - (factor - 1), dim / (dim - 2)));
}

// Pairs below `low` keep their frequency, those above `high` are divided by the factor (_compute_yarn_parameters).
struct YarnRamp {
  double low, high;
};
YarnRamp MakeYarnRamp(float theta, const RopeScaling& s, int64_t head_dim) {
  const double dim = static_cast<double>(head_dim), original = static_cast<double>(s.original_max_position);
  const auto bound = [&](float rotations) {
    return dim * std::log(original / (static_cast<double>(rotations) * 2 * std::numbers::pi)) /
           (2 * std::log(static_cast<double>(theta)));
  };
  double low = bound(s.beta_fast), high = bound(s.beta_slow);
  if (s.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, dim - 1);
  return {low, low == high ? high + 0.001 : high};
}
float ScaleYarn(float frequency, int64_t pair, const YarnRamp& ramp, const RopeScaling& s) {
  const float along = static_cast<float>((static_cast<double>(pair) - ramp.low) / (ramp.high - ramp.low));
  const float kept = 1.0f - std::clamp(along, 0.0f, 1.0f);
  return frequency / s.factor * (1.0f - kept) + frequency * kept;
}

std::vector<float> InverseFrequencies(int64_t head_dim, const RopeConfig& rope, int64_t max_context) {
  using Kind = RopeScaling::Kind;
  const RopeScaling& s = rope.scaling;
  const float theta = s.kind == Kind::kDynamic ? DynamicTheta(rope.theta, s, head_dim, max_context) : rope.theta;
  const YarnRamp ramp = s.kind == Kind::kYarn ? MakeYarnRamp(theta, s, head_dim) : YarnRamp{};
  std::vector<float> frequencies(static_cast<size_t>(head_dim / 2));
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    float f = 1.0f / std::pow(theta, exponent);
    if (s.kind == Kind::kLinear) f /= s.factor;
    if (s.kind == Kind::kYarn) f = ScaleYarn(f, i, ramp, s);
    if (s.kind == Kind::kLlama3) f = ScaleLlama3(f, s);
    frequencies[static_cast<size_t>(i)] = f;
  }
  return frequencies;
}

}  // namespace

void FillRopeTable(int64_t head_dim, const RopeConfig& rope, std::span<const float> factors, int64_t max_context,
                   int64_t positions, float* table) {
  const int64_t half = head_dim / 2;
  std::vector<float> frequencies = InverseFrequencies(head_dim, rope, max_context);
  for (size_t i = 0; i < factors.size(); ++i) frequencies[i] /= factors[i];
  const float scale = rope.scaling.attention_factor;
  for (int64_t p = 0; p < positions; ++p) {
    float* row = table + p * head_dim;
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(p) * frequencies[static_cast<size_t>(i)];
      row[i] = std::cos(angle) * scale;
      row[half + i] = std::sin(angle) * scale;
    }
  }
}

}  // namespace quantd
