// Unicode's normal forms, case and marks, on texts whose bytes remember where they come from (utf8proc's tables).
#pragma once

#include "runtime/mapped_text.h"

namespace quantd {

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

// A character of the result has the place of the first character that it is made of.
MappedText ToForm(const MappedText& in, UnicodeForm form);
// Character by character, as Rust's char::to_lowercase.
MappedText ToLowercase(const MappedText& in);
// Without characters of the category Mark.
MappedText WithoutMarks(const MappedText& in);

// Unicode's White_Space.
bool IsWhiteSpace(char32_t c);

// Whether a text is one character of valid UTF-8.
bool IsOneCharacter(std::string_view text);

// The end of the extended grapheme cluster that begins at `begin` of a valid UTF-8 text; begin < text.size().
size_t GraphemeEnd(std::string_view text, size_t begin);

// Appends `c` as UTF-8.
void AppendUtf8(char32_t c, std::string& out);

}  // namespace quantd
