// WeightStore: the named tensors of a checkpoint, whatever file format holds them.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "kernels/quant.h"

namespace quantd {

struct TensorInfo {
  std::string name;    // HF name: "model.layers.0.self_attn.q_proj.weight" (GGUF names are translated)
  Shape shape;         // as HF has it: [N, K] for a linear weight, [K] for a norm
  QuantScheme scheme;  // as stored: a float format, or what a GGUF block type means
  int64_t file_bytes = 0;
  size_t item = 0;  // which one it is to the store
};

// Every header and offset was checked when the store was opened. Read may be called from any one thread at a time;
// files are read, never mapped (a file truncated under a mapping kills the process).
class WeightStore {
 public:
  virtual ~WeightStore() = default;
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // sorted by name
  const TensorInfo* Find(std::string_view name) const;                 // null: no such tensor
  // One tensor in canonical form (a vector [K] as n = 1), q/k rows of GGUF un-permuted. DataLoss, with the name: the
  // file ended early or changed, or a value, a scale or a zero is not finite. NotFound: no such tensor.
  absl::StatusOr<QuantizedMatrix> Read(std::string_view name) const;

 protected:
  // The tensors in any order, each name once; then Finish.
  void Add(TensorInfo info) { tensors_.push_back(std::move(info)); }
  void Finish();

 private:
  virtual absl::StatusOr<QuantizedMatrix> ReadItem(const TensorInfo& info) const = 0;

  std::vector<TensorInfo> tensors_;
};

}  // namespace quantd
