#include "runtime/printable.h"

#include "runtime/utf8.h"

namespace quantd {

std::string Printable(std::string_view text, size_t max_bytes) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  size_t pos = 0;
  while (pos < text.size()) {
    const Utf8Sequence next = DecodeUtf8(text, pos);
    const auto byte = static_cast<unsigned char>(text[pos]);
    const bool escaped = next.state != Utf8State::kValid || byte < 0x20 || byte == 0x7f;
    const size_t size = escaped ? 1 : static_cast<size_t>(next.size);
    if (pos + size > max_bytes) return out + "...";
    if (escaped) {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      out += text.substr(pos, size);
    }
    pos += size;
  }
  return out;
}

}  // namespace quantd
