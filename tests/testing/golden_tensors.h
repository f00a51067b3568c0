// Tensors of a small safetensors file written by the scripts in tools/oracle, for tests. Aborts on a file it cannot
// read.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace quantd::testing {

struct GoldenTensor {
  std::vector<int64_t> shape;
  std::vector<float> f32;    // dtype F32
  std::vector<int32_t> i32;  // dtype I32, and U8 and I8 widened
};
std::map<std::string, GoldenTensor> ReadGoldenTensors(const std::string& path);

}  // namespace quantd::testing
