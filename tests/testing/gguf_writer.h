// GGUF files in memory, for tests: well-formed ones, and through the raw parts whatever a test wants to see refused.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace quantd::testing {

template <typename T>
std::string LittleEndian(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}
inline std::string GgufString(std::string_view text) { return LittleEndian<uint64_t>(text.size()) + std::string(text); }

class GgufWriter {
 public:
  // Numbers of enum gguf_type.
  static constexpr uint32_t kU8 = 0, kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9, kU64 = 10;

  void AddRaw(std::string_view key, uint32_t type, std::string_view value) {
    ++keys;
    metadata_ += GgufString(key) + LittleEndian(type) + std::string(value);
  }
  void AddU32(std::string_view key, uint32_t value) { AddRaw(key, kU32, LittleEndian(value)); }
  void AddF32(std::string_view key, float value) { AddRaw(key, kF32, LittleEndian(value)); }
  void AddBool(std::string_view key, bool value) { AddRaw(key, kBool, LittleEndian<uint8_t>(value)); }
  void AddString(std::string_view key, std::string_view value) { AddRaw(key, kString, GgufString(value)); }
  void AddStrings(std::string_view key, const std::vector<std::string>& values) {
    std::string bytes = LittleEndian(kString) + LittleEndian<uint64_t>(values.size());
    for (const std::string& value : values) bytes += GgufString(value);
    AddRaw(key, kArray, bytes);
  }
  void AddI32s(std::string_view key, const std::vector<int32_t>& values) { AddNumbers(key, kI32, values); }
  void AddF32s(std::string_view key, const std::vector<float>& values) { AddNumbers(key, kF32, values); }

  // `dims` innermost first, as in the file; `type` a number of enum ggml_type; `bytes` the tensor's blocks.
  void AddTensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type, std::string_view bytes) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    AddTensorEntry(name, dims, type, data_.size());
    data_ += bytes;
  }
  // A row of the table alone.
  void AddTensorEntry(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
    ++tensors;
    table_ += GgufString(name) + LittleEndian(static_cast<uint32_t>(dims.size()));
    for (uint64_t dim : dims) table_ += LittleEndian(dim);
    table_ += LittleEndian(type) + LittleEndian(offset);
  }

  std::string Finish() const {
    std::string file = magic + LittleEndian(version) + LittleEndian(tensors) + LittleEndian(keys) + metadata_ + table_;
    file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + data_;
  }

  // What Finish writes; a test may lie.
  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t tensors = 0, keys = 0;
  size_t alignment = 32;

 private:
  template <typename T>
  void AddNumbers(std::string_view key, uint32_t type, const std::vector<T>& values) {
    std::string bytes = LittleEndian(type) + LittleEndian<uint64_t>(values.size());
    for (T value : values) bytes += LittleEndian(value);
    AddRaw(key, kArray, bytes);
  }
  std::string metadata_, table_, data_;
};

// Metadata of a llama: hidden 64, two heads of 32 and one KV head, feed-forward 96, one layer, vocabulary 4, no
// tokenizer.
inline void AddTinyLlamaMetadata(GgufWriter& writer, float epsilon = 1e-5f) {
  writer.AddString("general.architecture", "llama");
  writer.AddU32("llama.block_count", 1);
  writer.AddU32("llama.context_length", 128);
  writer.AddU32("llama.embedding_length", 64);
  writer.AddU32("llama.feed_forward_length", 96);
  writer.AddU32("llama.attention.head_count", 2);
  writer.AddU32("llama.attention.head_count_kv", 1);
  writer.AddF32("llama.attention.layer_norm_rms_epsilon", epsilon);
  writer.AddU32("llama.vocab_size", 4);
}

}  // namespace quantd::testing
