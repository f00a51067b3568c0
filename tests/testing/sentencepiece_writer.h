// SentencePiece models in memory, for tests: the fields of sentencepiece_model.proto by their numbers.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

namespace quantd::testing {

inline std::string ProtoVarint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
inline std::string ProtoBytes(int field, const std::string& bytes) {
  return ProtoVarint(field << 3 | 2) + ProtoVarint(bytes.size()) + bytes;
}
inline std::string ProtoNumber(int field, uint64_t value) { return ProtoVarint(field << 3) + ProtoVarint(value); }

// A piece of ModelProto; `type` 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
inline std::string SentencePiece(const std::string& text, float score, int type) {
  std::string raw(4, '\0');
  std::memcpy(raw.data(), &score, 4);
  return ProtoBytes(1, ProtoBytes(1, text) + ProtoVarint(2 << 3 | 5) + raw + ProtoNumber(3, type));
}
// Trainer and normalizer of a Llama: BPE, white space kept.
inline std::string LlamaSentencePieceSpec() {
  return ProtoBytes(2, ProtoNumber(3, 2)) + ProtoBytes(3, ProtoNumber(4, 0));
}

}  // namespace quantd::testing
