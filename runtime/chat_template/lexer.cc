#include "runtime/chat_template/lexer.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <absl/strings/str_cat.h>

#include "base/status_macros.h"
#include "base/strings.h"

namespace quantd::chat {
namespace {

// Line breaks become "\n", and one at the end of the template is dropped.
std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out.push_back(source[i]);
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80); }
bool IsNameChar(char c) { return IsNameStart(c) || IsDigit(c); }

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (pos_ < source_.size()) QD_RETURN_IF_ERROR(Root());
    Emit(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  absl::Status Error(std::string_view message) const {
    return absl::InvalidArgumentError(absl::StrCat("chat template, line ", line_, ": ", ToAbsl(message)));
  }
  std::string_view Rest() const { return std::string_view(source_).substr(pos_); }
  bool At(std::string_view s) const { return Rest().substr(0, s.size()) == s; }
  void Emit(Token::Kind kind, std::string_view text) { tokens_.push_back({kind, line_, std::string(text)}); }

  void Advance(size_t n) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(pos_),
                                         source_.begin() + static_cast<ptrdiff_t>(pos_ + n), '\n'));
    if (n > 0) line_starting_ = source_[pos_ + n - 1] == '\n';
    pos_ += n;
  }
  // Bytes of whitespace at `from`.
  size_t SpaceAt(size_t from) const {
    size_t i = from;
    while (i < source_.size()) {
      CodePoint p = DecodeAt(source_, i);
      if (!p.valid || !IsSpace(p.value)) break;
      i += p.size;
    }
    return i - from;
  }
  static size_t TrailingSpace(std::string_view s) {
    size_t kept = 0;
    for (size_t i = 0; i < s.size();) {
      CodePoint p = DecodeAt(s, i);
      i += p.size;
      if (!p.valid || !IsSpace(p.value)) kept = i;
    }
    return s.size() - kept;
  }

  // The text before a tag: "-" strips all of its trailing whitespace; lstrip_blocks strips blanks between the start of
  // the line and the tag, unless the tag says "+" or is a variable.
  std::string_view StripBeforeTag(std::string_view text, char sign, bool variable) const {
    if (sign == '-') return text.substr(0, text.size() - TrailingSpace(text));
    if (sign == '+' || variable) return text;
    size_t line_start = text.rfind('\n') + 1;  // npos + 1 is 0
    if ((line_start > 0 || line_starting_) && TrailingSpace(text.substr(line_start)) == text.size() - line_start) {
      return text.substr(0, line_start);
    }
    return text;
  }
  char SignAt(size_t i) const {
    return i < source_.size() && (source_[i] == '-' || source_[i] == '+') ? source_[i] : ' ';
  }

  // Where a tag may end, "+%}" keeps the line break, "-%}" eats all whitespace, "%}" one line break (trim_blocks).
  // The bytes of the end, or 0. `end` is "%}" or "#}".
  size_t TagEndAt(size_t i, std::string_view end) const {
    std::string_view rest = std::string_view(source_).substr(i);
    char sign = SignAt(i);
    if (sign != ' ' && rest.substr(1, end.size()) == end) {
      return 1 + end.size() + (sign == '-' ? SpaceAt(i + 1 + end.size()) : 0);
    }
    if (rest.substr(0, end.size()) != end) return 0;
    return end.size() + (i + end.size() < source_.size() && source_[i + end.size()] == '\n' ? 1 : 0);
  }

  // jinja2 misses the end of a raw block or a comment only where something follows its beginning.
  absl::Status AtEnd(std::string_view message) const {
    return pos_ < source_.size() ? Error(message) : absl::OkStatus();
  }

  absl::Status Root() {
    size_t tag = pos_;
    while (tag < source_.size() && !(source_[tag] == '{' && tag + 1 < source_.size() &&
                                     (source_[tag + 1] == '{' || source_[tag + 1] == '%' || source_[tag + 1] == '#'))) {
      ++tag;
    }
    std::string_view text = std::string_view(source_).substr(pos_, tag - pos_);
    if (tag >= source_.size()) {
      Emit(Token::Kind::kText, text);
      Advance(text.size());
      return absl::OkStatus();
    }
    char kind = source_[tag + 1];
    char sign = SignAt(tag + 2);
    std::string_view kept = StripBeforeTag(text, sign, kind == '{');
    if (!kept.empty()) Emit(Token::Kind::kText, kept);
    Advance(text.size());
    size_t begin = 2 + (sign != ' ' ? 1 : 0);
    if (kind == '#') return Comment(begin);
    if (kind == '{') {
      Emit(Token::Kind::kVariableBegin, "{{");
      Advance(begin);
      return Expression(/*variable=*/true);
    }
    if (size_t raw = RawBegin(begin); raw > 0) return Raw(raw);
    Emit(Token::Kind::kBlockBegin, "{%");
    Advance(begin);
    return Expression(/*variable=*/false);
  }

  absl::Status Comment(size_t begin) {
    for (size_t i = pos_ + begin; i < source_.size(); ++i) {
      if (size_t n = TagEndAt(i, "#}"); n > 0) {
        Advance(i + n - pos_);
        return absl::OkStatus();
      }
    }
    Advance(begin);
    return AtEnd("missing end of comment tag");
  }

  // Bytes of "{% raw %}" at the position, or 0.
  size_t RawBegin(size_t begin) const {
    size_t i = pos_ + begin;
    i += SpaceAt(i);
    if (source_.compare(i, 3, "raw") != 0) return 0;
    i += 3;
    i += SpaceAt(i);
    if (source_.compare(i, 3, "-%}") == 0) return i + 3 + SpaceAt(i + 3) - pos_;
    return source_.compare(i, 2, "%}") == 0 ? i + 2 - pos_ : 0;
  }

  absl::Status Raw(size_t begin) {
    Advance(begin);
    for (size_t tag = source_.find("{%", pos_); tag != std::string::npos; tag = source_.find("{%", tag + 1)) {
      char sign = SignAt(tag + 2);
      size_t i = tag + 2 + (sign != ' ' ? 1 : 0);
      i += SpaceAt(i);
      if (source_.compare(i, 6, "endraw") != 0) continue;
      i += 6;
      i += SpaceAt(i);
      size_t n = TagEndAt(i, "%}");
      if (n == 0) continue;
      std::string_view kept = StripBeforeTag(std::string_view(source_).substr(pos_, tag - pos_), sign, false);
      if (!kept.empty()) Emit(Token::Kind::kText, kept);
      Advance(i + n - pos_);
      return absl::OkStatus();
    }
    return AtEnd("missing end of raw directive");
  }

  // Inside {{ }} or {% %}: tokens up to the end, which counts only outside brackets.
  absl::Status Expression(bool variable) {
    std::string brackets;
    while (pos_ < source_.size()) {
      if (brackets.empty()) {
        size_t n = 0;
        if (!variable) {
          n = TagEndAt(pos_, "%}");
        } else if (At("-}}")) {
          n = 3 + SpaceAt(pos_ + 3);
        } else if (At("}}")) {
          n = 2;
        }
        if (n > 0) {
          Emit(variable ? Token::Kind::kVariableEnd : Token::Kind::kBlockEnd, "end of tag");
          Advance(n);
          return absl::OkStatus();
        }
      }
      if (size_t n = SpaceAt(pos_); n > 0) {
        Advance(n);
        continue;
      }
      char c = source_[pos_];
      if (IsDigit(c)) {
        QD_RETURN_IF_ERROR(Number());
      } else if (IsNameStart(c)) {
        size_t end = pos_;
        while (end < source_.size() && IsNameChar(source_[end])) ++end;
        Emit(Token::Kind::kName, std::string_view(source_).substr(pos_, end - pos_));
        Advance(end - pos_);
      } else if (c == '\'' || c == '"') {
        QD_RETURN_IF_ERROR(String(c));
      } else {
        QD_RETURN_IF_ERROR(OperatorToken(brackets));
      }
    }
    return absl::OkStatus();  // the parser misses the end of the tag
  }

  absl::Status OperatorToken(std::string& brackets) {
    static constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                      "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (std::string_view op : kOperators) {
      if (!At(op)) continue;
      if (op == "(" || op == "[" || op == "{") brackets.push_back(op == "(" ? ')' : op == "[" ? ']' : '}');
      if (op == ")" || op == "]" || op == "}") {
        if (brackets.empty()) return Error(absl::StrCat("unexpected '", ToAbsl(op), "'").c_str());
        if (brackets.back() != op[0]) {
          return Error("unexpected '" + std::string(op) + "', expected '" + brackets.back() + "'");
        }
        brackets.pop_back();
      }
      Emit(Token::Kind::kOperator, op);
      Advance(op.size());
      return absl::OkStatus();
    }
    return Error(std::string("unexpected char '") + source_[pos_] + "'");
  }

  // Digits of `base` from `i`, single underscores between them allowed. Returns where they end.
  size_t Digits(size_t i, int base, std::string& out) const {
    auto is_digit = [&](char c) {
      if (base == 16) return IsDigit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
      return c >= '0' && c < '0' + base;
    };
    while (i < source_.size()) {
      if (is_digit(source_[i])) {
        out.push_back(source_[i++]);
      } else if (source_[i] == '_' && i + 1 < source_.size() && is_digit(source_[i + 1])) {
        ++i;
      } else {
        break;
      }
    }
    return i;
  }

  absl::Status Number() {
    std::string digits;
    size_t end = Digits(pos_, 10, digits);
    bool is_float = false;
    auto digit_at = [&](size_t i) { return i < source_.size() && IsDigit(source_[i]); };
    bool after_dot = pos_ > 0 && source_[pos_ - 1] == '.';
    if (!after_dot && end < source_.size() && source_[end] == '.' && digit_at(end + 1)) {
      digits.push_back('.');
      end = Digits(end + 1, 10, digits);
      is_float = true;
    }
    if (!after_dot && end < source_.size() && (source_[end] | 0x20) == 'e') {
      size_t i = end + 1;
      bool sign = i < source_.size() && (source_[i] == '+' || source_[i] == '-');
      if (digit_at(i + (sign ? 1 : 0))) {
        digits.push_back('e');
        if (sign) digits.push_back(source_[i++]);
        end = Digits(i, 10, digits);
        is_float = true;
      }
    }
    Token token{is_float ? Token::Kind::kFloat : Token::Kind::kInt, line_, ""};
    if (is_float) {
      auto result = std::from_chars(digits.data(), digits.data() + digits.size(), token.real);
      if (result.ec == std::errc::result_out_of_range) {
        // from_chars leaves the value alone; Python gives inf or 0.
        token.real = digits.find("e-") != std::string::npos ? 0.0 : HUGE_VAL;
      }
    } else {
      QD_RETURN_IF_ERROR(Integer(end, token.integer));
    }
    tokens_.push_back(std::move(token));
    Advance(end - pos_);
    return absl::OkStatus();
  }

  absl::Status Integer(size_t& end, Int& value) const {
    std::string digits;
    int base = 10;
    size_t begin = pos_;
    if (source_[pos_] == '0' && pos_ + 1 < source_.size()) {
      char prefix = static_cast<char>(source_[pos_ + 1] | 0x20);
      int other = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 10;
      size_t from = pos_ + 2;
      if (other != 10 && from < source_.size() && source_[from] == '_') ++from;
      std::string probe;
      if (other != 10 && Digits(from, other, probe) > from) {
        base = other;
        begin = from;
      }
    }
    if (base == 10 && source_[pos_] == '0') {  // zeros only: "012" is the numbers 0 and 12
      end = pos_;
      while (end < source_.size() &&
             (source_[end] == '0' || (source_[end] == '_' && end + 1 < source_.size() && source_[end + 1] == '0'))) {
        ++end;
      }
      value = 0;
      return absl::OkStatus();
    }
    end = Digits(begin, base, digits);
    value = 0;
    for (char c : digits) {
      int digit = IsDigit(c) ? c - '0' : (c | 0x20) - 'a' + 10;
      if (__builtin_mul_overflow(value, base, &value) || __builtin_add_overflow(value, digit, &value)) {
        return Error("an integer of more than 127 bits");
      }
    }
    return absl::OkStatus();
  }

  absl::Status String(char quote) {
    size_t end = pos_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return Error(std::string("unexpected char '") + quote + "'");
    std::string value;
    QD_RETURN_IF_ERROR(Unescape(std::string_view(source_).substr(pos_ + 1, end - pos_ - 1), value));
    Emit(Token::Kind::kString, value);
    Advance(end + 1 - pos_);
    return absl::OkStatus();
  }

  // Python's escapes; an unknown one stays as it is.
  absl::Status Unescape(std::string_view raw, std::string& out) const {
    for (size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] != '\\') {
        out.push_back(raw[i]);
        continue;
      }
      char c = raw[++i];  // a string token never ends in a lone backslash
      static constexpr std::string_view kNames = "abfnrtv\\'\"";
      static constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\'\"";
      if (size_t k = kNames.find(c); k != std::string_view::npos) {
        out.push_back(kValues[k]);
      } else if (c == '\n') {
        continue;
      } else if (c >= '0' && c <= '7') {
        int value = 0;
        size_t end = i;
        while (end < raw.size() && end < i + 3 && raw[end] >= '0' && raw[end] <= '7')
          value = value * 8 + (raw[end++] - '0');
        AppendUtf8(static_cast<char32_t>(value), out);
        i = end - 1;
      } else if (c == 'x' || c == 'u' || c == 'U') {
        size_t n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        uint32_t value = 0;
        std::string_view hex = raw.substr(i + 1, n);
        auto [ptr, ec] = std::from_chars(hex.data(), hex.data() + hex.size(), value, 16);
        if (ec != std::errc() || hex.size() != n || ptr != hex.data() + n) return Error("truncated escape in a string");
        if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
          return Error("an escape that is no Unicode character");
        AppendUtf8(value, out);
        i += n;
      } else if (c == 'N') {
        return absl::UnimplementedError(absl::StrCat("chat template, line ", line_, ": the string escape \\N"));
      } else {
        out.push_back('\\');
        out.push_back(c);
      }
    }
    return absl::OkStatus();
  }

  const std::string source_;
  size_t pos_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // the last match ended in a line break
  std::vector<Token> tokens_;
};

}  // namespace

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) { return Lexer(NormalizeNewlines(source)).Run(); }

}  // namespace quantd::chat
