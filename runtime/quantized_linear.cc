#include "runtime/quantized_linear.h"

namespace quantd {

QuantizedLinear::QuantizedLinear(std::vector<Part> parts, DType activations)
    : parts_(std::move(parts)), activations_(activations) {
  for (const Part& part : parts_) {
    k_ = part.weight->k();
    bool int8 = part.weight->scheme().activation == ActivationFormat::kInt8PerToken;
    wants_int8_ |= int8;
    wants_values_ |= !int8;
  }
}

Activation QuantizedLinear::NewInput(Workspace& workspace, int64_t rows) const {
  Activation x;
  if (wants_values_) x.values = workspace.New(activations_, {rows, k_});
  if (wants_int8_) {
    x.quantized = workspace.New(DType::kI8, {rows, k_});
    x.scales = workspace.New(DType::kF32, {rows});
  }
  return x;
}

void QuantizedLinear::Forward(StepContext& context, const Activation& x, const Tensor& out, LinearArgs args) const {
  for (const Part& part : parts_) {
    LinearArgs part_args = args;
    part_args.bias = part.bias;
    if (parts_.size() == 1) {
      context.backend.Linear(x, *part.weight, part_args, out);
      continue;
    }
    if (args.residual.present()) part_args.residual = args.residual.Columns(part.column, part.weight->n());
    context.backend.Linear(x, *part.weight, part_args, out.Columns(part.column, part.weight->n()));
  }
}

}  // namespace quantd
