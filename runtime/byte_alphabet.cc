#include "runtime/byte_alphabet.h"

#include <array>

#include "runtime/utf8.h"

namespace quantd {
namespace {

constexpr int kAlphabetEnd = 0x144;  // one past the last character: 256 + 68 bytes that are not printable

constexpr bool IsPrintable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

// By code point: the byte, or -1.
constexpr std::array<int16_t, kAlphabetEnd> MakeTable() {
  std::array<int16_t, kAlphabetEnd> table{};
  for (int16_t& byte : table) byte = -1;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) table[IsPrintable(byte) ? byte : next++] = static_cast<int16_t>(byte);
  return table;
}
constexpr auto kByteOf = MakeTable();
static_assert(kByteOf[0x120] == ' ' && kByteOf[0x143] == 0xAD);

// By byte: its character in UTF-8, one or two bytes.
struct Encoded {
  char bytes[2];
  uint8_t size;
};
constexpr std::array<Encoded, 256> MakeCharacters() {
  std::array<Encoded, 256> characters{};
  for (int c = 0; c < kAlphabetEnd; ++c) {
    if (kByteOf[c] < 0) continue;
    Encoded& encoded = characters[kByteOf[c]];
    if (c < 0x80) {
      encoded = {{static_cast<char>(c), 0}, 1};
    } else {
      encoded = {{static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))}, 2};
    }
  }
  return characters;
}
constexpr auto kCharacterOf = MakeCharacters();

}  // namespace

std::string_view ByteAlphabetCharacter(uint8_t byte) { return {kCharacterOf[byte].bytes, kCharacterOf[byte].size}; }

std::optional<std::string> DecodeByteAlphabet(std::string_view token) {
  std::string bytes;
  for (size_t pos = 0; pos < token.size();) {
    const Utf8Sequence c = DecodeUtf8(token, pos);
    if (c.state != Utf8State::kValid || c.code_point >= kAlphabetEnd || kByteOf[c.code_point] < 0) return std::nullopt;
    bytes += static_cast<char>(kByteOf[c.code_point]);
    pos += c.size;
  }
  return bytes;
}

}  // namespace quantd
