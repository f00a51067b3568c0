#include "tests/testing/golden_tensors.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/check.h"

namespace quantd::testing {

std::map<std::string, GoldenTensor> ReadGoldenTensors(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  QD_CHECK(file.good());
  std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  uint64_t header_bytes = 0;
  QD_CHECK(bytes.size() >= 8);
  std::memcpy(&header_bytes, bytes.data(), 8);
  nlohmann::json header = nlohmann::json::parse(bytes.substr(8, header_bytes), nullptr, false);
  QD_CHECK(header.is_object());
  std::map<std::string, GoldenTensor> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    GoldenTensor tensor;
    tensor.shape = entry["shape"].get<std::vector<int64_t>>();
    const size_t begin = entry["data_offsets"][0].get<size_t>(), end = entry["data_offsets"][1].get<size_t>();
    const char* data = bytes.data() + 8 + header_bytes + begin;
    QD_CHECK(8 + header_bytes + end <= bytes.size());
    if (entry["dtype"] == "F32") {
      tensor.f32.resize((end - begin) / 4);
      std::memcpy(tensor.f32.data(), data, end - begin);
    } else if (entry["dtype"] == "U8") {
      for (size_t i = begin; i < end; ++i) tensor.i32.push_back(static_cast<uint8_t>(data[i - begin]));
    } else if (entry["dtype"] == "I8") {
      for (size_t i = begin; i < end; ++i) tensor.i32.push_back(static_cast<int8_t>(data[i - begin]));
    } else {
      QD_CHECK(entry["dtype"] == "I32");
      tensor.i32.resize((end - begin) / 4);
      std::memcpy(tensor.i32.data(), data, end - begin);
    }
    tensors.emplace(name, std::move(tensor));
  }
  return tensors;
}

}  // namespace quantd::testing
