// Python's printf-style and brace formatting, and strftime.
#include <algorithm>
#include <cmath>
#include <ctime>

#include "base/strings.h"
#include "runtime/chat_template/builtins.h"
#include "runtime/chat_template/run.h"

namespace quantd::chat {
namespace {

constexpr Int kMaxWidth = 1000;

// One conversion of a printf-style format: %[(key)][flags][width][.precision]type
struct Conversion {
  bool left = false, zero = false, plus = false, space = false, alternate = false;
  Int width = 0, precision = -1;
  char type = 0;
};

Text Pad(Run& run, Text text, const Conversion& c) {
  if (c.width == 0 || !run.ChargeScan(text.size())) return text;
  Int pad = c.width - static_cast<Int>(CountCodePoints(text.view()));
  if (pad <= 0) return text;
  Text spaces = Repeat(run, Text(" ", true), pad);
  if (c.left) return text.Append(spaces), text;
  spaces.Append(text);
  return spaces;
}

// A number's text with its sign; zeros fill between the sign and the digits.
Text PadNumber(Run& run, std::string digits, bool trusted, const Conversion& c) {
  std::string sign;
  if (digits[0] == '-') {
    sign = "-";
    digits.erase(0, 1);
  } else if (c.plus || c.space) {
    sign = c.plus ? "+" : " ";
  }
  auto size = static_cast<Int>(sign.size() + digits.size());
  if (c.zero && !c.left && size < c.width) digits.insert(0, static_cast<size_t>(c.width - size), '0');
  return Pad(run, Text(sign + digits, trusted), c);
}

std::string InBase(Int value, int base, bool upper) {
  const char* alphabet = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string digits;
  bool negative = value < 0;
  auto rest = negative ? -static_cast<unsigned __int128>(value) : static_cast<unsigned __int128>(value);
  do {
    digits.push_back(alphabet[static_cast<size_t>(rest % static_cast<unsigned>(base))]);
    rest /= static_cast<unsigned>(base);
  } while (rest != 0);
  if (negative) digits.push_back('-');
  std::reverse(digits.begin(), digits.end());
  return digits;
}

Text Integer(Run& run, const Value& value, const Conversion& c) {
  Int i = 0;
  if (auto* d = value.As<double>(); d && (c.type == 'd' || c.type == 'i' || c.type == 'u') && std::fabs(*d) < 1e37) {
    i = static_cast<Int>(*d);
  } else if (!value.AsInt(i)) {
    run.Fail(
        absl::StrCat("%", std::string(1, c.type), " format: a real number is required, not ", ToAbsl(TypeName(value))));
    return {};
  }
  int base = c.type == 'x' || c.type == 'X' ? 16 : c.type == 'o' ? 8 : 10;
  std::string digits = InBase(i, base, c.type == 'X');
  size_t sign = digits[0] == '-' ? 1 : 0;
  if (static_cast<Int>(digits.size() - sign) < c.precision) {
    digits.insert(sign, static_cast<size_t>(c.precision) - (digits.size() - sign), '0');
  }
  if (c.alternate && base != 10) digits.insert(sign, base == 8 ? "0o" : c.type == 'X' ? "0X" : "0x");
  return PadNumber(run, digits, value.trusted, c);
}

Text Real(Run& run, const Value& value, const Conversion& c) {
  double d = 0;
  if (!value.AsDouble(d)) {
    run.Fail(absl::StrCat("must be real number, not ", ToAbsl(TypeName(value))));
    return {};
  }
  std::string format = std::string(c.alternate ? "%#" : "%") + ".*" + c.type;
  char buffer[1500];  // the longest double has 309 digits before the point, and the precision is bounded
  std::snprintf(buffer, sizeof(buffer), format.c_str(), static_cast<int>(c.precision < 0 ? 6 : c.precision), d);
  return PadNumber(run, buffer, value.trusted, c);
}

Text Convert(Run& run, const Value& value, const Conversion& c) {
  switch (c.type) {
    case 's':
    case 'r':
    case 'a': {
      if (c.type == 'a') break;
      Text text = c.type == 's' ? ToStr(run, value) : ToRepr(run, value);
      if (c.precision >= 0 && run.ChargeMap(text.size())) {
        std::vector<size_t> at = CodePointOffsets(text.view());
        if (c.precision < static_cast<Int>(at.size()) - 1) text = text.Sub(0, at[static_cast<size_t>(c.precision)]);
      }
      return Pad(run, std::move(text), c);
    }
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o':
      return Integer(run, value, c);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
      return Real(run, value, c);
    case 'c':
      if (value.text() && run.ChargeScan(value.text()->size()) && CountCodePoints(value.text()->view()) == 1)
        return Pad(run, *value.text(), c);
      break;
    default:
      break;
  }
  run.Fail(absl::StrCat("unsupported format character '", std::string(1, c.type), "'"));
  return {};
}

class PercentFormatter {
 public:
  PercentFormatter(Run& run, const Text& format, const Value& args) : run_(run), format_(format), s_(format.view()) {
    auto* sequence = args.sequence();
    mapping_ = args.dict();
    args_ = sequence && sequence->kind == Sequence::Kind::kTuple ? sequence->items : std::vector<Value>{args};
    must_use_ = !(mapping_ || args.IsUndefined() ||
                  (sequence && (sequence->kind == Sequence::Kind::kList || sequence->kind == Sequence::Kind::kRange)));
  }

  Value Format() {
    while (i_ < s_.size() && run_.ok()) {
      size_t percent = std::min(s_.find('%', i_), s_.size());
      out_.Append(format_, i_, percent);
      i_ = percent + 1;
      if (percent < s_.size()) One();
      if (!run_.Charge(1) || !run_.ChargeText(out_.size() > run_.limits().output_bytes ? out_.size() : 0)) return {};
    }
    if (must_use_ && used_ < args_.size()) return run_.Fail("not all arguments converted during string formatting");
    return run_.ok() ? MakeText(std::move(out_)) : Value();
  }

 private:
  char Current() const { return i_ < s_.size() ? s_[i_] : '\0'; }

  Int Number() {
    Int value = 0;
    if (Current() == '*') {
      ++i_;
      Value argument = NextArgument();
      IntArgument(run_, argument, value);
      return value;
    }
    while (Current() >= '0' && Current() <= '9' && value <= kMaxWidth) value = value * 10 + (s_[i_++] - '0');
    return value;
  }
  Value NextArgument() {
    if (used_ >= args_.size()) return run_.Fail("not enough arguments for format string");
    return args_[used_++];
  }

  void One() {
    if (Current() == '%') return out_.Append(format_, i_, i_ + 1), void(++i_);
    if (Current() == '(') {
      size_t close = s_.find(')', i_);
      if (close == std::string_view::npos) return void(run_.Fail("incomplete format key"));
      if (mapping_ == nullptr) return void(run_.Fail("format requires a mapping"));
      const Value* found = mapping_->Find(s_.substr(i_ + 1, close - i_ - 1));
      if (found == nullptr) return void(run_.Fail("a key of the format is missing"));
      args_ = {*found};  // the one argument that is left, as in CPython's unicode_format_arg_parse
      used_ = 0;
      i_ = close + 1;
    }
    Conversion c;
    for (bool flags = true; flags;) {
      switch (Current()) {
        case '-':
          c.left = true;
          break;
        case '0':
          c.zero = true;
          break;
        case '+':
          c.plus = true;
          break;
        case ' ':
          c.space = true;
          break;
        case '#':
          c.alternate = true;
          break;
        default:
          flags = false;
          continue;
      }
      ++i_;
    }
    c.width = Number();
    if (c.width < 0) {
      c.left = true;
      c.width = -c.width;
    }
    if (Current() == '.') {
      ++i_;
      c.precision = std::max<Int>(0, Number());
    }
    if (c.width > kMaxWidth || c.precision > kMaxWidth) return void(run_.Exhausted("a format wider than 1000"));
    if (i_ >= s_.size()) return void(run_.Fail("incomplete format"));
    c.type = s_[i_++];
    Value value = NextArgument();
    if (run_.ok()) out_.Append(Convert(run_, value, c));
  }

  Run& run_;
  const Text& format_;
  std::string_view s_;
  size_t i_ = 0;
  std::vector<Value> args_;
  size_t used_ = 0;
  const Dict* mapping_ = nullptr;
  bool must_use_ = true;  // Python lets what has items by key go unused
  Text out_;
};

// "a.b[0]" of a brace field, after the argument's name or number.
Value WalkField(Run& run, Value value, std::string_view path) {
  while (!path.empty() && run.ok()) {
    bool item = path[0] == '[';
    size_t end = item ? path.find(']') : std::min(path.find_first_of(".[", 1), path.size());
    if (end == std::string_view::npos) return run.Fail("missing ']' in format string");
    std::string_view name = path.substr(1, end - 1);
    // The sandbox gives attributes only; of a value that a template sees none is of use here.
    if (!item) return run.Fail("an attribute in a format string");
    bool number = !name.empty() && name.size() < 18 && name.find_first_not_of("0123456789") == std::string_view::npos;
    Int index = 0;
    for (char c : name) index = number ? index * 10 + (c - '0') : 0;
    value = GetItem(run, value, number ? Value(index) : MakeString(name, true));
    path.remove_prefix(end + 1);
  }
  return value;
}

}  // namespace

Value FormatPercent(Run& run, const Text& format, const Value& args) {
  return PercentFormatter(run, format, args).Format();
}

// Fields: empty, a number or a name, [items], !r and !s. A format specification fails.
Value FormatBraces(Run& run, const Text& format, Args args) {
  std::string_view s = format.view();
  Text out;
  size_t next = 0;
  for (size_t i = 0; i < s.size() && run.Charge(1);) {
    if (s[i] != '{' && s[i] != '}') {
      size_t end = std::min(s.find_first_of("{}", i), s.size());
      out.Append(format, i, end);
      i = end;
      continue;
    }
    if (i + 1 < s.size() && s[i + 1] == s[i]) {
      out.Append(format, i, i + 1);
      i += 2;
      continue;
    }
    size_t close = s.find('}', i);
    if (s[i] == '}' || close == std::string_view::npos) return run.Fail("a single brace in a format string");
    std::string_view field = s.substr(i + 1, close - i - 1);
    i = close + 1;
    if (field.find(':') != std::string_view::npos) {
      run.FailWith(
          absl::UnimplementedError(absl::StrCat("chat template, line ", run.line, ": a specification in str.format")));
      return {};
    }
    size_t bang = std::min(field.find('!'), field.size());
    std::string_view conversion = field.substr(bang);
    field = field.substr(0, bang);
    size_t head = std::min(field.find_first_of(".["), field.size());
    std::string_view name = field.substr(0, head);
    std::optional<Value> value;
    if (name.empty() && head < field.size()) return run.Fail("a format field without a name has items");
    if (name.empty() || name.find_first_not_of("0123456789") == std::string_view::npos) {
      size_t index = name.empty() ? next++ : name.size() < 9 ? std::stoul(std::string(name)) : std::string::npos;
      if (index < args.positional.size()) value = args.positional[index];
    } else {
      run.Charge(args.named.size() / 16);
      for (const auto& [key, argument] : args.named) {
        if (key.view() == name) value = argument;
      }
    }
    if (!value) return run.Fail("a format string names an argument that is not there");
    Value chosen = WalkField(run, *value, field.substr(head));
    out.Append(conversion == "!r" ? ToRepr(run, chosen) : ToStr(run, chosen));
    if (out.size() > run.limits().output_bytes) run.ChargeText(out.size());
  }
  return run.ok() ? MakeText(std::move(out)) : Value();
}

Value FormatTime(Run& run, const Text& format, int64_t unix_seconds) {
  std::tm time{};
  auto seconds = static_cast<std::time_t>(unix_seconds);
  if (gmtime_r(&seconds, &time) == nullptr) return run.Fail("strftime_now: a time without a date");
  std::string_view s = format.view();
  Text out;
  for (size_t i = 0; i < s.size() && run.Charge(1);) {
    if (s[i] != '%' || i + 1 >= s.size()) {
      out.Append(format, i, i + 1);
      ++i;
      continue;
    }
    size_t end = i + 1;
    if (std::string_view("-_0^#").find(s[end]) != std::string_view::npos && end + 1 < s.size()) ++end;
    char type = s[end];
    // Not %s, %Z and %z: they ask for a time zone. Python adds %f.
    if (std::string_view("aAbBcCdDeFgGhHIjklmMnpPrRStTuUVwWxXyY%").find(type) != std::string_view::npos) {
      char buffer[128];
      size_t n = std::strftime(buffer, sizeof(buffer), std::string(s.substr(i, end + 1 - i)).c_str(), &time);
      out.Append(std::string_view(buffer, n), format.OriginAt(i));
    } else if (type == 'f') {
      out.Append("000000", format.OriginAt(i));
    } else if (type != 'z' && type != 'Z') {  // of a time without a zone both are empty
      return run.Fail(absl::StrCat("strftime_now: the directive %", std::string(1, type)));
    }
    i = end + 1;
  }
  return MakeText(std::move(out));
}

}  // namespace quantd::chat
