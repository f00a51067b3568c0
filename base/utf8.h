// UTF-8, one sequence at a time, by the table of well-formed sequences of the Unicode standard (3.9, table 3-7).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace quantd {

enum class Utf8State {
  kValid,    // `size` bytes are one character
  kInvalid,  // `size` bytes are a maximal subpart of an ill-formed sequence: Python's errors="replace" makes one U+FFFD
             // of it
  kIncomplete,  // the text ends within a sequence that could still become valid; `size` bytes are what is there
};
struct Utf8Sequence {
  Utf8State state;
  int size;             // 1 to 4
  char32_t code_point;  // where kValid
};

// What starts at `text[pos]`; pos < text.size().
inline Utf8Sequence DecodeUtf8(std::string_view text, size_t pos) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[pos + i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {Utf8State::kValid, 1, lead};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8State::kInvalid, 1, 0};
  const int size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range depends on the lead: no overlong forms, no surrogates, nothing above U+10FFFF.
  uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  char32_t code_point = lead & (0xFF >> (size + 1));
  for (int i = 1; i < size; ++i) {
    if (pos + i >= text.size()) return {Utf8State::kIncomplete, i, 0};
    if (byte(i) < low || byte(i) > high) return {Utf8State::kInvalid, i, 0};
    code_point = (code_point << 6) | (byte(i) & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8State::kValid, size, code_point};
}

// The offset of the first byte that is no UTF-8; nothing where the text is valid.
inline std::optional<size_t> FindInvalidUtf8(std::string_view text) {
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Sequence sequence = DecodeUtf8(text, pos);
    if (sequence.state != Utf8State::kValid) return pos;
    pos += sequence.size;
  }
  return std::nullopt;
}

}  // namespace quantd
