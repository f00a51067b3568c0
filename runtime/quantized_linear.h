// QuantizedLinear: the linear layer that models hold. They never see a scheme.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "runtime/language_model.h"
#include "runtime/workspace.h"

namespace quantd {

// One or more weights of the same K whose outputs stand side by side: q, k, v or gate, up. Parts of one scheme were
// stacked into one DeviceWeight; parts of different schemes are several. Owns nothing: ModelParams does.
class QuantizedLinear {
 public:
  struct Part {
    const DeviceWeight* weight = nullptr;
    Tensor bias;         // f32 [weight->n()], or absent
    int64_t column = 0;  // of its first output
  };
  QuantizedLinear() = default;
  QuantizedLinear(std::vector<Part> parts, DType activations);

  // Room for `rows` inputs in every form that the parts' schemes want; who produces the input fills them.
  Activation NewInput(Workspace& workspace, int64_t rows) const;
  // out [rows, n]; args.bias stays absent: the layer has its own.
  void Forward(StepContext& context, const Activation& x, const Tensor& out, LinearArgs args = {}) const;

 private:
  std::vector<Part> parts_;
  DType activations_ = DType::kF32;
  int64_t k_ = 0;
  bool wants_values_ = false, wants_int8_ = false;
};

}  // namespace quantd
