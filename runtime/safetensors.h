// The safetensors format: u64 header length, a JSON header of names, dtypes, shapes and offsets, then the tensors'
// bytes. https://github.com/huggingface/safetensors (README "Format"; limits as safetensors/src/tensor.rs has them).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/file.h"
#include "runtime/weight_store.h"

namespace quantd {

struct SafetensorsTensor {
  std::string name;
  DType dtype = DType::kF32;  // f32, f16 or bf16
  Shape shape;
  int64_t offset = 0, bytes = 0;  // in the file
};

struct SafetensorsFile {
  std::vector<SafetensorsTensor> tensors;  // in the order of their bytes, which they cover without gap or overlap
};

// Parses and checks the header against the size of `source`. DataLoss: what is wrong, at which tensor or byte.
// Unimplemented: a tensor of a dtype that is known and not supported, or of more than four dimensions.
absl::StatusOr<SafetensorsFile> ParseSafetensors(const ByteSource& source);

// Tensor name → file name, of model.safetensors.index.json. File names are plain names that end in ".safetensors".
absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view text, std::string_view name);

// The tensors of a folder: model.safetensors, or the files that model.safetensors.index.json names, each in full and
// with exactly the tensors that the index puts there. NotFound: neither file is there.
absl::StatusOr<std::unique_ptr<WeightStore>> OpenSafetensorsFolder(const std::string& folder);
// The tensors of one file.
absl::StatusOr<std::unique_ptr<WeightStore>> OpenSafetensors(std::unique_ptr<ByteSource> source);

}  // namespace quantd
