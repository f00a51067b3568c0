#include "base/escape.h"

#include <algorithm>

#include "base/utf8.h"

namespace quantd {
namespace {

bool IsControl(char32_t c) { return c < 0x20 || (c >= 0x7f && c < 0xa0); }

}  // namespace

std::string Escape(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Sequence next = DecodeUtf8(text, pos);
    const bool valid = next.state == Utf8State::kValid;
    const std::string_view bytes = text.substr(pos, valid ? static_cast<size_t>(next.size) : 1);
    pos += bytes.size();
    if (valid && !IsControl(next.code_point)) {
      out += bytes;
    } else if (bytes == "\n" || bytes == "\t") {
      out += bytes == "\n" ? "\\n" : "\\t";
    } else {
      for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      }
    }
  }
  return out;
}

std::string_view CutUtf8(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  size_t end = max_bytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

}  // namespace quantd
