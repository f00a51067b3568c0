// Quantization schemes as values, quantized weights in canonical form, and the host-side quantizer. The formulas are
// those of torchao 0.5 (quant_primitives.py) and ggml (ggml-quants.c); docs/quantization.md restates them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "kernels/tensor.h"

namespace quantd {

enum class WeightFormat : uint8_t { kF32, kF16, kBF16, kInt8, kInt4 };
// What the zero tensor means. s and z share param_dtype unless said. int4 codes q are unsigned 0..15, int8 codes
// signed.
enum class ZeroKind : uint8_t {
  kNone,   // int8: w = q*s                int4: w = (q-8)*s            (GGUF Q8_0, Q4_0, torchao int8)
  kFloat,  // int4: w = (q-8)*s + z                                     (torchao int4_weight_only, HQQ)
  kMin,    // int4: w = q*s + z                                         (GGUF Q4_1, whose m is our z)
};
enum class ActivationFormat : uint8_t {
  kAsIs,          // the weight is dequantized, the activation stays bf16 or f32
  kInt8PerToken,  // sx = max(amax/127, 1e-5), qx = clamp(rne(x*(1/sx)), -127, 127), f32 scale per row
};

// A scheme is a value. Its name is torchao's, with what differs from the default spelled out:
//   "bf16", "f16", "f32", "int8_weight_only", "int8_weight_only,group_size=32,params=f16",
//   "int4_weight_only,group_size=64", "int4_weight_only,group_size=32,zero=min,params=f16",
//   "int4_weight_only,zero=none", "int8_dynamic_activation_int8_weight".
struct QuantScheme {
  WeightFormat weight = WeightFormat::kBF16;
  ZeroKind zero = ZeroKind::kNone;
  DType param_dtype = DType::kBF16;  // of scales and zeros. Converting is lossy, so it is carried, never assumed
  int group_k = 0;                   // inputs that share a scale; 0 = the whole row
  ActivationFormat activation = ActivationFormat::kAsIs;

  bool operator==(const QuantScheme&) const = default;
  bool quantized() const { return weight == WeightFormat::kInt8 || weight == WeightFormat::kInt4; }
  int64_t groups(int64_t k) const { return quantized() ? (group_k == 0 ? 1 : k / group_k) : 0; }
};
// InvalidArgument names what is unknown and lists what is known. int4 defaults to group_size=128 and a bf16 float zero,
// int8 to one f32 scale a row (torchao HEAD's Int8Tensor; 0.5 kept the weight's dtype).
absl::StatusOr<QuantScheme> ParseQuantScheme(std::string_view name);
std::string Name(const QuantScheme& scheme);
DType WeightDType(WeightFormat format);  // of the canonical data: f32, f16, bf16, i8; u8 for int4

// InvalidArgument: there is no such scheme (torchao's groups are 32, 64, 128 and 256; int8 activations go with
// whole-row int8 weights), or W[N, K] does not fit it (K is no multiple of the group).
absl::Status CheckScheme(const QuantScheme& scheme, int64_t n, int64_t k);

// Weights W[N, K] of a linear layer (N outputs, K inputs) on the host in canonical row-major form, not owned.
struct QuantizedView {
  QuantScheme scheme;
  int64_t n = 0, k = 0;
  Tensor data;    // [N, K]; int4: u8 [N, K/2], even k in the low nibble
  Tensor scales;  // param_dtype [N, G], G = scheme.groups(K); absent where nothing is quantized
  Tensor zeros;   // param_dtype [N, G]; absent for ZeroKind::kNone
};
absl::Status Validate(const QuantizedView& view);  // InvalidArgument: what does not fit

// The same, owning its memory.
struct QuantizedMatrix {
  QuantScheme scheme;
  int64_t n = 0, k = 0;
  std::vector<uint8_t> data, scales, zeros;
  QuantizedView view() const;
};
// Zeroed storage of the right sizes.
QuantizedMatrix NewQuantizedMatrix(const QuantScheme& scheme, int64_t n, int64_t k);

// Quantizes (or converts) `weights`, f32/f16/bf16 [N, K], by `scheme`. Statistics and codes are computed in f32 with
// the parameters already rounded to param_dtype. InvalidArgument: K is not a multiple of the group; a weight is not
// finite (names row and column).
absl::StatusOr<QuantizedMatrix> Quantize(const Tensor& weights, const QuantScheme& scheme);

// Row `row` of W as f32 [K]: the definition that every backend is tested against.
void DequantizeRow(const QuantizedView& view, int64_t row, float* out);

// One value of a float tensor (f32, f16, bf16) as f32.
float LoadFloat(const void* data, DType dtype, int64_t index);
void StoreFloat(void* data, DType dtype, int64_t index, float value);

// `count` adjacent values.
void LoadFloats(const void* data, DType dtype, int64_t count, float* out);
void StoreFloats(const float* values, int64_t count, void* data, DType dtype);

}  // namespace quantd
