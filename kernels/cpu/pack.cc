#include "kernels/cpu/pack.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"

namespace quantd::cpu {
namespace {

int64_t RoundUp(int64_t v, int64_t to) { return (v + to - 1) / to * to; }

// Bytes of one k of a panel.
int64_t StepBytes(PanelFormat format) {
  switch (format) {
    case PanelFormat::kF32:
      return kPanel * 4;
    case PanelFormat::kF16:
    case PanelFormat::kBF16:
      return kPanel * 2;
    case PanelFormat::kInt8:
    case PanelFormat::kInt8Dot:
      return kPanel;
    case PanelFormat::kInt4:
      return kPanel / 2;
  }
  return 0;
}

std::string LayoutId(PanelFormat format) {
  constexpr std::string_view kNames[] = {"f32", "f16", "bf16", "int8", "int4", "int8dot"};
  return absl::StrCat("cpu.", ToAbsl(kNames[static_cast<int>(format)]), ".n", kPanel, ".v1");
}

int64_t Strips(const PanelView& view) { return view.zero == ZeroKind::kNone ? 1 : 2; }

// Where codes of lane `lane` at k begin in a panel; int4: the dword that holds them.
int64_t CodeOffset(PanelFormat format, int64_t k, int64_t lane) {
  switch (format) {
    case PanelFormat::kF32:
      return (k * kPanel + lane) * 4;
    case PanelFormat::kF16:
      return (k * kPanel + lane) * 2;
    case PanelFormat::kBF16:
      return ((k / 2 * kPanel + lane) * 2 + k % 2) * 2;
    case PanelFormat::kInt8:
      return k * kPanel + lane;
    case PanelFormat::kInt8Dot:
      return (k / 4 * kPanel + lane) * 4 + k % 4;
    case PanelFormat::kInt4:
      return (k / 8 * kPanel + lane) * 4;
  }
  return 0;
}

template <int64_t kBytes, int64_t kRun>
void PackCodes(const QuantizedView& weight, const PanelView& view, int64_t n_begin, int64_t n_end, uint8_t* panel) {
  // kBytes for each run of kRun codes, in the order of the canonical row: even k first in a byte of int4, as in its
  // dword.
  int64_t row_bytes = weight.data.row_elements() * SizeOf(weight.data.dtype()), whole = row_bytes / kBytes;
  for (int64_t run = 0; run < whole; ++run) {
    for (int64_t n = n_begin; n < n_end; ++n) {
      const uint8_t* row = static_cast<const uint8_t*>(weight.data.row(n));
      std::memcpy(panel + CodeOffset(view.format, run * kRun, n - n_begin), row + run * kBytes, kBytes);
    }
  }
  if (int64_t rest = row_bytes % kBytes; rest > 0) {
    for (int64_t n = n_begin; n < n_end; ++n) {
      const uint8_t* row = static_cast<const uint8_t*>(weight.data.row(n));
      std::memcpy(panel + CodeOffset(view.format, whole * kRun, n - n_begin), row + whole * kBytes,
                  static_cast<size_t>(rest));
    }
  }
}

template <typename T>
float Load(const uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

template <PanelFormat kFormat>
void UnpackRowOf(const PanelView& view, int64_t row, DType dtype, void* out) {
  const uint8_t* panel = view.data + row / kPanel * view.panel_bytes;
  int64_t lane = row % kPanel, strips = Strips(view);
  float scale = 1, zero = 0;
  for (int64_t k = 0; k < view.k; ++k) {
    if (view.quantized && (view.group == 0 ? k == 0 : k % view.group == 0)) {
      int64_t index = (view.group == 0 ? 0 : k / view.group) * strips * kPanel + lane;
      scale = LoadFloat(panel + view.params_offset, view.param_dtype, index);
      if (strips == 2) zero = LoadFloat(panel + view.params_offset, view.param_dtype, index + kPanel);
    }
    const uint8_t* code = panel + CodeOffset(kFormat, k, lane);
    float value = 0;
    if constexpr (kFormat == PanelFormat::kF32) value = Load<float>(code);
    if constexpr (kFormat == PanelFormat::kF16) value = LoadFloat(code, DType::kF16, 0);
    if constexpr (kFormat == PanelFormat::kBF16) value = LoadFloat(code, DType::kBF16, 0);
    if constexpr (kFormat == PanelFormat::kInt8 || kFormat == PanelFormat::kInt8Dot) value = Load<int8_t>(code) * scale;
    if constexpr (kFormat == PanelFormat::kInt4) {
      uint32_t codes;
      std::memcpy(&codes, code, sizeof(codes));
      int q = static_cast<int>(codes >> (4 * (k % 8)) & 15);
      value = static_cast<float>(view.zero == ZeroKind::kMin ? q : q - 8) * scale;
      if (strips == 2) value += zero;
    }
    if (dtype == DType::kF32) {
      static_cast<float*>(out)[k] = value;
    } else {
      static_cast<uint16_t*>(out)[k] = F32ToBf16(value);
    }
  }
}

PanelFormat FormatOf(const QuantScheme& scheme) {
  switch (scheme.weight) {
    case WeightFormat::kF32:
      return PanelFormat::kF32;
    case WeightFormat::kF16:
      return PanelFormat::kF16;
    case WeightFormat::kBF16:
      return PanelFormat::kBF16;
    case WeightFormat::kInt8:
      break;
    case WeightFormat::kInt4:
      return PanelFormat::kInt4;
  }
  return scheme.activation == ActivationFormat::kInt8PerToken ? PanelFormat::kInt8Dot : PanelFormat::kInt8;
}

}  // namespace

absl::StatusOr<PanelView> PanelsOf(const QuantScheme& scheme, int64_t n, int64_t k) {
  QD_RETURN_IF_ERROR(CheckScheme(scheme, n, k));
  PanelView view;
  view.format = FormatOf(scheme);
  view.n = n;
  view.k = k;
  view.k_padded = RoundUp(k, kKStep);
  view.param_dtype = scheme.param_dtype;
  view.zero = scheme.zero;
  view.quantized = scheme.quantized();
  view.group = scheme.group_k;
  view.params_offset = view.k_padded * StepBytes(view.format);
  int64_t params = scheme.groups(k) * Strips(view) * kPanel * SizeOf(view.param_dtype);
  view.panel_bytes = RoundUp(view.params_offset + params, 64);
  return view;
}

void PackPanel(const QuantizedView& weight, const PanelView& view, int64_t panel, uint8_t* data) {
  uint8_t* out = data + panel * view.panel_bytes;
  std::memset(out, 0, static_cast<size_t>(view.panel_bytes));
  int64_t n_begin = panel * kPanel, n_end = std::min(view.n, n_begin + kPanel);
  switch (view.format) {
    case PanelFormat::kF32:
      PackCodes<4, 1>(weight, view, n_begin, n_end, out);
      break;
    case PanelFormat::kF16:
      PackCodes<2, 1>(weight, view, n_begin, n_end, out);
      break;
    case PanelFormat::kBF16:
      PackCodes<4, 2>(weight, view, n_begin, n_end, out);
      break;
    case PanelFormat::kInt8:
      PackCodes<1, 1>(weight, view, n_begin, n_end, out);
      break;
    case PanelFormat::kInt8Dot:
      PackCodes<4, 4>(weight, view, n_begin, n_end, out);
      break;
    case PanelFormat::kInt4:
      PackCodes<4, 8>(weight, view, n_begin, n_end, out);
      break;
  }
  if (!view.quantized) return;
  int64_t groups = weight.scheme.groups(view.k), size = SizeOf(view.param_dtype), strips = Strips(view);
  uint8_t* params = out + view.params_offset;
  for (int64_t n = n_begin; n < n_end; ++n) {
    for (int64_t g = 0; g < groups; ++g) {
      uint8_t* at = params + (g * strips * kPanel + n - n_begin) * size;
      std::memcpy(at, static_cast<const uint8_t*>(weight.scales.row(n)) + g * size, static_cast<size_t>(size));
      if (strips == 1) continue;
      std::memcpy(at + kPanel * size, static_cast<const uint8_t*>(weight.zeros.row(n)) + g * size,
                  static_cast<size_t>(size));
    }
  }
}

void UnpackRow(const PanelView& view, int64_t row, DType dtype, void* out) {
  switch (view.format) {
    case PanelFormat::kF32:
      return UnpackRowOf<PanelFormat::kF32>(view, row, dtype, out);
    case PanelFormat::kF16:
      return UnpackRowOf<PanelFormat::kF16>(view, row, dtype, out);
    case PanelFormat::kBF16:
      return UnpackRowOf<PanelFormat::kBF16>(view, row, dtype, out);
    case PanelFormat::kInt8:
      return UnpackRowOf<PanelFormat::kInt8>(view, row, dtype, out);
    case PanelFormat::kInt8Dot:
      return UnpackRowOf<PanelFormat::kInt8Dot>(view, row, dtype, out);
    case PanelFormat::kInt4:
      return UnpackRowOf<PanelFormat::kInt4>(view, row, dtype, out);
  }
}

CpuWeight::CpuWeight(const QuantScheme& scheme, PanelView view, Buffer buffer)
    : DeviceWeight(scheme, view.n, view.k, LayoutId(view.format)), view_(view), buffer_(std::move(buffer)) {
  view_.data = static_cast<const uint8_t*>(buffer_.data());
  bytes_ = buffer_.bytes();
}

}  // namespace quantd::cpu
