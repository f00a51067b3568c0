#include "runtime/unicode_text.h"

#include <algorithm>
#include <array>
#include <span>

#include <utf8proc.h>

#include "runtime/utf8.h"

namespace quantd {
namespace {

struct Character {
  char32_t code;
  int combining_class;
  uint32_t source;
};

int CombiningClass(char32_t c) { return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class; }

// Puts the marks of a run in canonical order. Their places stay as they were.
void Order(std::span<Character> run) {
  std::vector<uint32_t> sources;
  for (const Character& c : run) sources.push_back(c.source);
  std::ranges::stable_sort(run, {}, &Character::combining_class);
  for (size_t i = 0; i < run.size(); ++i) run[i].source = sources[i];
}

// Decomposed and in canonical order.
std::vector<Character> Decompose(const MappedText& in, bool compatibility) {
  const int options = UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0);
  std::vector<Character> out;
  out.reserve(in.text.size());
  std::array<utf8proc_int32_t, 32> buffer;  // the longest decomposition has 18
  for (size_t pos = 0; pos < in.text.size();) {
    const Utf8Sequence c = DecodeUtf8(in.text, pos);
    int last_class = 0;
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code_point), buffer.data(), buffer.size(),
                                static_cast<utf8proc_option_t>(options), &last_class);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(buffer.size())) {
      out.push_back({c.code_point, 0, in.source[pos]});
    } else {
      for (utf8proc_ssize_t i = 0; i < count; ++i) {
        const auto code = static_cast<char32_t>(buffer[i]);
        out.push_back({code, CombiningClass(code), in.source[pos]});
      }
    }
    pos += c.size;
  }
  for (size_t begin = 0; begin < out.size();) {
    size_t end = begin;
    while (end < out.size() && out[end].combining_class != 0) ++end;
    if (end - begin > 1) Order(std::span(out).subspan(begin, end - begin));
    begin = std::max(end, begin + 1);
  }
  return out;
}

// The canonical composite of two characters, 0 where there is none.
char32_t Composite(char32_t first, char32_t second) {
  if (second < 0x300) return 0;  // nothing below composes with what is before it
  std::array<utf8proc_int32_t, 2> pair = {static_cast<utf8proc_int32_t>(first), static_cast<utf8proc_int32_t>(second)};
  constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  return utf8proc_normalize_utf32(pair.data(), 2, kOptions) == 1 ? static_cast<char32_t>(pair[0]) : 0;
}

// The Unicode standard, 3.11, canonical composition algorithm.
void Compose(std::vector<Character>& text) {
  size_t kept = 0, starter = 0;
  bool has_starter = false;
  for (const Character c : text) {
    if (has_starter) {
      const bool adjacent = kept == starter + 1;
      const bool blocked = !adjacent && text[kept - 1].combining_class >= c.combining_class;
      const char32_t composite = blocked ? 0 : Composite(text[starter].code, c.code);
      if (composite != 0) {
        text[starter].code = composite;
        continue;
      }
    }
    if (c.combining_class == 0) {
      starter = kept;
      has_starter = true;
    }
    text[kept++] = c;
  }
  text.resize(kept);
}

bool IsAscii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

void Append(char32_t c, uint32_t source, MappedText& out) {
  std::string bytes;
  AppendUtf8(c, bytes);
  out.Append(bytes, source);
}

}  // namespace

void AppendUtf8(char32_t c, std::string& out) {
  std::array<utf8proc_uint8_t, 4> bytes;
  const utf8proc_ssize_t size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes.data());
  out.append(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(size));
}

MappedText ToForm(const MappedText& in, UnicodeForm form) {
  if (IsAscii(in.text)) return in;
  const bool compatibility = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  std::vector<Character> characters = Decompose(in, compatibility);
  if (form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc) Compose(characters);
  MappedText out = in.Next();
  for (const Character& c : characters) Append(c.code, c.source, out);
  return out;
}

MappedText ToLowercase(const MappedText& in) {
  MappedText out = in.Next();
  for (size_t pos = 0; pos < in.text.size();) {
    const Utf8Sequence c = DecodeUtf8(in.text, pos);
    if (c.code_point == 0x130) {  // the one character whose lower case is two
      out.Append("i\xCC\x87", in.source[pos]);
    } else {
      Append(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.code_point))), in.source[pos], out);
    }
    pos += c.size;
  }
  return out;
}

MappedText WithoutMarks(const MappedText& in) {
  MappedText out = in.Next();
  for (size_t pos = 0; pos < in.text.size();) {
    const Utf8Sequence c = DecodeUtf8(in.text, pos);
    const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c.code_point));
    const bool is_mark =
        category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME;
    if (!is_mark) out.AppendPart(in, pos, pos + c.size);
    pos += c.size;
  }
  return out;
}

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsOneCharacter(std::string_view text) {
  if (text.empty()) return false;
  const Utf8Sequence c = DecodeUtf8(text, 0);
  return c.state == Utf8State::kValid && static_cast<size_t>(c.size) == text.size();
}

size_t GraphemeEnd(std::string_view text, size_t begin) {
  Utf8Sequence previous = DecodeUtf8(text, begin);
  size_t pos = begin + previous.size;
  utf8proc_int32_t state = 0;
  while (pos < text.size()) {
    const Utf8Sequence next = DecodeUtf8(text, pos);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(previous.code_point),
                                         static_cast<utf8proc_int32_t>(next.code_point), &state)) {
      break;
    }
    previous = next;
    pos += next.size;
  }
  return pos;
}

}  // namespace quantd
