// The GGUF container, versions 2 and 3, little endian: metadata, a table of tensors, their bytes.
// Layout and limits as ggml (docs/gguf.md, src/gguf.cpp) has them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/file.h"
#include "runtime/gguf_blocks.h"

namespace quantd {

// A metadata value. Integers of every width become int64 (a u64 beyond it is refused), floats double.
struct GgufValue {
  std::variant<bool, int64_t, double, std::string, std::vector<bool>, std::vector<int64_t>, std::vector<double>,
               std::vector<std::string>>
      value;
};

struct GgufTensor {
  std::string name;  // as in the file: "blk.0.attn_q.weight"
  GgmlType type = GgmlType::kF32;
  Shape shape;                    // outermost dimension first (the file has it last)
  int64_t offset = 0, bytes = 0;  // in the file
};

struct GgufFile {
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::vector<GgufTensor> tensors;  // in the order of their bytes
};

// InvalidArgument: no GGUF file. DataLoss: what is wrong, at which key, tensor or byte. Unimplemented: another version,
// big endian (which version 3 added), or a tensor of a type that is known and not supported (named).
absl::StatusOr<GgufFile> ParseGguf(const ByteSource& source);

// Whether `source` begins as every GGUF file does.
bool StartsAsGguf(const ByteSource& source);

// "bool", "integer", "float", "string", "array of strings", … for messages.
std::string_view KindName(const GgufValue& value);

}  // namespace quantd
