// What each scheme costs: signal to quantization noise of weights drawn from N(0, 0.02), 1024 outputs of 1024 inputs,
// as a Markdown table for docs/quantization.md. The weights are seeded, so the table is the same everywhere.
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "kernels/quant.h"

namespace quantd {
namespace {

constexpr int64_t kN = 1024, kK = 1024;
constexpr float kSigma = 0.02f;

// By Box and Muller: std::normal_distribution differs between libraries.
std::vector<float> GaussianWeights() {
  std::mt19937 rng(1);
  const auto uniform = [&rng] { return (static_cast<double>(rng()) + 0.5) / 4294967296.0; };
  std::vector<float> values(kN * kK);
  for (float& v : values) {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    v = static_cast<float>(kSigma * radius * std::cos(2 * M_PI * uniform()));
  }
  return values;
}

// 10 log10(sum w^2 / sum (w - w')^2).
double Sqnr(const std::vector<float>& weights, const QuantizedMatrix& quantized) {
  std::vector<float> row(kK);
  double signal = 0, noise = 0;
  for (int64_t n = 0; n < kN; ++n) {
    DequantizeRow(quantized.view(), n, row.data());
    for (int64_t k = 0; k < kK; ++k) {
      const double w = weights[static_cast<size_t>(n * kK + k)], error = w - row[static_cast<size_t>(k)];
      signal += w * w;
      noise += error * error;
    }
  }
  return 10 * std::log10(signal / noise);
}

void Print() {
  std::vector<float> weights = GaussianWeights();
  const Tensor view(weights.data(), DType::kF32, {kN, kK});
  std::printf("| Scheme | Bits a weight | SQNR, dB |\n|---|---|---|\n");
  for (const char* name : {"f16", "bf16", "int8_weight_only,group_size=32,params=f16", "int8_weight_only",
                           "int4_weight_only,group_size=32,zero=min,params=f16", "int4_weight_only,group_size=32",
                           "int4_weight_only,group_size=64", "int4_weight_only,group_size=128",
                           "int4_weight_only,group_size=256", "int4_weight_only,group_size=32,zero=none,params=f16"}) {
    const QuantizedMatrix q = Quantize(view, ParseQuantScheme(name).value()).value();
    const auto bits = static_cast<double>(8 * (q.data.size() + q.scales.size() + q.zeros.size())) / (kN * kK);
    std::printf("| `%s` | %.2f | %.1f |\n", name, bits, Sqnr(weights, q));
  }
}

}  // namespace
}  // namespace quantd

int main() { quantd::Print(); }
