#include "runtime/printable.h"

#include "runtime/utf8.h"

namespace quantd {
namespace {

bool IsControl(char32_t c) { return c < 0x20 || (c >= 0x7f && c < 0xa0); }

}  // namespace

std::string Printable(std::string_view text, size_t max_bytes) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  size_t pos = 0;
  while (pos < text.size()) {
    const Utf8Sequence next = DecodeUtf8(text, pos);
    const bool escaped = next.state != Utf8State::kValid || IsControl(next.code_point);
    const size_t size = next.state == Utf8State::kValid ? static_cast<size_t>(next.size) : 1;
    if (pos + size > max_bytes) return out + "...";
    for (const char c : text.substr(pos, size)) {
      const auto byte = static_cast<unsigned char>(c);
      if (escaped) {
        out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      } else {
        out += c;
      }
    }
    pos += size;
  }
  return out;
}

}  // namespace quantd
