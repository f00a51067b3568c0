// ParamLoader: from a checkpoint's tensors to weights on a device, one tensor at a time.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>

#include "kernels/backend.h"
#include "runtime/model_loader.h"
#include "runtime/quant_recipe.h"
#include "runtime/quantized_linear.h"
#include "runtime/weight_store.h"

namespace quantd {

// Everything a model keeps on its device. Destroyed on the thread that owns the backend.
struct ModelParams {
  std::vector<std::unique_ptr<DeviceWeight>> weights;
  std::vector<Buffer> buffers;
  std::vector<LayerReport> report;
  std::vector<std::string> warnings;  // tensors that are not used, and biases that count as zero
  int64_t parameters = 0;
};

// Errors are sticky: the first is kept, later calls return empty values, and Finish tells. So a model's constructor
// reads as a list of its parameters. On a dry-run backend nothing is read or computed. Peak host memory is what the
// tensors of one linear layer take; never the model.
class ParamLoader {
 public:
  ParamLoader(const WeightStore& store, const QuantRecipe& recipe, Backend& backend, MemoryTag tag, DType activations,
              const LoadHooks& hooks, ModelParams& params);

  struct LinearSpec {
    std::string layer;  // name without ".weight"
    int64_t n = 0;
  };
  // Of each ".bias" [n]: none is read; that of a layer is added where it is there and zero where it is not; the same
  // with a warning for each that is missing.
  enum class Bias : uint8_t { kNone, kWhereThere, kExpected };
  // Several weights [n, k] of the same input.
  QuantizedLinear Linear(const std::vector<LinearSpec>& specs, int64_t k, Bias bias);
  // A table [n, k] for gathers, and the head over the same table.
  const DeviceWeight* Table(const std::string& layer, int64_t n, int64_t k, WeightRole role);
  QuantizedLinear Head(const DeviceWeight* table) const;
  Tensor Vector(const std::string& name, int64_t size);                  // f32 [size]
  std::vector<float> HostVector(const std::string& name, int64_t size);  // ones in a dry run
  // f32 tensor filled by `fill`, which is not called in a dry run.
  Tensor Constant(Shape shape, const std::function<void(float*)>& fill);
  bool Has(std::string_view name) const { return store_.Find(name) != nullptr; }
  // Both are there and hold the same, byte by byte. Reads them, in a dry run too: what is loaded depends on it.
  bool SameValues(const std::string& a, const std::string& b);
  void Ignore(const std::string& name) { used_.insert(name); }
  void Warn(std::string warning) { params_.warnings.push_back(std::move(warning)); }

  // What a model finds wrong with a parameter's values.
  void Fail(absl::Status status);

  // The first error. Tensors of the checkpoint that nobody used are a warning, as in transformers.
  absl::Status Finish();

 private:
  const TensorInfo* Use(const std::string& name, const Shape& expected);
  QuantizedMatrix Load(const TensorInfo& info, const QuantScheme& scheme);
  const DeviceWeight* Pack(const QuantizedMatrix& matrix, const std::string& layer);
  Tensor Upload(const float* host, Shape shape);
  size_t Report(const std::string& name, const QuantRecipe::Choice& choice, const TensorInfo& info, int64_t n,
                int64_t k);
  void Account(size_t first_report, const DeviceWeight& weight);

  const WeightStore& store_;
  const QuantRecipe& recipe_;
  Backend& backend_;
  MemoryTag tag_;
  DType activations_;
  const LoadHooks& hooks_;
  ModelParams& params_;
  absl::Status status_;
  std::set<std::string, std::less<>> used_;
  std::map<std::string, TensorInfo> assumed_;  // of a store without weights
  std::vector<std::string> zero_biases_;       // expected and not there
  LoadProgress progress_;
};

}  // namespace quantd
