// Filters of texts, of jinja2.filters, and tojson of transformers.
#include "runtime/chat_template/filters.h"
#include "runtime/chat_template/json.h"

namespace quantd::chat {
namespace {

Value Upper(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  return args.Done(run, "upper") && run.ChargeMap(text.size()) ? MakeText(MapCase(text, Case::kUpper)) : Value();
}
Value Lower(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  return args.Done(run, "lower") && run.ChargeMap(text.size()) ? MakeText(MapCase(text, Case::kLower)) : Value();
}
Value CapitalizeFilter(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  return args.Done(run, "capitalize") && run.ChargeMap(text.size()) ? MakeText(Capitalize(text)) : Value();
}

// Words begin after white space, "-", "(", "{", "[" or "<"; unlike str.title, not after other punctuation.
Value Title(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  if (!args.Done(run, "title") || !run.ChargeMap(2 * text.size())) return {};
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
  return MakeText(Strip(run, text, chars.text(), true, true));
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
  if (!run.ChargeText(*input.text()) || !run.ChargeScan(input.text()->size())) return {};
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
  if (!run.ChargeScan(text.size())) return {};
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
  if (!run.ChargeMap(input.text()->size()) || !run.ChargeScan(end.size())) return {};  // offsets of its characters
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
  if (!args.Done(run, "escape") || !run.ChargeText(text.size() * 5) || !run.ChargeMap(text.size())) {
    return {};
  }
  Text out;
  for (size_t i = 0; i < text.size(); ++i) {
    switch (text.view()[i]) {
      case '&':
        out.Append("&amp;", text.OriginAt(i));
        break;
      case '<':
        out.Append("&lt;", text.OriginAt(i));
        break;
      case '>':
        out.Append("&gt;", text.OriginAt(i));
        break;
      case '"':
        out.Append("&#34;", text.OriginAt(i));
        break;
      case '\'':
        out.Append("&#39;", text.OriginAt(i));
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
  if (!run.ChargeText(3 * input.text()->size()) || !run.ChargeMap(input.text()->size())) return {};
  Text out;
  for (size_t i = 0; i < input.text()->size(); ++i) {
    auto c = static_cast<unsigned char>(input.text()->view()[i]);
    bool safe = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                std::string_view("_.-~/").find(static_cast<char>(c)) != std::string_view::npos;
    constexpr char kHex[] = "0123456789ABCDEF";
    const char encoded[] = {'%', kHex[c >> 4], kHex[c & 15]};
    out.Append(safe ? input.text()->view().substr(i, 1) : std::string_view(encoded, 3), input.text()->OriginAt(i));
  }
  return MakeText(std::move(out));
}

Value WordCount(Run& run, const Value& input, Args& args) {
  Text text = ToStr(run, input);
  if (!args.Done(run, "wordcount") || !run.ChargeMap(text.size())) return {};
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

constexpr FilterEntry kFilters[] = {
    {"capitalize", CapitalizeFilter},
    {"center", Center},
    {"e", Escape},
    {"escape", Escape},
    {"forceescape", Escape},
    {"format", Format},
    {"indent", Indent},
    {"lower", Lower},
    {"replace", ReplaceFilter},
    {"safe", StringFilter},
    {"string", StringFilter},
    {"title", Title},
    {"tojson", ToJsonFilter},
    {"trim", Trim},
    {"truncate", Truncate},
    {"upper", Upper},
    {"urlencode", UrlEncode},
    {"wordcount", WordCount},
};

}  // namespace

std::span<const FilterEntry> TextFilters() { return kFilters; }

}  // namespace quantd::chat
