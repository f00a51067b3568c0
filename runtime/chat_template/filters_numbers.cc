// Filters of numbers, of jinja2.filters.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include "base/strings.h"
#include "runtime/chat_template/filters.h"

namespace quantd::chat {
namespace {

// int() and float() of a text: white space around it and single underscores between digits are allowed.
std::optional<std::string> NumberText(Run& run, const Value& value) {
  std::string out;
  if (!run.ChargeMap(value.text()->size())) return std::nullopt;
  Text text = Strip(run, *value.text(), nullptr, true, true);
  std::string_view s = text.view();
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '_') {
      bool between = i > 0 && i + 1 < s.size() && std::isdigit(static_cast<unsigned char>(s[i - 1])) &&
                     std::isdigit(static_cast<unsigned char>(s[i + 1]));
      if (!between) return std::nullopt;
      continue;
    }
    out.push_back(s[i]);
  }
  return out;
}

std::optional<double> ParseFloat(Run& run, const Value& value) {
  std::optional<std::string> text = NumberText(run, value);
  if (!text) return std::nullopt;
  std::string_view s = *text;
  if (!s.empty() && s[0] == '+') s.remove_prefix(1);
  if (s.empty() || s[0] == '+' || (s.size() > 1 && s[0] == '-' && s[1] == '+')) return std::nullopt;
  double d = 0;
  auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), d);
  if (end != s.data() + s.size() || error == std::errc::invalid_argument) return std::nullopt;
  if (error == std::errc::result_out_of_range)
    d = s.find("e-") != std::string_view::npos ? 0.0 : s[0] == '-' ? -HUGE_VAL : HUGE_VAL;
  return d;
}

std::optional<Int> ParseInt(Run& run, const Value& value, Int base, bool& overflow) {
  std::optional<std::string> text = NumberText(run, value);
  if (!text) return std::nullopt;
  std::string_view s = *text;
  bool negative = !s.empty() && s[0] == '-';
  if (!s.empty() && (s[0] == '-' || s[0] == '+')) s.remove_prefix(1);
  if (s.size() > 2 && s[0] == '0') {
    char prefix = static_cast<char>(s[1] | 0x20);
    Int means = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 0;
    if (means != 0 && (base == means || base == 0)) {
      s.remove_prefix(2);
      base = means;
    }
  }
  if (base == 0) base = 10;
  if (s.empty()) return std::nullopt;
  Int result = 0;
  for (char c : s) {
    int digit = c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'z' ? (c | 0x20) - 'a' + 10 : 99;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(result, base, &result) || __builtin_add_overflow(result, digit, &result)) {
      overflow = true;
      return Int{0};
    }
  }
  return negative ? -result : result;
}

Value IntFilter(Run& run, const Value& input, Args& args) {
  Value otherwise = args.Take("default", Value(Int{0}));
  Int base = 10, i = 0;
  if (!IntArgument(run, args.Take("base", Value(Int{10})), base) || !args.Done(run, "int")) return {};
  if (auto* u = input.As<Undefined>()) return run.Fail(u->Why());
  if (input.AsInt(i)) return Value(i, input.trusted);
  std::optional<double> d;
  bool trusted = input.trusted;
  if (input.text()) {
    trusted = input.text()->AllTrusted();
    bool overflow = false;
    if (std::optional<Int> parsed = ParseInt(run, input, base, overflow)) {
      return overflow ? run.Exhausted("an integer of more than 127 bits") : Value(*parsed, trusted);
    }
    d = ParseFloat(run, input);
  } else if (auto* real = input.As<double>()) {
    d = *real;
  }
  if (!d || std::isnan(*d) || std::isinf(*d)) return otherwise;
  if (std::fabs(*d) > 1e37) return run.Exhausted("an integer of more than 127 bits");
  return Value(static_cast<Int>(*d), trusted);
}

Value FloatFilter(Run& run, const Value& input, Args& args) {
  Value otherwise = args.Take("default", Value(0.0));
  if (!args.Done(run, "float")) return {};
  if (auto* u = input.As<Undefined>()) return run.Fail(u->Why());
  double d = 0;
  if (input.AsDouble(d)) return Value(d, input.trusted);
  if (input.text() == nullptr) return otherwise;
  std::optional<double> parsed = ParseFloat(run, input);
  return parsed ? Value(*parsed, input.text()->AllTrusted()) : otherwise;
}

Value Abs(Run& run, const Value& input, Args& args) {
  if (!args.Done(run, "abs")) return {};
  Int i = 0;
  if (input.AsInt(i)) {
    if (i < 0 && __builtin_sub_overflow(Int{0}, i, &i)) return run.Exhausted("an integer of more than 127 bits");
    return Value(i, input.trusted);
  }
  if (auto* d = input.As<double>()) return Value(std::fabs(*d), input.trusted);
  if (auto* u = input.As<Undefined>()) return run.Fail(u->Why());
  return run.Fail(absl::StrCat("bad operand type for abs(): '", ToAbsl(TypeName(input)), "'"));
}

// round(): to the nearest, ties by the exact binary value; of a tie in that, to even.
double RoundHalfEven(double value, int digits) {
  if (!std::isfinite(value)) return value;
  if (digits <= 0) {
    double scale = std::pow(10.0, -digits);
    return std::nearbyint(value / scale) * scale;
  }
  char buffer[512];
  std::snprintf(buffer, sizeof(buffer), "%.*f", std::min(digits, 300) > 100 ? 100 : digits, value);
  double out = 0;
  std::from_chars(buffer, buffer + std::char_traits<char>::length(buffer), out);
  return out;
}

// round() of an integer to `digits` after the point, ties to even. False: the result does not fit.
bool RoundInt(Int& value, int digits) {
  if (digits >= 0) return true;
  if (digits < -38) return value = 0, true;  // 10^38 < 2^127 < 10^39 / 2
  Int scale = 1;
  for (int i = 0; i < -digits; ++i) scale *= 10;
  Int quotient = value / scale, rest = value % scale;
  Int size = rest < 0 ? -rest : rest, left = scale - size;
  if (size > left || (size == left && quotient % 2 != 0)) quotient += value < 0 ? -1 : 1;
  return !__builtin_mul_overflow(quotient, scale, &value);
}

Value Round(Run& run, const Value& input, Args& args) {
  Int precision = 0, i = 0;
  if (!IntArgument(run, args.Take("precision", Value(Int{0})), precision)) return {};
  Text method = ToStr(run, args.Take("method", MakeString("common", true)));
  if (!args.Done(run, "round")) return {};
  if (precision > 100 || precision < -100) return run.Exhausted("round: a precision beyond 100");
  auto digits = static_cast<int>(precision);
  double d = 0;
  if (auto* u = input.As<Undefined>()) return run.Fail(u->Why());
  if (!input.AsDouble(d))
    return run.Fail(absl::StrCat("type ", ToAbsl(TypeName(input)), " doesn't define __round__ method"));
  if (method.view() == "common") {
    if (!input.AsInt(i)) return Value(RoundHalfEven(d, digits), input.trusted);
    if (!RoundInt(i, digits)) return run.Exhausted("an integer of more than 127 bits");
    return Value(i, input.trusted);
  }
  if (method.view() != "ceil" && method.view() != "floor") return run.Fail("method must be common, ceil or floor");
  double scale = std::pow(10.0, digits);
  return Value((method.view() == "ceil" ? std::ceil(d * scale) : std::floor(d * scale)) / scale, input.trusted);
}

constexpr FilterEntry kFilters[] = {
    {"abs", Abs},
    {"float", FloatFilter},
    {"int", IntFilter},
    {"round", Round},
};

}  // namespace

std::span<const FilterEntry> NumberFilters() { return kFilters; }

}  // namespace quantd::chat
