// WeightStore: the named tensors of a checkpoint, whatever file format holds them.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>

#include "kernels/quant.h"

namespace quantd {

struct TensorInfo {
  std::string name;    // HF name: "model.layers.0.self_attn.q_proj.weight" (GGUF names are translated)
  Shape shape;         // as HF has it: [N, K] for a linear weight, [K] for a norm
  QuantScheme scheme;  // as stored: a float format, or what a GGUF block type means
  int64_t file_bytes = 0;
  size_t item = 0;          // which one it is to the store
  std::string unsupported;  // why it cannot be read, which matters to a model that wants it; shape and scheme are unset
};

// Every header and offset was checked when the store was opened. Read may be called from any one thread at a time;
// files are read, never mapped (a file truncated under a mapping kills the process).
class WeightStore {
 public:
  virtual ~WeightStore() = default;
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // sorted by name
  const TensorInfo* Find(std::string_view name) const;                 // null: no such tensor
  // The scheme of tensors that are not there and whose shapes a plan may take from the configuration: a folder without
  // weights. Nothing where what is not there is missing.
  virtual std::optional<QuantScheme> assumed() const { return std::nullopt; }
  const std::vector<std::string>& warnings() const { return warnings_; }  // where files disagree and it does not matter
  // One tensor in canonical form (a vector [K] as n = 1), q/k rows of GGUF un-permuted. DataLoss, with the name: the
  // file ended early or changed, or a value, a scale or a zero is not finite. NotFound: no such tensor. Unimplemented:
  // a tensor of a dtype or rank that is not supported.
  absl::StatusOr<QuantizedMatrix> Read(std::string_view name) const;

 protected:
  // The tensors in any order, each name once; then Finish.
  void Add(TensorInfo info) { tensors_.push_back(std::move(info)); }
  void Finish();
  void Warn(std::string warning) { warnings_.push_back(std::move(warning)); }

 private:
  virtual absl::StatusOr<QuantizedMatrix> ReadItem(const TensorInfo& info) const = 0;

  std::vector<TensorInfo> tensors_;
  std::vector<std::string> warnings_;
};

}  // namespace quantd
