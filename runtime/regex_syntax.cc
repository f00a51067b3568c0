#include "runtime/regex_syntax.h"

#include <array>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

// What Oniguruma's classes are in Unicode, as members of a class.
constexpr std::string_view kSpace = "\\p{White_Space}";
constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
// A \w that stands alone is looked up in Oniguruma's table of Latin-1, which has these for words too; one in a class
// not.
constexpr std::string_view kLoneWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";
constexpr std::string_view kHex = "0-9a-fA-F";

// Properties that PCRE2 knows by another name. Its script names mean Script_Extensions, where Oniguruma means Script.
constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kCategories = {{{"Letter", "L"},
                                                                                       {"Mark", "M"},
                                                                                       {"Number", "N"},
                                                                                       {"Punctuation", "P"},
                                                                                       {"Symbol", "S"},
                                                                                       {"Separator", "Z"},
                                                                                       {"Other", "C"},
                                                                                       {"Space", "White_Space"}}};
constexpr std::array<std::string_view, 26> kScripts = {
    "Han",     "Hiragana", "Katakana", "Hangul",  "Latin",    "Greek",      "Cyrillic",  "Arabic",   "Hebrew",
    "Thai",    "Lao",      "Tibetan",  "Myanmar", "Khmer",    "Georgian",   "Armenian",  "Ethiopic", "Bopomofo",
    "Bengali", "Tamil",    "Telugu",   "Kannada", "Gujarati", "Devanagari", "Malayalam", "Sinhala"};
constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kPosixClasses = {
    {{"alpha", "\\p{Alphabetic}"},
     {"digit", "\\p{Nd}"},
     {"alnum", "\\p{Alphabetic}\\p{Nd}"},
     {"space", kSpace},
     {"upper", "\\p{Uppercase}"},
     {"lower", "\\p{Lowercase}"},
     {"punct", "\\p{P}\\p{S}"},
     {"cntrl", "\\p{Cc}"},
     {"xdigit", kHex},
     {"word", kWord}}};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsHexDigit(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

class Translator {
 public:
  explicit Translator(std::string_view regex) : in_(regex) {}

  absl::StatusOr<std::string> Run() {
    while (pos_ < in_.size()) QD_RETURN_IF_ERROR(Item());
    return std::move(out_);
  }

 private:
  absl::Status NotBuilt(size_t at, std::string_view what) const {
    return absl::UnimplementedError(
        absl::StrCat("'", Printable(in_.substr(at, 12)), "' at byte ", at, ": ", ToAbsl(what), " is not supported"));
  }
  std::string_view Rest() const { return in_.substr(pos_); }

  absl::Status Item() {
    const char c = in_[pos_];
    switch (c) {
      case '\\':
        atom_ = out_.size();
        return Escape(/*in_class=*/false);
      case '[':
        atom_ = out_.size();
        return Class();
      case '(':
        return Open();
      case ')':
        ++pos_;
        out_ += ')';
        if (groups_.empty()) return absl::OkStatus();  // PCRE2 says what is wrong
        atom_ = groups_.back();
        groups_.pop_back();
        return absl::OkStatus();
      case '*':
      case '+':
      case '?':
        ++pos_;
        out_ += c;
        if (pos_ < in_.size() && (in_[pos_] == '+' || in_[pos_] == '?')) out_ += in_[pos_++];
        return absl::OkStatus();
      case '{':
        if (Interval()) return absl::OkStatus();
        break;
      default:
        break;
    }
    if (c != '^' && c != '$' && c != '|') atom_ = out_.size();
    if (c == '{') out_ += '\\';
    out_ += c;
    ++pos_;
    return absl::OkStatus();
  }

  // {n}, {n,}, {,m} or {n,m}: in Ruby's syntax a sign behind it is another quantifier.
  bool Interval() {
    size_t end = pos_ + 1;
    const auto digits = [&] {
      const size_t begin = end;
      while (end < in_.size() && IsDigit(in_[end])) ++end;
      return in_.substr(begin, end - begin);
    };
    const std::string_view least = digits();
    const bool has_comma = end < in_.size() && in_[end] == ',';
    if (has_comma) ++end;
    const std::string_view most = has_comma ? digits() : std::string_view();
    if (end >= in_.size() || in_[end] != '}' || (least.empty() && most.empty())) return false;
    pos_ = end + 1;
    const std::string interval =
        absl::StrCat("{", least.empty() ? "0" : ToAbsl(least), has_comma ? "," : "", ToAbsl(most), "}");
    const char sign = pos_ < in_.size() ? in_[pos_] : '\0';
    if (sign == '+' || (sign == '?' && !has_comma)) {
      out_.insert(atom_, "(?:");
      out_ += interval + ")";
      return true;
    }
    out_ += interval;
    if (sign == '?') {
      out_ += sign;
      ++pos_;
    }
    return true;
  }

  absl::Status Open() {
    const size_t at = pos_;
    if (Rest().starts_with("(*")) return NotBuilt(at, "a verb");
    if (Rest().starts_with("(?#")) {
      pos_ = std::min(in_.find(')', pos_), in_.size() - 1) + 1;
      return absl::OkStatus();
    }
    groups_.push_back(out_.size());
    for (const std::string_view plain : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"}) {
      if (!Rest().starts_with(plain)) continue;
      out_ += plain;
      pos_ += plain.size();
      return absl::OkStatus();
    }
    if (!Rest().starts_with("(?")) {
      out_ += '(';
      ++pos_;
      return absl::OkStatus();
    }
    if (Rest().starts_with("(?<") && pos_ + 3 < in_.size() && IsLetter(in_[pos_ + 3])) {
      const size_t end = in_.find('>', pos_);
      if (end == in_.npos) return NotBuilt(at, "a group without end");
      out_ += '(';  // no pattern here can refer to it
      pos_ = end + 1;
      return absl::OkStatus();
    }
    return Flags(at);
  }

  // (?i:…), or (?i) where a pattern or a group begins: elsewhere the two syntaxes differ in what it reaches.
  absl::Status Flags(size_t at) {
    std::string flags = "(?";
    for (pos_ += 2; pos_ < in_.size() && in_[pos_] != ':' && in_[pos_] != ')'; ++pos_) {
      const char flag = in_[pos_];
      if (flag == 'm') {
        flags += 's';  // Ruby's m: a dot is a newline too
      } else if (flag == 'i' || flag == 'x' || flag == '-') {
        flags += flag;
      } else {
        return NotBuilt(at, "this kind of group");
      }
    }
    if (pos_ == in_.size()) return NotBuilt(at, "a group without end");
    if (in_[pos_] == ')') {
      groups_.pop_back();
      const bool first = at == 0 || (at >= 3 && in_.substr(at - 3, 3) == "(?:");
      if (!first) return NotBuilt(at, "flags within a group");
    }
    out_ += flags + in_[pos_++];
    return absl::OkStatus();
  }

  absl::Status Escape(bool in_class) {
    const size_t at = pos_;
    if (pos_ + 1 == in_.size()) return NotBuilt(at, "a backslash at the end");
    const char c = in_[pos_ + 1];
    pos_ += 2;
    const auto members = [&](std::string_view positive, bool negated) {
      if (in_class && !negated) {
        out_ += positive;
      } else {
        out_ += absl::StrCat(negated ? "[^" : "[", ToAbsl(positive), "]");
      }
      return absl::OkStatus();
    };
    switch (c) {
      case 's':
        out_ += kSpace;
        return absl::OkStatus();
      case 'S':
        out_ += "\\P{White_Space}";
        return absl::OkStatus();
      case 'd':
      case 'D':
        out_ += c == 'd' ? "\\p{Nd}" : "\\P{Nd}";
        return absl::OkStatus();
      case 'w':
        return members(in_class ? kWord : kLoneWord, false);
      case 'h':
        return members(kHex, false);
      case 'W':
      case 'H':
        if (in_class) return NotBuilt(at, "a complement within a class");
        return members(c == 'W' ? kLoneWord : kHex, true);
      case 'p':
      case 'P':
        return Property(at, c);
      case 'v':
        out_ += "\\x{0b}";
        return absl::OkStatus();
      case 'n':
      case 't':
      case 'r':
      case 'f':
      case 'a':
      case 'e':
        out_ += absl::StrCat("\\", std::string(1, c));
        return absl::OkStatus();
      case 'x':
      case 'u':
        return Code(at, c);
      case 'b':
      case 'B':
        if (in_class) {
          if (c == 'B') break;
          out_ += "\\x{08}";
          return absl::OkStatus();
        }
        WordBorder(c == 'B');
        return absl::OkStatus();
      case 'A':
      case 'z':
      case 'Z':
      case 'R':
      case 'X':
      case 'N':
        if (in_class) break;
        out_ += absl::StrCat("\\", std::string(1, c));
        return absl::OkStatus();
      case 'O':
        if (in_class) break;
        out_ += "(?s:.)";
        return absl::OkStatus();
      case '0':
        if (pos_ < in_.size() && IsDigit(in_[pos_])) break;
        out_ += "\\x{00}";
        return absl::OkStatus();
      case 'K':
      case 'G':
      case 'g':
      case 'k':
      case 'y':
      case 'Y':
      case 'c':
      case 'C':
      case 'M':
        return NotBuilt(at, "this escape");
      default:
        if (IsDigit(c)) return NotBuilt(at, "a reference back");
        if (!IsLetter(c) && static_cast<unsigned char>(c) < 0x80) out_ += '\\';
        out_ += c;  // itself
        return absl::OkStatus();
    }
    return NotBuilt(at, "this escape here");
  }

  void WordBorder(bool negated) {
    const std::string word = absl::StrCat("[", ToAbsl(kLoneWord), "]");
    const char* inner = negated ? "=" : "!";
    const char* outer = negated ? "!" : "=";
    out_ += absl::StrCat("(?:(?<=", word, ")(?", inner, word, ")|(?<!", word, ")(?", outer, word, "))");
  }

  absl::Status Property(size_t at, char kind) {
    const size_t end = in_.find('}', pos_);
    if (pos_ >= in_.size() || in_[pos_] != '{' || end == in_.npos) return NotBuilt(at, "a property without braces");
    std::string_view name = in_.substr(pos_ + 1, end - pos_ - 1);
    pos_ = end + 1;
    bool negated = kind == 'P';
    if (name.starts_with('^')) {
      name.remove_prefix(1);
      negated = !negated;
    }
    for (const char c : name) {
      if (!IsLetter(c) && !IsDigit(c) && c != '_') return NotBuilt(at, "this property");
    }
    std::string pcre2(name);
    for (const auto& [theirs, ours] : kCategories) {
      if (name == theirs) pcre2 = ours;
    }
    for (const std::string_view script : kScripts) {
      if (name == script) pcre2 = absl::StrCat("sc:", ToAbsl(script));
    }
    out_ += absl::StrCat(negated ? "\\P{" : "\\p{", pcre2, "}");
    return absl::OkStatus();
  }

  // \xHH, \x{H…} or \uHHHH.
  absl::Status Code(size_t at, char kind) {
    size_t end = pos_;
    const bool braced = kind == 'x' && end < in_.size() && in_[end] == '{';
    if (braced) ++end;
    const size_t begin = end;
    const size_t most = braced ? 8 : kind == 'x' ? 2 : 4;
    while (end < in_.size() && end - begin < most && IsHexDigit(in_[end])) ++end;
    const std::string digits(in_.substr(begin, end - begin));
    if (braced) {
      if (end == in_.size() || in_[end] != '}') return NotBuilt(at, "this escape");
      ++end;
    }
    const bool is_a_byte = kind == 'x' && !braced && digits > "7f" && digits.size() == 2;  // of a sequence
    if (digits.empty() || (kind == 'u' && digits.size() != 4) || is_a_byte) return NotBuilt(at, "this escape");
    out_ += absl::StrCat("\\x{", digits, "}");
    pos_ = end;
    return absl::OkStatus();
  }

  absl::Status Class() {
    const size_t at = pos_++;
    out_ += '[';
    if (pos_ < in_.size() && in_[pos_] == '^') {
      out_ += '^';
      ++pos_;
    }
    for (bool first = true; pos_ < in_.size(); first = false) {
      const char c = in_[pos_];
      if (c == ']' && !first) {
        out_ += ']';
        ++pos_;
        return absl::OkStatus();
      }
      if (c == '\\') {
        QD_RETURN_IF_ERROR(Escape(/*in_class=*/true));
      } else if (Rest().starts_with("&&")) {
        return NotBuilt(pos_, "an intersection of classes");
      } else if (Rest().starts_with("[:")) {
        QD_RETURN_IF_ERROR(PosixClass());
      } else if (c == '[') {
        return NotBuilt(pos_, "a class within a class");
      } else {
        if (c == ']') out_ += '\\';
        out_ += c;
        ++pos_;
      }
    }
    return NotBuilt(at, "a class without end");
  }

  absl::Status PosixClass() {
    for (const auto& [name, members] : kPosixClasses) {
      const std::string whole = absl::StrCat("[:", ToAbsl(name), ":]");
      if (!Rest().starts_with(whole)) continue;
      out_ += members;
      pos_ += whole.size();
      return absl::OkStatus();
    }
    return NotBuilt(pos_, "this class");
  }

  const std::string_view in_;
  size_t pos_ = 0;
  std::string out_;
  size_t atom_ = 0;             // where what a quantifier would repeat begins in `out_`
  std::vector<size_t> groups_;  // where the open groups begin in `out_`
};

}  // namespace

absl::StatusOr<std::string> OnigurumaToPcre2(std::string_view regex) { return Translator(regex).Run(); }

std::string QuoteForRegex(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      constexpr std::string_view kDigits = "0123456789abcdef";
      out += absl::StrCat("\\x{", std::string(1, kDigits[byte >> 4]), std::string(1, kDigits[byte & 15]), "}");
      continue;
    }
    if (byte < 0x80 && !IsLetter(c) && !IsDigit(c)) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace quantd
