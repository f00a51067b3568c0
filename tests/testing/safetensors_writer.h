// Safetensors files in memory, for tests: well-formed ones, and whatever header a test wants to see refused.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/dtype.h"

namespace quantd::testing {

// A file of this header text and these data bytes; the length that it states may lie.
inline std::string SafetensorsBytes(std::string_view header, std::string_view data, uint64_t stated_length) {
  std::string file(8, '\0');
  for (int i = 0; i < 8; ++i) file[static_cast<size_t>(i)] = static_cast<char>(stated_length >> (8 * i));
  file += header;
  file += data;
  return file;
}
inline std::string SafetensorsBytes(std::string_view header, std::string_view data) {
  return SafetensorsBytes(header, data, header.size());
}

class SafetensorsWriter {
 public:
  // `bytes` as the file is to hold them; `dtype` in the file's spelling: "F32", "BF16", …
  void Add(std::string_view name, std::string_view dtype, std::span<const int64_t> shape, std::string_view bytes) {
    header_ += (header_.empty() ? "{\"" : ",\"") + std::string(name) + "\":{\"dtype\":\"" + std::string(dtype) +
               "\",\"shape\":[";
    for (size_t i = 0; i < shape.size(); ++i) header_ += (i ? "," : "") + std::to_string(shape[i]);
    header_ += "],\"data_offsets\":[" + std::to_string(data_.size()) + "," +
               std::to_string(data_.size() + bytes.size()) + "]}";
    data_ += bytes;
  }
  void AddF32(std::string_view name, std::span<const int64_t> shape, std::span<const float> values) {
    Add(name, "F32", shape, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }
  void AddBf16(std::string_view name, std::span<const int64_t> shape, std::span<const float> values) {
    std::vector<uint16_t> rounded;
    for (float value : values) rounded.push_back(F32ToBf16(value));
    Add(name, "BF16", shape, {reinterpret_cast<const char*>(rounded.data()), rounded.size() * 2});
  }
  std::string Finish() const { return SafetensorsBytes(header_.empty() ? "{}" : header_ + "}", data_); }

 private:
  std::string header_, data_;
};

}  // namespace quantd::testing
