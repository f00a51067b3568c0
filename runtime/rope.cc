#include "runtime/rope.h"

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

}  // namespace

void FillRopeTable(int64_t head_dim, float theta, const RopeScaling& scaling, std::span<const float> factors,
                   int64_t positions, float* table) {
  const int64_t half = head_dim / 2;
  std::vector<float> inverse_frequencies(static_cast<size_t>(half));
  for (int64_t i = 0; i < half; ++i) {
    float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    float f = 1.0f / std::pow(theta, exponent);
    if (scaling.kind == RopeScaling::Kind::kLinear) f /= scaling.factor;
    if (scaling.kind == RopeScaling::Kind::kLlama3) f = ScaleLlama3(f, scaling);
    if (!factors.empty()) f /= factors[static_cast<size_t>(i)];
    inverse_frequencies[static_cast<size_t>(i)] = f;
  }
  for (int64_t p = 0; p < positions; ++p) {
    float* row = table + p * head_dim;
    for (int64_t i = 0; i < half; ++i) {
      float angle = static_cast<float>(p) * inverse_frequencies[static_cast<size_t>(i)];
      row[i] = std::cos(angle);
      row[half + i] = std::sin(angle);
    }
  }
}

}  // namespace quantd
