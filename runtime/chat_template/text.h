// A string that knows, byte for byte, where it came from, and the Unicode rules of Python's str that templates rely on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text_piece.h"

namespace quantd::chat {

// Of a byte: the template's own text ("trusted"), a value's (data), or that of a role which is a plain word. A template
// may make a special token of its own text and a role, '<|' + message.role + '|>', never of data.
enum class Origin : uint8_t { kData, kTemplate, kRole };

class Text {
 public:
  Text() = default;
  Text(std::string_view bytes, Origin origin) { Append(bytes, origin); }
  Text(std::string_view bytes, bool trusted) { Append(bytes, trusted); }

  std::string_view view() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }

  void Append(std::string_view bytes, Origin origin);
  void Append(std::string_view bytes, bool trusted) { Append(bytes, trusted ? Origin::kTemplate : Origin::kData); }
  void Append(const Text& other) { Append(other, 0, other.size()); }
  void Append(const Text& other, size_t begin, size_t end);
  Text Sub(size_t begin, size_t end) const {
    Text part;
    part.Append(*this, begin, end);
    return part;
  }
  // Of the byte at `offset`; of the last byte, where `offset` is the end; the template's for an empty text.
  Origin OriginAt(size_t offset) const;
  // Every byte is the template's.
  bool AllTrusted() const { return runs_.empty() || (runs_.size() == 1 && runs_[0].origin == Origin::kTemplate); }
  // Stretches of one origin: copying the text takes a step for each, beside its bytes.
  size_t runs() const { return runs_.size(); }
  TextPieces Pieces() const;

 private:
  struct Run {
    size_t end;  // the first byte after the run
    Origin origin;
  };
  size_t RunAt(size_t offset) const;

  std::string bytes_;
  std::vector<Run> runs_;  // neighbours differ in origin
};

// One code point of UTF-8; a byte that is no UTF-8 counts as one of its own. `offset` must lie inside `s`.
struct CodePoint {
  char32_t value;
  size_t size;
  bool valid;
};
CodePoint DecodeAt(std::string_view s, size_t offset);
void AppendUtf8(char32_t c, std::string& out);
size_t CountCodePoints(std::string_view s);
// Where `part` begins in `s`, first at or after `from`, or last; npos. Linear in both, as std::string_view's own
// searches are not: a client may choose both texts.
size_t FindPart(std::string_view s, std::string_view part, size_t from = 0);
size_t FindLastPart(std::string_view s, std::string_view part);
// Byte offset of every code point, and of the end.
std::vector<size_t> CodePointOffsets(std::string_view s);

bool IsSpace(char32_t c);      // str.isspace
bool IsLineBreak(char32_t c);  // where str.splitlines cuts
bool IsPrintable(char32_t c);  // str.isprintable
bool IsUpper(char32_t c);
bool IsLower(char32_t c);
bool IsTitle(char32_t c);
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);  // str.isdecimal
bool IsDigit(char32_t c);    // str.isdigit: superscripts and circled digits, too
bool IsNumeric(char32_t c);  // str.isnumeric: fractions and numerals, too
bool IsWord(char32_t c);     // \w

enum class Case { kUpper, kLower, kTitle };
// Full case mapping: "ß" becomes "SS", a final capital sigma "ς". Every byte keeps the provenance of its source.
Text MapCase(const Text& text, Case c);
// First character to title case, the others to lower case.
Text Capitalize(const Text& text);

}  // namespace quantd::chat
