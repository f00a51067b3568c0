// jinja2.filters, and tojson of transformers.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "base/strings.h"
#include "runtime/chat_template/builtins.h"
#include "runtime/chat_template/json.h"
#include "runtime/chat_template/run.h"

namespace quantd::chat {
namespace {

using Filter = Value (*)(Run&, const Value&, Args&);

// A keyword argument that filters read as a boolean.
bool Flag(Args& args, std::string_view name) { return Truthy(args.Take(name, Value(false))); }

// ---- text ----

Value Upper(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  return args.Done(run, "upper") ? MakeText(MapCase(text, Case::kUpper)) : Value();
}
Value Lower(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  return args.Done(run, "lower") ? MakeText(MapCase(text, Case::kLower)) : Value();
}
Value CapitalizeFilter(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  return args.Done(run, "capitalize") ? MakeText(Capitalize(text)) : Value();
}

// Words begin after white space, "-", "(", "{", "[" or "<"; unlike str.title, not after other punctuation.
Value Title(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  if (!args.Done(run, "title")) return {};
  auto separates = [](const CodePoint& p) {
    return IsSpace(p.value) ||
           (p.value < 0x80 && std::string_view("-({[<").find(static_cast<char>(p.value)) != std::string_view::npos);
  };
  Text out;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    CodePoint first = DecodeAt(text.view(), begin);
    size_t rest = end = begin + first.size;
    while (!separates(first) && end < text.size()) {
      CodePoint p = DecodeAt(text.view(), end);
      if (separates(p)) break;
      end += p.size;
    }
    out.Append(MapCase(text.Sub(begin, rest), Case::kUpper));
    out.Append(MapCase(text.Sub(rest, end), Case::kLower));  // a text of its own: where a final sigma ends it
  }
  return MakeText(std::move(out));
}

Value Trim(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  Value chars = args.Take("chars", Value(None{}));
  if (!args.Done(run, "trim")) return {};
  if (!chars.IsNone() && chars.text() == nullptr) return run.Fail("strip arg must be None or str");
  if (chars.text() != nullptr && !run.Charge(chars.text()->size() / 8)) return {};
  return MakeText(Strip(text, chars.text(), true, true));
}

Value ReplaceFilter(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  Text from = ToStr(run, args.Need(run, "old"));
  Text to = ToStr(run, args.Need(run, "new"));
  Value count = args.Take("count", Value(None{}));
  Int limit = -1;
  if (!args.Done(run, "replace") || (!count.IsNone() && !IntArgument(run, count, limit))) return {};
  return MakeText(Replace(run, text, from.view(), to, limit));
}

Value Indent(Run& run, const Value& input, Args& args) {
  Value width = args.Take("width", Value(Int{4}));
  bool first = Flag(args, "first"), blank = Flag(args, "blank");
  if (!args.Done(run, "indent")) return {};
  if (input.text() == nullptr) return run.Fail("indent of what is no string");
  Int spaces = 0;
  Text indention;
  if (width.text()) {
    indention = *width.text();
  } else {
    if (!IntArgument(run, width, spaces)) return {};
    indention = Repeat(run, Text(" ", true), spaces);
  }
  Text text = *input.text();
  text.Append("\n", true);
  Text out;
  bool later = false;
  for (const Text& line : SplitLines(run, text)) {
    size_t more = indention.size() + line.size() + 1;
    if (!run.Charge(more / 64) || (out.size() + more > run.limits().output_bytes && !run.ChargeText(out.size() + more)))
      return {};
    if (later) out.Append("\n", true);
    if (later ? (blank || !line.empty()) : first) out.Append(indention);
    out.Append(line);
    later = true;
  }
  return MakeText(std::move(out));
}

Value Center(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  Int width = 0;
  if (!IntArgument(run, args.Take("width", Value(Int{80})), width) || !args.Done(run, "center")) return {};
  Int pad = width - static_cast<Int>(CountCodePoints(text.view()));
  if (pad <= 0) return MakeText(std::move(text));
  Int left = pad / 2 + (pad & width & 1);
  Text out = Repeat(run, Text(" ", true), left);
  out.Append(text);
  out.Append(Repeat(run, Text(" ", true), pad - left));
  return MakeText(std::move(out));
}

Value Truncate(Run& run, const Value& input, Args& args) {
  Int length = 255, leeway = 5;
  Value length_arg = args.Take("length", Value(Int{255}));
  bool kill_words = Flag(args, "killwords");
  Text end = ToStr(run, args.Take("end", MakeString("...", true)));
  Value leeway_arg = args.Take("leeway", Value(None{}));
  if (!args.Done(run, "truncate") || !IntArgument(run, length_arg, length)) return {};
  if (!leeway_arg.IsNone() && !IntArgument(run, leeway_arg, leeway)) return {};
  if (input.text() == nullptr) return run.Fail("truncate of what is no string");
  if (!run.Charge(input.text()->size() / 8)) return {};  // the offsets of its code points are taken
  const Text& text = *input.text();
  std::vector<size_t> at = CodePointOffsets(text.view());
  auto end_length = static_cast<Int>(CountCodePoints(end.view()));
  if (length < end_length || leeway < 0)
    return run.Fail("expected a length of at least that of the end, and a leeway of at least 0");
  if (static_cast<Int>(at.size()) - 1 <= length + leeway) return input;
  size_t keep = at[static_cast<size_t>(length - end_length)];
  if (!kill_words) {
    size_t space = text.view().substr(0, keep).rfind(' ');
    if (space != std::string_view::npos) keep = space;
  }
  Text out = text.Sub(0, keep);
  out.Append(end);
  return MakeText(std::move(out));
}

Value Escape(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  if (!args.Done(run, "escape") || !run.ChargeText(text.size() * 5)) return {};
  Text out;
  for (size_t i = 0; i < text.size(); ++i) {
    switch (text.view()[i]) {
      case '&':
        out.Append("&amp;", text.TrustedAt(i));
        break;
      case '<':
        out.Append("&lt;", text.TrustedAt(i));
        break;
      case '>':
        out.Append("&gt;", text.TrustedAt(i));
        break;
      case '"':
        out.Append("&#34;", text.TrustedAt(i));
        break;
      case '\'':
        out.Append("&#39;", text.TrustedAt(i));
        break;
      default:
        out.Append(text, i, i + 1);
    }
  }
  return MakeText(std::move(out));
}

Value UrlEncode(Run& run, const Value& input, Args& args) {
  if (!args.Done(run, "urlencode")) return {};
  if (input.text() == nullptr) return run.Fail("urlencode of what is no string");
  if (!run.ChargeText(3 * input.text()->size())) return {};
  Text out;
  for (size_t i = 0; i < input.text()->size(); ++i) {
    auto c = static_cast<unsigned char>(input.text()->view()[i]);
    bool safe = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                std::string_view("_.-~/").find(static_cast<char>(c)) != std::string_view::npos;
    constexpr char kHex[] = "0123456789ABCDEF";
    const char encoded[] = {'%', kHex[c >> 4], kHex[c & 15]};
    out.Append(safe ? input.text()->view().substr(i, 1) : std::string_view(encoded, 3), input.text()->TrustedAt(i));
  }
  return MakeText(std::move(out));
}

Value WordCount(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  if (!args.Done(run, "wordcount")) return {};
  Int words = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size();) {
    CodePoint p = DecodeAt(text.view(), i);
    bool word = p.valid && IsWord(p.value);
    words += word && !inside;
    inside = word;
    i += p.size;
  }
  return Value(words);
}

Value StringFilter(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  return args.Done(run, "string") ? MakeText(std::move(text)) : Value();
}

Value Format(Run& run, const Value& input, Args& args) {
  Text format = ToStr(run, input);
  if (!args.named.empty() && !args.positional.empty()) {
    return run.Fail("can't handle positional and keyword arguments at the same time");
  }
  if (!args.named.empty()) {
    DictBuilder dict(run);
    for (auto& [name, value] : args.named) dict.Set(MakeText(std::move(name)), std::move(value));
    return FormatPercent(run, format, dict.Build());
  }
  return FormatPercent(run, format, MakeSequence(run, Sequence::Kind::kTuple, std::move(args.positional)));
}

Value ToJsonFilter(Run& run, const Value& input, Args& args) {
  JsonStyle style;
  style.ascii = Flag(args, "ensure_ascii");
  Value indent = args.Take("indent", Value(None{}));
  Value separators = args.Take("separators", Value(None{}));
  style.sort_keys = Flag(args, "sort_keys");
  if (!args.Done(run, "tojson")) return {};
  Int spaces = 0;
  if (indent.text()) {
    style.lines = true;
    style.indent = *indent.text();
  } else if (indent.AsInt(spaces)) {
    style.lines = true;
    style.indent = Repeat(run, Text(" ", true), spaces);
  } else if (!indent.IsNone()) {
    return run.Fail("tojson: indent must be an integer, a string or none");
  }
  if (style.lines) style.item_separator = Text(",", true);
  if (!separators.IsNone()) {
    std::vector<Value> pair = Iterate(run, separators);
    if (pair.size() != 2 || !pair[0].text() || !pair[1].text())
      return run.Fail("tojson: separators must be two strings");
    style.item_separator = *pair[0].text();
    style.key_separator = *pair[1].text();
  }
  return MakeText(ToJson(run, input, style));
}

// ---- numbers ----

// int() and float() of a text: white space around it and single underscores between digits are allowed.
std::optional<std::string> NumberText(const Value& value) {
  std::string out;
  Text text = Strip(*value.text(), nullptr, true, true);
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

std::optional<double> ParseFloat(const Value& value) {
  std::optional<std::string> text = NumberText(value);
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

std::optional<Int> ParseInt(const Value& value, Int base, bool& overflow) {
  std::optional<std::string> text = NumberText(value);
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
    if (std::optional<Int> parsed = ParseInt(input, base, overflow)) {
      return overflow ? run.Exhausted("an integer of more than 127 bits") : Value(*parsed, trusted);
    }
    d = ParseFloat(input);
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
  std::optional<double> parsed = ParseFloat(input);
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

// ---- sequences ----

// jinja2's make_attrgetter: "a.b.0" walks attributes and items.
using Path = std::vector<Value>;
Path MakePath(Run& run, const Value& attribute) {
  Path parts;
  if (attribute.text()) {
    std::string_view path = attribute.text()->view();
    for (size_t begin = 0; begin <= path.size() && run.Charge(kStepsOfPart);) {
      size_t end = std::min(path.find('.', begin), path.size());
      std::string_view part = path.substr(begin, end - begin);
      Int index = 0;
      bool number = !part.empty() && part.size() < 18 &&
                    std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
      for (char c : part) index = number ? index * 10 + (c - '0') : 0;
      parts.push_back(number ? Value(index) : MakeString(part, true));
      begin = end + 1;
    }
  } else if (!attribute.IsNone()) {
    parts.push_back(attribute);
  }
  return parts;
}

Value Walk(Run& run, Value item, const Path& path, const Value* otherwise = nullptr) {
  for (const Value& part : path) {
    if (!run.Charge(1)) return {};
    item = GetItem(run, item, part);
    if (otherwise != nullptr && !otherwise->IsNone() && item.IsUndefined()) item = *otherwise;
  }
  return item;
}

Value IgnoreCase(Run& run, const Value& value) {
  if (value.text() == nullptr || !run.ChargeText(value.text()->size())) return value;
  return MakeText(MapCase(*value.text(), Case::kLower));
}

Value KeyOf(Run& run, const Value& item, const Path& path, bool case_sensitive, const Value* otherwise = nullptr) {
  Value key = Walk(run, item, path, otherwise);
  return case_sensitive ? key : IgnoreCase(run, key);
}

// Stable, as sorted() is; reversed it keeps the order of equals too.
std::vector<Value> SortBy(Run& run, std::vector<Value> items, const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return run.ok() && (reverse ? Less(run, keys[b], keys[a]) : Less(run, keys[a], keys[b]));
  });
  std::vector<Value> sorted;
  for (size_t i : order) sorted.push_back(std::move(items[i]));
  return sorted;
}

Value Sort(Run& run, const Value& input, Args& args) {
  bool reverse = Flag(args, "reverse"), case_sensitive = Flag(args, "case_sensitive");
  Value attribute = args.Take("attribute", Value(None{}));
  if (!args.Done(run, "sort")) return {};
  std::vector<Path> paths;  // "a,b" sorts by a, then by b
  if (attribute.text()) {
    std::string_view all = attribute.text()->view();
    for (size_t begin = 0; begin <= all.size() && run.ok();) {
      size_t end = std::min(all.find(',', begin), all.size());
      paths.push_back(MakePath(run, MakeString(all.substr(begin, end - begin), true)));
      begin = end + 1;
    }
  } else {
    paths.push_back(MakePath(run, attribute));
  }
  std::vector<Value> items = Iterate(run, input), keys;
  for (const Value& item : items) {
    std::vector<Value> key;
    for (const Path& path : paths) key.push_back(KeyOf(run, item, path, case_sensitive));
    if (!run.ok()) return {};
    keys.push_back(MakeList(run, std::move(key)));
  }
  return MakeList(run, SortBy(run, std::move(items), keys, reverse), input.trusted);
}

Value DictSort(Run& run, const Value& input, Args& args) {
  bool case_sensitive = Flag(args, "case_sensitive");
  Text by = ToStr(run, args.Take("by", MakeString("key", true)));
  bool reverse = Flag(args, "reverse");
  if (!args.Done(run, "dictsort")) return {};
  if (by.view() != "key" && by.view() != "value") return run.Fail("you can only sort by either \"key\" or \"value\"");
  if (input.dict() == nullptr) return run.Fail("dictsort of what is no mapping");
  std::vector<Value> items, keys;
  for (const auto& [key, value] : input.dict()->entries) {
    items.push_back(MakeSequence(run, Sequence::Kind::kTuple, {key, value}, input.trusted));
    const Value& chosen = by.view() == "key" ? key : value;
    keys.push_back(case_sensitive ? chosen : IgnoreCase(run, chosen));
  }
  return MakeList(run, SortBy(run, std::move(items), keys, reverse), input.trusted);
}

Value GroupBy(Run& run, const Value& input, Args& args) {
  Value attribute = args.Need(run, "attribute");
  Value otherwise = args.Take("default", Value(None{}));
  bool case_sensitive = Flag(args, "case_sensitive");
  if (!args.Done(run, "groupby")) return {};
  Path path = MakePath(run, attribute);
  std::vector<Value> items = Iterate(run, input), keys;
  for (const Value& item : items) keys.push_back(KeyOf(run, item, path, case_sensitive, &otherwise));
  if (!run.ok()) return {};
  items = SortBy(run, std::move(items), keys, false);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < items.size() && run.ok();) {
    Value key = KeyOf(run, items[begin], path, case_sensitive, &otherwise);
    size_t end = begin + 1;
    while (end < items.size() && Equal(run, key, KeyOf(run, items[end], path, case_sensitive, &otherwise))) ++end;
    Value grouper = KeyOf(run, items[begin], path, true, &otherwise);
    std::vector<Value> members(items.begin() + static_cast<ptrdiff_t>(begin),
                               items.begin() + static_cast<ptrdiff_t>(end));
    groups.push_back(
        MakeSequence(run, Sequence::Kind::kTuple, {std::move(grouper), MakeList(run, std::move(members))}));
    if (run.ok()) groups.back().sequence()->is_group = true;
    begin = end;
  }
  return MakeList(run, std::move(groups));
}

Value Unique(Run& run, const Value& input, Args& args) {
  bool case_sensitive = Flag(args, "case_sensitive");
  Path path = MakePath(run, args.Take("attribute", Value(None{})));
  if (!args.Done(run, "unique")) return {};
  std::set<std::string> seen;
  std::vector<Value> out;
  for (Value& item : Iterate(run, input)) {
    std::string key;
    if (!CanonicalKey(run, KeyOf(run, item, path, case_sensitive), key)) return run.Fail("unhashable type");
    if (seen.insert(std::move(key)).second) out.push_back(std::move(item));
  }
  return MakeSequence(run, Sequence::Kind::kIterator, std::move(out));
}

Value Extreme(Run& run, const Value& input, Args& args, bool max) {
  bool case_sensitive = Flag(args, "case_sensitive");
  Path path = MakePath(run, args.Take("attribute", Value(None{})));
  if (!args.Done(run, max ? "max" : "min")) return {};
  std::vector<Value> items = Iterate(run, input);
  if (items.empty()) return MakeUndefined("No aggregated item, sequence was empty.");
  size_t best = 0;
  Value best_key = KeyOf(run, items[0], path, case_sensitive);
  for (size_t i = 1; i < items.size() && run.ok(); ++i) {
    Value key = KeyOf(run, items[i], path, case_sensitive);
    if (max ? Less(run, best_key, key) : Less(run, key, best_key)) {
      best = i;
      best_key = std::move(key);
    }
  }
  return items[best];
}
Value Min(Run& run, const Value& input, Args& args) { return Extreme(run, input, args, false); }
Value Max(Run& run, const Value& input, Args& args) { return Extreme(run, input, args, true); }

Value Sum(Run& run, const Value& input, Args& args) {
  Path path = MakePath(run, args.Take("attribute", Value(None{})));
  Value total = args.Take("start", Value(Int{0}));
  if (!args.Done(run, "sum")) return {};
  if (total.text()) return run.Fail("sum() can't sum strings");
  for (const Value& item : Iterate(run, input)) {
    if (!run.Charge(1)) return {};
    total = Binary(run, /*Operator::kAdd*/ 0, total, Walk(run, item, path));
  }
  return total;
}

Value Join(Run& run, const Value& input, Args& args) {
  Text separator = ToStr(run, args.Take("d", MakeString("", true)));
  Path path = MakePath(run, args.Take("attribute", Value(None{})));
  if (!args.Done(run, "join")) return {};
  Text out;
  bool first = true;
  for (const Value& item : Iterate(run, input)) {
    if (!std::exchange(first, false)) out.Append(separator);
    out.Append(ToStr(run, Walk(run, item, path)));
    if (!run.Charge(1 + separator.size() / 64) || out.size() > run.limits().output_bytes) {
      run.ChargeText(out.size());
      return {};
    }
  }
  return MakeText(std::move(out));
}

Value First(Run& run, const Value& input, Args& args) {
  if (!args.Done(run, "first")) return {};
  if (auto* s = input.sequence()) {
    if (s->consumed >= s->items.size()) return MakeUndefined("No first item, sequence was empty.");
    size_t at = s->consumed;
    if (s->kind == Sequence::Kind::kIterator) ++s->consumed;
    return s->items[at];
  }
  std::vector<Value> items = Iterate(run, input);
  return items.empty() ? MakeUndefined("No first item, sequence was empty.") : items[0];
}

Value Last(Run& run, const Value& input, Args& args) {
  if (!args.Done(run, "last")) return {};
  if (auto* s = input.sequence(); s && s->kind == Sequence::Kind::kIterator)
    return run.Fail("'generator' object is not reversible");
  std::vector<Value> items = Iterate(run, input);
  return items.empty() ? MakeUndefined("No last item, sequence was empty.") : items.back();
}

Value LengthFilter(Run& run, const Value& input, Args& args) {
  return args.Done(run, "length") ? Value(Length(run, input)) : Value();
}

Value List(Run& run, const Value& input, Args& args) {
  return args.Done(run, "list") ? MakeList(run, Iterate(run, input), input.trusted) : Value();
}

Value Items(Run& run, const Value& input, Args& args) {
  if (!args.Done(run, "items")) return {};
  if (input.dict() == nullptr && !input.IsUndefined()) return run.Fail("can only get item pairs from a mapping.");
  std::vector<Value> pairs;
  if (input.dict()) {
    for (const auto& [key, value] : input.dict()->entries) {
      pairs.push_back(MakeSequence(run, Sequence::Kind::kTuple, {key, value}, input.trusted));
    }
  }
  return MakeSequence(run, Sequence::Kind::kIterator, std::move(pairs), input.trusted);
}

Value Reverse(Run& run, const Value& input, Args& args) {
  if (!args.Done(run, "reverse")) return {};
  std::vector<Value> items = Iterate(run, input);
  std::reverse(items.begin(), items.end());
  if (input.text() == nullptr) return MakeSequence(run, Sequence::Kind::kIterator, std::move(items), input.trusted);
  Text out;
  for (const Value& item : items) out.Append(*item.text());
  return MakeText(std::move(out));
}

Value Batch(Run& run, const Value& input, Args& args) {
  Int count = 0;
  if (!IntArgument(run, args.Need(run, "linecount"), count)) return {};
  Value fill = args.Take("fill_with", Value(None{}));
  if (!args.Done(run, "batch")) return {};
  std::vector<Value> rows, row;
  for (Value& item : Iterate(run, input)) {
    if (static_cast<Int>(row.size()) == count) rows.push_back(MakeList(run, std::exchange(row, {})));
    row.push_back(std::move(item));
  }
  if (!row.empty()) {
    if (!fill.IsNone() && count > kMaxRange) return run.Exhausted("batch: a line of more than 100000 items");
    while (!fill.IsNone() && static_cast<Int>(row.size()) < count) row.push_back(fill);
    rows.push_back(MakeList(run, std::move(row)));
  }
  return MakeSequence(run, Sequence::Kind::kIterator, std::move(rows));
}

Value Slice(Run& run, const Value& input, Args& args) {
  Int slices = 0;
  if (!IntArgument(run, args.Need(run, "slices"), slices)) return {};
  Value fill = args.Take("fill_with", Value(None{}));
  if (!args.Done(run, "slice")) return {};
  if (slices == 0) return run.Fail("integer division or modulo by zero");
  if (slices > kMaxRange) return run.Exhausted("slice: more than 100000 slices");
  std::vector<Value> items = Iterate(run, input), columns;
  auto length = static_cast<Int>(items.size());
  size_t at = 0;
  for (Int n = 0; n < slices && run.ok(); ++n) {
    auto take = static_cast<size_t>(length / slices + (n < length % slices ? 1 : 0));
    std::vector<Value> column(items.begin() + static_cast<ptrdiff_t>(at),
                              items.begin() + static_cast<ptrdiff_t>(at + take));
    at += take;
    if (!fill.IsNone() && n >= length % slices) column.push_back(fill);
    columns.push_back(MakeList(run, std::move(column)));
  }
  return MakeSequence(run, Sequence::Kind::kIterator, std::move(columns));
}

// ---- filters that apply filters and tests ----

Value Map(Run& run, const Value& input, Args& args) {
  std::vector<Value> out;
  if (!Truthy(input)) return MakeSequence(run, Sequence::Kind::kIterator, {});
  if (args.positional.empty() && !args.named.empty()) {
    std::optional<Value> attribute = args.TakeNamed("attribute");
    Value otherwise = args.TakeNamed("default").value_or(Value(None{}));
    if (!attribute) return run.Fail("map requires a filter argument");
    if (!args.Done(run, "map")) return {};
    Path path = MakePath(run, *attribute);
    for (const Value& item : Iterate(run, input)) out.push_back(Walk(run, item, path, &otherwise));
    return MakeSequence(run, Sequence::Kind::kIterator, std::move(out));
  }
  Value name = args.Need(run, "name");
  if (!run.ok()) return {};
  if (name.text() == nullptr || !HasFilter(name.text()->view())) return run.Fail("map: no such filter");
  Args rest;
  rest.positional.assign(args.positional.begin() + 1, args.positional.end());
  rest.named = args.named;
  for (const Value& item : Iterate(run, input)) {
    if (!run.Charge(1)) return {};
    out.push_back(CallFilter(run, name.text()->view(), item, rest));
  }
  return MakeSequence(run, Sequence::Kind::kIterator, std::move(out));
}

Value Choose(Run& run, const Value& input, Args& args, bool by_attribute, bool wanted) {
  std::vector<Value> out;
  if (!Truthy(input)) return MakeSequence(run, Sequence::Kind::kIterator, {});
  Path path = MakePath(run, by_attribute ? args.Need(run, "attribute") : Value(None{}));
  if (!run.ok()) return {};
  Args rest;
  rest.positional.assign(args.positional.begin() + (by_attribute ? 1 : 0), args.positional.end());
  rest.named = args.named;
  Value name;
  if (!rest.positional.empty()) {
    name = rest.positional[0];
    rest.positional.erase(rest.positional.begin());
    if (name.text() == nullptr || !HasTest(name.text()->view())) return run.Fail("select: no such test");
  }
  for (Value& item : Iterate(run, input)) {
    if (!run.Charge(1)) return {};
    Value tested = Walk(run, item, path);
    bool holds = name.text() ? CallTest(run, name.text()->view(), tested, rest) : Truthy(tested);
    if (holds == wanted) out.push_back(std::move(item));
  }
  return MakeSequence(run, Sequence::Kind::kIterator, std::move(out));
}
Value Select(Run& run, const Value& input, Args& args) { return Choose(run, input, args, false, true); }
Value Reject(Run& run, const Value& input, Args& args) { return Choose(run, input, args, false, false); }
Value SelectAttr(Run& run, const Value& input, Args& args) { return Choose(run, input, args, true, true); }
Value RejectAttr(Run& run, const Value& input, Args& args) { return Choose(run, input, args, true, false); }

Value Default(Run& run, const Value& input, Args& args) {
  Value otherwise = args.Take("default_value", MakeString("", true));
  bool boolean = Flag(args, "boolean");
  if (!args.Done(run, "default")) return {};
  return input.IsUndefined() || (boolean && !Truthy(input)) ? otherwise : input;
}

Value Attr(Run& run, const Value& input, Args& args) {
  Value name = args.Need(run, "name");
  if (!args.Done(run, "attr")) return {};
  if (name.text() == nullptr) return run.Fail("attribute name must be string");
  // Unlike a.b it never looks for an item.
  if (input.dict() && FindMethod(name.text()->view()).empty())
    return MakeUndefined("'dict object' has no such attribute");
  if (input.dict()) return GetAttr(run, input, FindMethod(name.text()->view()));
  return GetItem(run, input, name);
}

struct Entry {
  std::string_view name;
  Filter filter;
};
constexpr Entry kFilters[] = {
    {"abs", Abs},
    {"attr", Attr},
    {"batch", Batch},
    {"capitalize", CapitalizeFilter},
    {"center", Center},
    {"count", LengthFilter},
    {"d", Default},
    {"default", Default},
    {"dictsort", DictSort},
    {"e", Escape},
    {"escape", Escape},
    {"first", First},
    {"float", FloatFilter},
    {"forceescape", Escape},
    {"format", Format},
    {"groupby", GroupBy},
    {"indent", Indent},
    {"int", IntFilter},
    {"items", Items},
    {"join", Join},
    {"last", Last},
    {"length", LengthFilter},
    {"list", List},
    {"lower", Lower},
    {"map", Map},
    {"max", Max},
    {"min", Min},
    {"reject", Reject},
    {"rejectattr", RejectAttr},
    {"replace", ReplaceFilter},
    {"reverse", Reverse},
    {"round", Round},
    {"safe", StringFilter},
    {"select", Select},
    {"selectattr", SelectAttr},
    {"slice", Slice},
    {"sort", Sort},
    {"string", StringFilter},
    {"sum", Sum},
    {"title", Title},
    {"tojson", ToJsonFilter},
    {"trim", Trim},
    {"truncate", Truncate},
    {"unique", Unique},
    {"upper", Upper},
    {"urlencode", UrlEncode},
    {"wordcount", WordCount},
};

const Entry* Find(std::string_view name) {
  for (const Entry& entry : kFilters) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

}  // namespace

bool HasFilter(std::string_view name) { return Find(name) != nullptr; }

Value CallFilter(Run& run, std::string_view name, const Value& input, Args args) {
  const Entry* entry = Find(name);
  if (entry == nullptr) return run.Fail(absl::StrCat("no filter named '", ToAbsl(name), "'"));
  Value result = entry->filter(run, input, args);
  return run.ok() ? result : Value();
}

}  // namespace quantd::chat
