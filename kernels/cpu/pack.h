// Weights in panels (cpu_ops.h): which schemes can be packed, how, and a row of them back.
#pragma once

#include <cstdint>

#include <absl/status/statusor.h>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_ops.h"

namespace quantd::cpu {

// The view without its data. InvalidArgument as CheckScheme: every scheme has its tiles.
absl::StatusOr<PanelView> PanelsOf(const QuantScheme& scheme, int64_t n, int64_t k);

// Writes panel `panel` of `weight`, all panel_bytes of it, at its place in `data`.
void PackPanel(const QuantizedView& weight, const PanelView& view, int64_t panel, uint8_t* data);

// Row `row` dequantized as DequantizeRow does, rounded to `dtype` (f32 or bf16) [K].
void UnpackRow(const PanelView& view, int64_t row, DType dtype, void* out);

class CpuWeight : public DeviceWeight {
 public:
  CpuWeight(const QuantScheme& scheme, PanelView view, Buffer buffer);
  const PanelView& view() const { return view_; }

 private:
  PanelView view_;
  Buffer buffer_;
};

}  // namespace quantd::cpu
