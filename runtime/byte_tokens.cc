#include "runtime/byte_tokens.h"

#include <algorithm>

namespace quantd {
namespace {

constexpr std::string_view kHex = "0123456789ABCDEF";

}  // namespace

std::string ByteTokenText(uint8_t byte) { return std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + '>'; }

std::optional<uint8_t> ByteOfToken(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return std::nullopt;
  const size_t high = kHex.find(text[3]);
  const size_t low = kHex.find(text[4]);
  if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
  return static_cast<uint8_t>(high << 4 | low);
}

std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    const size_t found = std::min(text.find(from, pos), text.size());
    out += text.substr(pos, found - pos);
    if (found == text.size()) break;
    out += to;
    pos = found + from.size();
  }
  return out;
}

}  // namespace quantd
