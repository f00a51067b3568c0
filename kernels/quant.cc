#include "kernels/quant.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "base/status_macros.h"
#include "base/strings.h"

namespace quantd {
namespace {

constexpr std::string_view kKnownSchemes =
    "known are bf16, f16, f32, int8_weight_only, int4_weight_only and int8_dynamic_activation_int8_weight, with "
    "group_size=32|64|128|256, zero=float|none|min (int4) and params=bf16|f16|f32";

constexpr int kDefaultInt4Group = 128;
// The floors that torchao puts under a scale: float32's epsilon, and 1e-6 for int4.
constexpr float kInt8ScaleFloor = 1.1920929e-7f, kInt4ScaleFloor = 1e-6f;
// |acc| <= K * 127 * 128 must fit an int32.
constexpr int64_t kMaxInt8DotLength = std::numeric_limits<int32_t>::max() / (127 * 128);

bool IsFloat(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16; }

QuantScheme Int8Scheme(ActivationFormat activation) {
  return {.weight = WeightFormat::kInt8, .param_dtype = DType::kF32, .activation = activation};
}

QuantScheme Int4Scheme() {
  return {.weight = WeightFormat::kInt4, .zero = ZeroKind::kFloat, .group_k = kDefaultInt4Group};
}

std::optional<QuantScheme> SchemeNamed(std::string_view name) {
  if (name == "bf16") return QuantScheme{};
  if (name == "f16") return QuantScheme{.weight = WeightFormat::kF16};
  if (name == "f32") return QuantScheme{.weight = WeightFormat::kF32};
  if (name == "int8_weight_only") return Int8Scheme(ActivationFormat::kAsIs);
  if (name == "int8_dynamic_activation_int8_weight") return Int8Scheme(ActivationFormat::kInt8PerToken);
  if (name == "int4_weight_only") return Int4Scheme();
  return std::nullopt;
}

// One "key=value" of a scheme's name. False: unknown.
bool ApplyOption(std::string_view key, std::string_view value, QuantScheme& scheme) {
  if (key == "group_size") {
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), scheme.group_k);
    return error == std::errc() && end == value.data() + value.size() && scheme.group_k > 0;
  }
  if (key == "zero") {
    if (value == "none")
      scheme.zero = ZeroKind::kNone;
    else if (value == "float")
      scheme.zero = ZeroKind::kFloat;
    else if (value == "min")
      scheme.zero = ZeroKind::kMin;
    else
      return false;
    return true;
  }
  if (key == "params") {
    for (DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
      if (value == Name(dtype)) {
        scheme.param_dtype = dtype;
        return true;
      }
    }
  }
  return false;
}

absl::Status Invalid(const std::string& message) { return absl::InvalidArgumentError(message); }

absl::Status CheckKind(const QuantScheme& s) {
  if (!s.quantized()) {
    if (s.zero == ZeroKind::kNone && s.group_k == 0 && s.activation == ActivationFormat::kAsIs) return absl::OkStatus();
    return Invalid(absl::StrCat(Name(s), ": takes no group, zero or quantized activation"));
  }
  if (!IsFloat(s.param_dtype)) {
    return Invalid(absl::StrCat(Name(s), ": params are ", ToAbsl(Name(s.param_dtype)), ", expected bf16, f16 or f32"));
  }
  bool torchao_group = s.group_k == 32 || s.group_k == 64 || s.group_k == 128 || s.group_k == 256;
  if (s.weight == WeightFormat::kInt4) {
    if (!torchao_group)
      return Invalid(absl::StrCat(Name(s), ": group_size is ", s.group_k, ", expected 32, 64, 128 or 256"));
    if (s.activation != ActivationFormat::kAsIs)
      return Invalid(absl::StrCat(Name(s), ": int4 takes activations as they are"));
    return absl::OkStatus();
  }
  if (s.zero != ZeroKind::kNone) return Invalid(absl::StrCat(Name(s), ": int8 has no zero"));
  if (s.group_k != 0 && !torchao_group) {
    return Invalid(absl::StrCat(Name(s), ": group_size is ", s.group_k, ", expected none, 32, 64, 128 or 256"));
  }
  if (s.activation != ActivationFormat::kAsIs && s.group_k != 0) {
    return Invalid(absl::StrCat(Name(s), ": int8 activations need one scale a row of weights"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<QuantScheme> ParseQuantScheme(std::string_view name) {
  std::string_view rest = name;
  auto next = [&rest] {
    size_t comma = std::min(rest.find(','), rest.size());
    std::string_view part = rest.substr(0, comma);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    return part;
  };
  std::optional<QuantScheme> scheme = SchemeNamed(next());
  if (!scheme || name.ends_with(',')) {
    return Invalid(absl::StrCat("quantization scheme \"", ToAbsl(name), "\" is unknown; ", ToAbsl(kKnownSchemes)));
  }
  while (!rest.empty()) {
    std::string_view option = next();
    size_t equals = option.find('=');
    bool known = equals != option.npos && scheme->quantized() &&
                 ApplyOption(option.substr(0, equals), option.substr(equals + 1), *scheme);
    if (!known) {
      return Invalid(absl::StrCat("quantization scheme \"", ToAbsl(name), "\": option \"", ToAbsl(option),
                                  "\" is unknown; ", ToAbsl(kKnownSchemes)));
    }
  }
  QD_RETURN_IF_ERROR(CheckKind(*scheme));
  return *scheme;
}

std::string Name(const QuantScheme& scheme) {
  if (!scheme.quantized()) return std::string(Name(WeightDType(scheme.weight)));
  bool int4 = scheme.weight == WeightFormat::kInt4;
  std::string name = int4                                           ? "int4_weight_only"
                     : scheme.activation == ActivationFormat::kAsIs ? "int8_weight_only"
                                                                    : "int8_dynamic_activation_int8_weight";
  QuantScheme standard = int4 ? Int4Scheme() : Int8Scheme(scheme.activation);
  if (scheme.group_k != standard.group_k) name += ",group_size=" + std::to_string(scheme.group_k);
  if (scheme.zero != standard.zero) {
    name += scheme.zero == ZeroKind::kNone ? ",zero=none" : scheme.zero == ZeroKind::kMin ? ",zero=min" : ",zero=float";
  }
  if (scheme.param_dtype != standard.param_dtype) name.append(",params=").append(Name(scheme.param_dtype));
  return name;
}

DType WeightDType(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return DType::kF32;
    case WeightFormat::kF16:
      return DType::kF16;
    case WeightFormat::kBF16:
      return DType::kBF16;
    case WeightFormat::kInt8:
      return DType::kI8;
    case WeightFormat::kInt4:
      return DType::kU8;
  }
  return DType::kF32;
}

absl::Status CheckScheme(const QuantScheme& scheme, int64_t n, int64_t k) {
  QD_RETURN_IF_ERROR(CheckKind(scheme));
  std::string shape = ToString(Shape{n, k});
  if (n < 1 || k < 1) return Invalid(absl::StrCat(Name(scheme), ": weights are ", shape, ", expected at least [1, 1]"));
  if (scheme.group_k != 0 && k % scheme.group_k != 0) {
    return Invalid(absl::StrCat(Name(scheme), ": weights are ", shape, ", whose ", k,
                                " inputs are no multiple of the group of ", scheme.group_k));
  }
  if (scheme.activation == ActivationFormat::kInt8PerToken && k > kMaxInt8DotLength) {
    return Invalid(absl::StrCat(Name(scheme), ": weights are ", shape, ", whose int32 sums may overflow above ",
                                kMaxInt8DotLength, " inputs"));
  }
  return absl::OkStatus();
}

namespace {

// Elements of a canonical row of data: bytes for int4.
int64_t DataColumns(const QuantScheme& scheme, int64_t k) { return scheme.weight == WeightFormat::kInt4 ? k / 2 : k; }

absl::Status ExpectPart(const QuantScheme& scheme, const char* name, const Tensor& t, DType dtype, const Shape& shape) {
  if (t.present() && t.dtype() == dtype && t.shape() == shape && t.contiguous()) return absl::OkStatus();
  std::string found = t.present() ? std::string(Name(t.dtype())) + " " + ToString(t.shape()) : "absent";
  return Invalid(absl::StrCat(Name(scheme), ": ", name, " is ", found, ", expected ", ToAbsl(Name(dtype)), " ",
                              ToString(shape), " without gaps"));
}

}  // namespace

absl::Status Validate(const QuantizedView& view) {
  const QuantScheme& scheme = view.scheme;
  QD_RETURN_IF_ERROR(CheckScheme(scheme, view.n, view.k));
  QD_RETURN_IF_ERROR(
      ExpectPart(scheme, "data", view.data, WeightDType(scheme.weight), {view.n, DataColumns(scheme, view.k)}));
  Shape params{view.n, scheme.groups(view.k)};
  if (scheme.quantized()) QD_RETURN_IF_ERROR(ExpectPart(scheme, "scales", view.scales, scheme.param_dtype, params));
  if (scheme.zero != ZeroKind::kNone) {
    QD_RETURN_IF_ERROR(ExpectPart(scheme, "zeros", view.zeros, scheme.param_dtype, params));
  }
  return absl::OkStatus();
}

QuantizedView QuantizedMatrix::view() const {
  auto part = [](const std::vector<uint8_t>& bytes, DType dtype, const Shape& shape) {
    return bytes.empty() ? Tensor() : Tensor(const_cast<uint8_t*>(bytes.data()), dtype, shape);
  };
  Shape params{n, scheme.groups(k)};
  return {scheme,
          n,
          k,
          part(data, WeightDType(scheme.weight), {n, DataColumns(scheme, k)}),
          part(scales, scheme.param_dtype, params),
          part(zeros, scheme.param_dtype, params)};
}

QuantizedMatrix NewQuantizedMatrix(const QuantScheme& scheme, int64_t n, int64_t k) {
  QuantizedMatrix m;
  m.scheme = scheme;
  m.n = n;
  m.k = k;
  m.data.resize(static_cast<size_t>(n * DataColumns(scheme, k) * SizeOf(WeightDType(scheme.weight))));
  auto params = static_cast<size_t>(n * scheme.groups(k) * SizeOf(scheme.param_dtype));
  if (scheme.quantized()) m.scales.resize(params);
  if (scheme.zero != ZeroKind::kNone) m.zeros.resize(params);
  return m;
}

float LoadFloat(const void* data, DType dtype, int64_t index) {
  switch (dtype) {
    case DType::kF32:
      return static_cast<const float*>(data)[index];
    case DType::kF16:
      return F16ToF32(static_cast<const uint16_t*>(data)[index]);
    case DType::kBF16:
      return Bf16ToF32(static_cast<const uint16_t*>(data)[index]);
    default:
      QD_CHECK(IsFloat(dtype));
      return 0;
  }
}

void StoreFloat(void* data, DType dtype, int64_t index, float value) {
  switch (dtype) {
    case DType::kF32:
      static_cast<float*>(data)[index] = value;
      break;
    case DType::kF16:
      static_cast<uint16_t*>(data)[index] = F32ToF16(value);
      break;
    case DType::kBF16:
      static_cast<uint16_t*>(data)[index] = F32ToBf16(value);
      break;
    default:
      QD_CHECK(IsFloat(dtype));
  }
}

namespace {

// Loops over a model's weights run in blocks of a constant length, on pointers that do not alias: -O2 makes vector code
// of them.
constexpr int kBlock = 32;

// As F16ToF32, without branches: the exponent is moved by a multiplication, which is exact and handles subnormals.
inline float F16ToF32Branchless(uint16_t half) {
  uint32_t magnitude = static_cast<uint32_t>(half & 0x7fff) << 13;
  uint32_t value = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  uint32_t special = magnitude >= 0x0f800000 ? 0x7f800000 : 0;
  return std::bit_cast<float>(value | special | (static_cast<uint32_t>(half & 0x8000) << 16));
}

template <typename From, typename To, typename Convert>
void ConvertAll(const From* __restrict from, int64_t count, To* __restrict to, Convert convert) {
  int64_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    for (int j = 0; j < kBlock; ++j) to[i + j] = convert(from[i + j]);
  }
  for (; i < count; ++i) to[i] = convert(from[i]);
}

}  // namespace

void LoadFloats(const void* data, DType dtype, int64_t count, float* out) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, data, static_cast<size_t>(count) * 4);
      break;
    case DType::kF16:
      ConvertAll(static_cast<const uint16_t*>(data), count, out, F16ToF32Branchless);
      break;
    case DType::kBF16:
      ConvertAll(static_cast<const uint16_t*>(data), count, out, Bf16ToF32);
      break;
    default:
      QD_CHECK(IsFloat(dtype));
  }
}

void StoreFloats(const float* values, int64_t count, void* data, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(data, values, static_cast<size_t>(count) * 4);
      break;
    case DType::kF16:
      ConvertAll(values, count, static_cast<uint16_t*>(data), F32ToF16);
      break;
    case DType::kBF16:
      ConvertAll(values, count, static_cast<uint16_t*>(data), F32ToBf16);
      break;
    default:
      QD_CHECK(IsFloat(dtype));
  }
}

namespace {

struct Range {
  float low, high;
};

// Of values that are finite; count >= 1.
Range MinMax(const float* x, int64_t count) {
  float low[kBlock], high[kBlock];
  for (int j = 0; j < kBlock; ++j) low[j] = high[j] = x[0];
  int64_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    for (int j = 0; j < kBlock; ++j) {
      low[j] = x[i + j] < low[j] ? x[i + j] : low[j];
      high[j] = x[i + j] > high[j] ? x[i + j] : high[j];
    }
  }
  Range range{x[0], x[0]};
  for (int j = 0; j < kBlock; ++j) range = {std::min(range.low, low[j]), std::max(range.high, high[j])};
  for (; i < count; ++i) range = {std::min(range.low, x[i]), std::max(range.high, x[i])};
  return range;
}

float AbsMax(Range r) { return std::max(std::fabs(r.low), std::fabs(r.high)); }

// The first value that is NaN or infinite, or -1.
int64_t FindNonFinite(const float* x, int64_t count) {
  float sums[kBlock] = {};  // x * 0 is 0 for what is finite, NaN otherwise
  int64_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    for (int j = 0; j < kBlock; ++j) sums[j] += x[i + j] * 0.0f;
  }
  float sum = 0;
  for (float s : sums) sum += s;
  for (; i < count; ++i) sum += x[i] * 0.0f;
  if (sum == 0) return -1;
  for (i = 0; std::isfinite(x[i]);) ++i;
  return i;
}

// clamp(rne(v), low, high) for |low|, |high| < 2^22: adding 1.5 * 2^23 leaves the integer in the last bits of the sum.
inline int32_t RoundClamped(float v, float low, float high) {
  v = v < low ? low : v;
  v = v > high ? high : v;
  return std::bit_cast<int32_t>(v + 12582912.0f) - 0x4b400000;
}

// code = clamp(rne((x - shift) / scale) + offset) in blocks; what fills a row of int4 or int8 data.
template <typename Code, typename Convert>
void Encode(const float* x, int64_t count, Code* codes, Convert convert) {
  ConvertAll(x, count, codes, [convert](float v) { return static_cast<Code>(convert(v)); });
}

// Two codes a byte, the even one in the low nibble. `count` is a multiple of 32.
void PackNibbles(const uint8_t* __restrict codes, int64_t count, uint8_t* __restrict packed) {
  for (int64_t i = 0; i < count; i += kBlock) {
    uint16_t pairs[kBlock / 2];
    std::memcpy(pairs, codes + i, sizeof pairs);
    for (int j = 0; j < kBlock / 2; ++j) packed[i / 2 + j] = static_cast<uint8_t>(pairs[j] | (pairs[j] >> 4));
  }
}

float RoundedTo(DType dtype, float value) {
  if (dtype == DType::kF32) return value;
  return dtype == DType::kBF16 ? Bf16ToF32(F32ToBf16(value)) : F16ToF32(F32ToF16(value));
}

struct GroupParams {
  float scale, zero;  // rounded to the scheme's param_dtype
};

// torchao's choose_qparams_affine, in f32 (quant_primitives.py): symmetric with (qmax - qmin) / 2 below the largest
// magnitude, or min and max with the zero in the middle of the codes (kFloat) or at the first (kMin, as ggml's q4_1).
GroupParams ChooseParams(const QuantScheme& scheme, Range r) {
  float scale, zero = 0;
  if (scheme.weight == WeightFormat::kInt8) {
    scale = std::max(AbsMax(r) / 127.5f, kInt8ScaleFloor);
  } else if (scheme.zero == ZeroKind::kNone) {
    scale = std::max(AbsMax(r) / 7.5f, kInt4ScaleFloor);
  } else {
    scale = std::max((r.high - r.low) / 15.0f, kInt4ScaleFloor);
    zero = scheme.zero == ZeroKind::kFloat ? r.low + 8.0f * scale : r.low;
  }
  return {RoundedTo(scheme.param_dtype, scale), RoundedTo(scheme.param_dtype, zero)};
}

// Codes of one group: signed for int8, 0..15 one a byte for int4.
void EncodeGroup(const QuantScheme& scheme, GroupParams p, const float* x, int64_t count, uint8_t* codes) {
  if (scheme.weight == WeightFormat::kInt8) {
    float inverse = 1.0f / p.scale;
    Encode(x, count, codes, [inverse](float v) { return RoundClamped(v * inverse, -128, 127); });
  } else if (scheme.zero == ZeroKind::kNone) {
    float inverse = 1.0f / p.scale;
    Encode(x, count, codes, [inverse](float v) { return RoundClamped(v * inverse, -8, 7) + 8; });
  } else {
    float shift = scheme.zero == ZeroKind::kFloat ? p.zero - 8.0f * p.scale : p.zero;
    float scale = p.scale;
    Encode(x, count, codes, [shift, scale](float v) { return RoundClamped((v - shift) / scale, 0, 15); });
  }
}

// One finite row into row `row` of `out`. InvalidArgument: a parameter that param_dtype cannot hold.
absl::Status QuantizeRow(const float* x, int64_t row, QuantizedMatrix& out, std::vector<uint8_t>& codes) {
  const QuantScheme& scheme = out.scheme;
  int64_t groups = scheme.groups(out.k), length = out.k / groups;
  for (int64_t g = 0; g < groups; ++g) {
    GroupParams p = ChooseParams(scheme, MinMax(x + g * length, length));
    if (!std::isfinite(p.scale) || !std::isfinite(p.zero)) {
      return Invalid(absl::StrCat(Name(scheme), ": row ", row, ", columns ", g * length, " to ", (g + 1) * length - 1,
                                  ": the weights are too large for params of ", ToAbsl(Name(scheme.param_dtype))));
    }
    StoreFloat(out.scales.data(), scheme.param_dtype, row * groups + g, p.scale);
    if (scheme.zero != ZeroKind::kNone) StoreFloat(out.zeros.data(), scheme.param_dtype, row * groups + g, p.zero);
    EncodeGroup(scheme, p, x + g * length, length, codes.data() + g * length);
  }
  if (scheme.weight == WeightFormat::kInt4) {
    PackNibbles(codes.data(), out.k, out.data.data() + row * out.k / 2);
  } else {
    std::memcpy(out.data.data() + row * out.k, codes.data(), codes.size());
  }
  return absl::OkStatus();
}

absl::Status NotFinite(const QuantScheme& scheme, int64_t row, int64_t column, float value) {
  return Invalid(absl::StrCat(Name(scheme), ": the weight in row ", row, ", column ", column, " is ", value,
                              ", expected a finite one"));
}

// One finite row as f32, f16 or bf16. InvalidArgument: a weight that the format cannot hold.
absl::Status ConvertRow(const float* x, int64_t row, QuantizedMatrix& out) {
  DType dtype = WeightDType(out.scheme.weight);
  uint8_t* data = out.data.data() + row * out.k * SizeOf(dtype);
  StoreFloats(x, out.k, data, dtype);
  Range range = MinMax(x, out.k);
  if (std::isfinite(RoundedTo(dtype, range.low)) && std::isfinite(RoundedTo(dtype, range.high)))
    return absl::OkStatus();
  return Invalid(absl::StrCat(Name(out.scheme), ": row ", row, " holds ",
                              AbsMax(range) == range.high ? range.high : range.low, ", which the format cannot"));
}

}  // namespace

absl::StatusOr<QuantizedMatrix> Quantize(const Tensor& weights, const QuantScheme& scheme) {
  if (!weights.present() || weights.shape().rank() != 2 || !IsFloat(weights.dtype())) {
    return Invalid(absl::StrCat(Name(scheme), ": weights are ", ToAbsl(Name(weights.dtype())), " ",
                                ToString(weights.shape()), ", expected f32, f16 or bf16 [N, K]"));
  }
  int64_t n = weights.rows(), k = weights.dim(1);
  QD_RETURN_IF_ERROR(CheckScheme(scheme, n, k));
  QuantizedMatrix out = NewQuantizedMatrix(scheme, n, k);
  std::vector<float> row(static_cast<size_t>(k));
  std::vector<uint8_t> codes(static_cast<size_t>(k));
  for (int64_t r = 0; r < n; ++r) {
    LoadFloats(weights.row(r), weights.dtype(), k, row.data());
    int64_t bad = FindNonFinite(row.data(), k);
    if (bad >= 0) return NotFinite(scheme, r, bad, row[static_cast<size_t>(bad)]);
    QD_RETURN_IF_ERROR(scheme.quantized() ? QuantizeRow(row.data(), r, out, codes) : ConvertRow(row.data(), r, out));
  }
  return out;
}

void DequantizeRow(const QuantizedView& view, int64_t row, float* out) {
  const QuantScheme& scheme = view.scheme;
  if (!scheme.quantized()) return LoadFloats(view.data.row(row), view.data.dtype(), view.k, out);
  int64_t groups = scheme.groups(view.k), length = view.k / groups;
  const auto* data = static_cast<const uint8_t*>(view.data.row(row));
  for (int64_t g = 0; g < groups; ++g, out += length) {
    float scale = LoadFloat(view.scales.data(), scheme.param_dtype, row * groups + g);
    bool has_zero = scheme.zero != ZeroKind::kNone;
    float zero = has_zero ? LoadFloat(view.zeros.data(), scheme.param_dtype, row * groups + g) : 0.0f;
    if (scheme.weight == WeightFormat::kInt8) {
      const auto* codes = reinterpret_cast<const int8_t*>(data) + g * length;
      for (int64_t i = 0; i < length; ++i) out[i] = static_cast<float>(codes[i]) * scale;
      continue;
    }
    const uint8_t* codes = data + g * length / 2;
    float middle = scheme.zero == ZeroKind::kMin ? 0.0f : 8.0f;
    for (int64_t i = 0; i < length; ++i) {
      float code = static_cast<float>((codes[i / 2] >> (i % 2 * 4)) & 15);
      out[i] = (code - middle) * scale;
      if (has_zero) out[i] += zero;
    }
  }
}

}  // namespace quantd
