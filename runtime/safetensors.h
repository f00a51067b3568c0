// The safetensors format: u64 header length, a JSON header of names, dtypes, shapes and offsets, then the tensors'
// bytes. https://github.com/huggingface/safetensors (README "Format"; limits as safetensors/src/tensor.rs has them).
#pragma once

#include <map>
#include <memory>
#include <optional>
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
  std::string unsupported;        // why it cannot be read: a known dtype or a rank that is not supported; else empty
};

struct SafetensorsFile {
  std::vector<SafetensorsTensor> tensors;  // in the order of their bytes, which they cover without gap or overlap
};

// Parses and checks the header against the size of `source`. DataLoss: what is wrong, at which tensor or byte.
absl::StatusOr<SafetensorsFile> ParseSafetensors(const ByteSource& source);

// Tensor name → file name, of model.safetensors.index.json. File names end in ".safetensors" and stay below the
// folder; "." in a path is left out.
// `total_size`, where not null, is metadata.total_size if that is a whole number. DataLoss: no JSON, no weight_map, or
// a name in it that is none.
absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view text, std::string_view name,
                                                                         std::optional<int64_t>* total_size = nullptr);

// The tensors of a folder, as transformers finds them (modeling_utils.py): model.safetensors, or else the files that
// model.safetensors.index.json names, in the order of their names. The index says which files there are, the files say
// what is in them: where the two differ the store warns, and of a tensor in two files the later one counts. NotFound:
// neither file is there, or none of those that the index names. DataLoss: a file is missing or corrupt.
absl::StatusOr<std::unique_ptr<WeightStore>> OpenSafetensorsFolder(const std::string& folder);
// The tensors of one file.
absl::StatusOr<std::unique_ptr<WeightStore>> OpenSafetensors(std::unique_ptr<ByteSource> source);

}  // namespace quantd
