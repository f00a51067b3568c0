// Methods of Python's str, list, tuple and dict, and of a loop.
#include <algorithm>

#include <unordered_set>

#include "base/strings.h"
#include "runtime/chat_template/builtins.h"
#include "runtime/chat_template/evaluator.h"
#include "runtime/chat_template/run.h"

namespace quantd::chat {

namespace {

// Where the last character of [begin, end) begins, as one that reads from `begin` cuts them: a byte that is no UTF-8 is
// a character of its own.
size_t LastCharacter(std::string_view s, size_t begin, size_t end) {
  for (size_t size = std::min<size_t>(4, end - begin); size > 1; --size) {
    CodePoint p = DecodeAt(s.substr(0, end), end - size);
    if (p.valid && p.size == size) return end - size;
  }
  return end - 1;
}

}  // namespace

Text Strip(Run& run, const Text& text, const Text* chars, bool left, bool right) {
  if (chars != nullptr && !run.ChargeMap(chars->size())) return {};
  std::unordered_set<char32_t> set;  // a byte that is no UTF-8 stands beyond all code points
  auto member = [](const CodePoint& p) { return p.valid ? p.value : p.value | 0x8000'0000; };
  for (size_t i = 0; chars != nullptr && i < chars->size();) {
    CodePoint p = DecodeAt(chars->view(), i);
    set.insert(member(p));
    i += p.size;
  }
  auto strips = [&](const CodePoint& p) {
    return chars == nullptr ? p.valid && IsSpace(p.value) : set.contains(member(p));
  };
  size_t begin = 0, end = text.size();
  while (left && begin < end) {
    CodePoint p = DecodeAt(text.view(), begin);
    if (!strips(p)) break;
    begin += p.size;
  }
  while (right && end > begin) {
    const size_t at = LastCharacter(text.view(), begin, end);
    if (!strips(DecodeAt(text.view(), at))) break;
    end = at;
  }
  if (!run.ChargeMap(text.size() - (end - begin)) || !run.ChargeText(end - begin)) return {};
  return text.Sub(begin, end);
}

Text Replace(Run& run, const Text& text, std::string_view from, const Text& to, Int count) {
  Text out;
  if (!run.ChargeScan(text.size() + from.size()) || !run.Charge(text.runs() / 4)) return out;
  Int done = 0;
  size_t i = 0;
  auto room = [&] { return run.ok() && (count < 0 || done < count); };
  auto insert = [&] {
    out.Append(to);
    ++done;
    if (!run.Charge(2 + to.size() / 64 + to.runs() / 4) || out.size() > run.limits().output_bytes)
      run.ChargeText(out.size());
  };
  if (from.empty()) {  // before every character and at the end
    while (room()) {
      insert();
      if (i >= text.size()) break;
      size_t n = DecodeAt(text.view(), i).size;
      out.Append(text, i, i + n);
      i += n;
    }
  } else {
    while (room()) {
      size_t at = FindPart(text.view(), from, i);
      if (at == std::string_view::npos) break;
      out.Append(text, i, at);
      insert();
      i = at + from.size();
    }
  }
  out.Append(text, i, text.size());
  run.ChargeText(out.size());
  return out;
}

std::vector<Text> SplitLines(Run& run, const Text& text, bool keep_ends) {
  std::vector<Text> lines;
  if (!run.ChargeScan(text.size())) return lines;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    CodePoint p = DecodeAt(text.view(), i);
    size_t next = i + p.size;
    if (p.valid && IsLineBreak(p.value)) {
      if (!run.Charge(kStepsOfPart)) break;
      if (p.value == '\r' && next < text.size() && text.view()[next] == '\n') ++next;
      lines.push_back(text.Sub(begin, keep_ends ? next : i));
      begin = next;
    }
    i = next;
  }
  if (begin < text.size()) lines.push_back(text.Sub(begin, text.size()));
  return lines;
}

// Some letter has a case, and none has the other one.
bool AllCased(const Text& text, bool upper) {
  bool any = false;
  for (size_t i = 0; i < text.size();) {
    CodePoint p = DecodeAt(text.view(), i);
    if (IsTitle(p.value) || (upper ? IsLower(p.value) : IsUpper(p.value))) return false;
    any = any || (upper ? IsUpper(p.value) : IsLower(p.value));
    i += p.size;
  }
  return any;
}

namespace {

const Text* TextArgument(Run& run, const Value& value) {
  if (value.text() == nullptr && run.ok()) {
    if (auto* u = value.As<Undefined>()) {
      run.Fail(u->Why());
    } else {
      run.Fail(absl::StrCat("expected a str argument, got ", ToAbsl(TypeName(value))));
    }
  }
  return value.text();
}

Value TextList(Run& run, std::vector<Text> texts) {
  if (!run.ok()) return {};
  std::vector<Value> items;
  for (Text& text : texts) items.push_back(MakeText(std::move(text)));
  return MakeList(run, std::move(items));
}

// Runs of white space separate, from the left or from the right; empty parts vanish.
std::vector<Text> SplitAtSpace(Run& run, const Text& text, Int limit, bool from_right) {
  std::vector<std::pair<size_t, size_t>> words;
  if (!run.ChargeScan(text.size())) return {};
  size_t begin = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size() && run.ok();) {
    CodePoint p = DecodeAt(text.view(), i);
    bool space = p.valid && IsSpace(p.value);
    if (space && inside && run.Charge(kStepsOfPart)) words.emplace_back(begin, i);
    if (!space && !inside) begin = i;
    inside = !space;
    i += p.size;
  }
  if (inside) words.emplace_back(begin, text.size());
  std::vector<Text> out;
  size_t first = 0, last = words.size();  // the words that become parts; what is left of them or after them is one more
  if (limit >= 0 && static_cast<Int>(words.size()) > limit) {
    auto parts = static_cast<size_t>(limit);
    if (from_right) {
      first = words.size() - parts;
      out.push_back(text.Sub(0, words[first - 1].second));
    } else {
      last = parts;
    }
  }
  for (size_t i = first; i < last; ++i) out.push_back(text.Sub(words[i].first, words[i].second));
  if (last < words.size()) out.push_back(text.Sub(words[last].first, text.size()));
  return out;
}

// From the right it is the split of the reversed text, so that one linear search serves both.
std::vector<Text> SplitAt(Run& run, const Text& text, std::string_view separator, Int limit, bool from_right) {
  if (!run.ChargeScan(text.size() + separator.size())) return {};
  std::string s(text.view()), by(separator);
  if (from_right) std::reverse(s.begin(), s.end()), std::reverse(by.begin(), by.end());
  auto part = [&](size_t begin, size_t end) {
    return from_right ? text.Sub(s.size() - end, s.size() - begin) : text.Sub(begin, end);
  };
  std::vector<Text> out;
  size_t begin = 0;
  while ((limit < 0 || static_cast<Int>(out.size()) < limit) && run.Charge(kStepsOfPart)) {
    size_t at = FindPart(s, by, begin);
    if (at == std::string_view::npos) break;
    out.push_back(part(begin, at));
    begin = at + by.size();
  }
  out.push_back(part(begin, s.size()));
  if (from_right) std::reverse(out.begin(), out.end());
  return out;
}

Value Split(Run& run, const Text& text, Args& args, bool from_right) {
  Value separator = args.Take("sep", Value(None{}));
  Int limit = -1;
  if (!IntArgument(run, args.Take("maxsplit", Value(Int{-1})), limit) || !args.Done(run, "split")) return {};
  if (separator.IsNone()) return TextList(run, SplitAtSpace(run, text, limit, from_right));
  const Text* by = TextArgument(run, separator);
  if (by == nullptr) return {};
  if (by->empty()) return run.Fail("empty separator");
  return TextList(run, SplitAt(run, text, by->view(), limit, from_right));
}

Value Partition(Run& run, const Text& text, Args& args, bool last) {
  Value separator = args.Need(run, "sep");
  const Text* by = TextArgument(run, separator);
  if (by == nullptr || !args.Done(run, "partition")) return {};
  if (by->empty()) return run.Fail("empty separator");
  if (!run.ChargeScan(text.size() + by->size())) return {};
  size_t at = last ? FindLastPart(text.view(), by->view()) : FindPart(text.view(), by->view());
  std::vector<Value> parts;
  if (at == std::string_view::npos) {
    parts = {MakeText({}), MakeText({}), MakeText({})};
    parts[last ? 2 : 0] = MakeText(text);
  } else {
    size_t end = at + by->size();
    parts = {MakeText(text.Sub(0, at)), MakeText(text.Sub(at, end)), MakeText(text.Sub(end, text.size()))};
  }
  return MakeSequence(run, Sequence::Kind::kTuple, std::move(parts));
}

// The part between the optional arguments start and end, and where it begins, in bytes and code points.
struct Window {
  Text text;
  size_t begin_points = 0;
  bool valid = true;  // start lies within the text
};
Window TakeWindow(Run& run, const Text& text, Args& args) {
  Value start = args.Take("start", Value(None{})), end = args.Take("end", Value(None{}));
  Window window{text};
  if (start.IsNone() && end.IsNone()) return window;
  if (!run.ChargeMap(text.size())) return window;
  std::vector<size_t> at = CodePointOffsets(text.view());
  auto size = static_cast<Int>(at.size() - 1);
  Int from = 0, to = size;
  if ((!start.IsNone() && !IntArgument(run, start, from)) || (!end.IsNone() && !IntArgument(run, end, to)))
    return window;
  if (from < 0) from = std::max<Int>(0, from + size);
  if (to < 0) to = std::max<Int>(0, to + size);
  to = std::min(to, size);
  window.valid = from <= to;
  from = std::min(from, to);
  window.begin_points = static_cast<size_t>(from);
  window.text = text.Sub(at[static_cast<size_t>(from)], at[static_cast<size_t>(to)]);
  return window;
}

Value StartsOrEnds(Run& run, const Text& text, Args& args, bool starts) {
  Value affix = args.Need(run, "prefix");
  Window window = TakeWindow(run, text, args);
  if (!args.Done(run, starts ? "startswith" : "endswith")) return {};
  std::vector<Value> any = {affix};
  if (auto* s = affix.sequence(); s && s->kind == Sequence::Kind::kTuple) any = Iterate(run, affix);
  for (const Value& item : any) {
    const Text* part = TextArgument(run, item);
    if (part == nullptr || !run.Charge(part->size() / 64)) return {};
    std::string_view s = window.text.view();
    if (!window.valid || s.size() < part->size()) continue;
    if (s.substr(starts ? 0 : s.size() - part->size(), part->size()) == part->view()) return Value(true);
  }
  return Value(false);
}

Value FindText(Run& run, const Text& text, Args& args, bool last, bool must) {
  Value what = args.Need(run, "sub");
  const Text* part = TextArgument(run, what);
  Window window = TakeWindow(run, text, args);
  if (part == nullptr || !args.Done(run, "find") || !run.ChargeScan(2 * text.size() + part->size())) return {};
  std::string_view s = window.text.view();
  size_t at = !window.valid ? std::string_view::npos : last ? FindLastPart(s, part->view()) : FindPart(s, part->view());
  if (at == std::string_view::npos) return must ? run.Fail("substring not found") : Value(Int{-1});
  return Value(static_cast<Int>(window.begin_points + CountCodePoints(s.substr(0, at))));
}

Value CountText(Run& run, const Text& text, Args& args) {
  Value what = args.Need(run, "sub");
  const Text* part = TextArgument(run, what);
  Window window = TakeWindow(run, text, args);
  if (part == nullptr || !args.Done(run, "count") || !run.ChargeScan(text.size() + part->size())) return {};
  std::string_view s = window.text.view();
  if (part->empty()) return Value(static_cast<Int>(CountCodePoints(s) + 1));
  Int count = 0;
  for (size_t at = 0; run.Charge(1); ++count) {
    at = FindPart(s, part->view(), at);
    if (at == std::string_view::npos) break;
    at += part->size();
  }
  return Value(count);
}

Value Justify(Run& run, const Text& text, Args& args, std::string_view name) {
  Int width = 0;
  if (!IntArgument(run, args.Need(run, "width"), width)) return {};
  Value fill = name == "zfill" ? MakeString("0", true) : args.Take("fillchar", MakeString(" ", true));
  if (!args.Done(run, name)) return {};
  const Text* pad_text = TextArgument(run, fill);
  if (pad_text == nullptr) return {};
  if (!run.ChargeScan(text.size() + pad_text->size())) return {};
  if (CountCodePoints(pad_text->view()) != 1) return run.Fail("the fill character must be exactly one character long");
  Int pad = width - static_cast<Int>(CountCodePoints(text.view()));
  if (pad <= 0) return MakeText(text);
  Int left = name == "ljust" ? 0 : name == "center" ? pad / 2 + (pad & width & 1) : pad;
  Text out;
  size_t sign = name == "zfill" && !text.empty() && (text.view()[0] == '-' || text.view()[0] == '+') ? 1 : 0;
  out.Append(text, 0, sign);
  out.Append(Repeat(run, *pad_text, left));
  out.Append(text, sign, text.size());
  out.Append(Repeat(run, *pad_text, pad - left));
  return MakeText(std::move(out));
}

Value StripMethod(Run& run, const Text& text, Args& args, bool left, bool right) {
  Value chars = args.Take("chars", Value(None{}));
  if (!args.Done(run, "strip")) return {};
  if (chars.IsNone()) return MakeText(Strip(run, text, nullptr, left, right));
  const Text* set = TextArgument(run, chars);
  return set == nullptr ? Value() : MakeText(Strip(run, text, set, left, right));
}

Value Is(Run& run, const Text& text, Args& args, bool (*holds)(char32_t)) {
  if (!args.Done(run, "is") || !run.ChargeMap(text.size())) return {};
  for (size_t i = 0; i < text.size();) {
    CodePoint p = DecodeAt(text.view(), i);
    if (!p.valid || !holds(p.value)) return Value(false);
    i += p.size;
  }
  return Value(!text.empty());
}

Value JoinMethod(Run& run, const Text& text, Args& args) {
  Value parts = args.Need(run, "iterable");
  if (!args.Done(run, "join")) return {};
  Text out;
  bool first = true;
  for (const Value& part : Iterate(run, parts)) {
    if (!std::exchange(first, false)) out.Append(text);
    const Text* piece = TextArgument(run, part);
    if (piece == nullptr ||
        !run.ChargeText(out.size() > run.limits().output_bytes ? out.size() : piece->size() + text.size()) ||
        !run.Charge((piece->runs() + text.runs()) / 4))
      return {};
    out.Append(*piece);
  }
  return run.ChargeText(out.size()) ? MakeText(std::move(out)) : Value();
}

Value CutAffix(Run& run, const Text& text, Args& args, bool prefix) {
  Value what = args.Need(run, "prefix");
  const Text* part = TextArgument(run, what);
  if (part == nullptr || !args.Done(run, "removeprefix")) return {};
  if (part->size() > text.size()) return MakeText(text);
  size_t rest = text.size() - part->size();
  if (prefix)
    return MakeText(text.view().substr(0, part->size()) == part->view() ? text.Sub(part->size(), text.size()) : text);
  return MakeText(text.view().substr(rest) == part->view() ? text.Sub(0, rest) : text);
}

Value ReplaceMethod(Run& run, const Text& text, Args& args) {
  Value from = args.Need(run, "old"), to = args.Need(run, "new");
  Int count = -1;
  if (!IntArgument(run, args.Take("count", Value(Int{-1})), count) || !args.Done(run, "replace")) return {};
  if (!TextArgument(run, from) || !TextArgument(run, to)) return {};
  return MakeText(Replace(run, text, from.text()->view(), *to.text(), count));
}

Value CallStr(Run& run, const Text& text, std::string_view name, Args& args) {
  if (!run.ChargeText(text)) return {};
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    return StripMethod(run, text, args, name != "rstrip", name != "lstrip");
  }
  if (name == "split" || name == "rsplit") return Split(run, text, args, name == "rsplit");
  if (name == "startswith" || name == "endswith") return StartsOrEnds(run, text, args, name == "startswith");
  if (name == "replace") return ReplaceMethod(run, text, args);
  if (name == "find" || name == "rfind") return FindText(run, text, args, name == "rfind", false);
  if (name == "index" || name == "rindex") return FindText(run, text, args, name == "rindex", true);
  if (name == "count") return CountText(run, text, args);
  if (name == "join") return JoinMethod(run, text, args);
  if (name == "partition" || name == "rpartition") return Partition(run, text, args, name == "rpartition");
  if (name == "removeprefix" || name == "removesuffix") return CutAffix(run, text, args, name == "removeprefix");
  if (name == "ljust" || name == "rjust" || name == "center" || name == "zfill") return Justify(run, text, args, name);
  if (name == "format") return FormatBraces(run, text, std::move(args));
  if (name == "isalpha") return Is(run, text, args, IsAlpha);
  if (name == "isdecimal") return Is(run, text, args, IsDecimal);
  if (name == "isdigit") return Is(run, text, args, IsDigit);
  if (name == "isnumeric") return Is(run, text, args, IsNumeric);
  if (name == "isalnum") return Is(run, text, args, [](char32_t c) { return c != '_' && IsWord(c); });
  if (name == "isspace") return Is(run, text, args, IsSpace);
  if (name == "splitlines") {
    bool keep = Truthy(args.Take("keepends", Value(false)));
    return args.Done(run, name) ? TextList(run, SplitLines(run, text, keep)) : Value();
  }
  if (!args.Done(run, name) || !run.ChargeMap(text.size())) return {};
  if (name == "upper") return MakeText(MapCase(text, Case::kUpper));
  if (name == "lower") return MakeText(MapCase(text, Case::kLower));
  if (name == "title") return MakeText(MapCase(text, Case::kTitle));
  if (name == "capitalize") return MakeText(Capitalize(text));
  return Value(AllCased(text, name == "isupper"));  // isupper, islower
}

Value CallDict(Run& run, const Value& self, std::string_view name, Args& args) {
  const Dict& dict = *self.dict();
  if (name == "get") {
    Value key = args.Need(run, "key"), otherwise = args.Take("default", Value(None{}));
    if (!args.Done(run, name)) return {};
    std::string canonical;
    if (!CanonicalKey(run, key, canonical))
      return run.Fail(absl::StrCat("unhashable type: '", ToAbsl(TypeName(key)), "'"));
    const Value* found = dict.Find(run, key);
    return found != nullptr ? *found : otherwise;
  }
  if (!args.Done(run, name) || !run.Charge(dict.entries.size())) return {};
  if (name == "copy") return self;
  std::vector<Value> items;
  for (const auto& [key, value] : dict.entries) {
    items.push_back(name == "keys"     ? key
                    : name == "values" ? value
                                       : MakeSequence(run, Sequence::Kind::kTuple, {key, value}, self.trusted));
  }
  auto kind = name == "keys"     ? Sequence::Kind::kKeys
              : name == "values" ? Sequence::Kind::kValues
                                 : Sequence::Kind::kItems;
  return MakeSequence(run, kind, std::move(items), self.trusted);
}

Value CallList(Run& run, const Sequence& list, std::string_view name, Args& args) {
  Value what = args.Need(run, "value");
  if (!args.Done(run, name)) return {};
  Int count = 0;
  for (size_t i = 0; i < list.items.size() && run.ok(); ++i) {
    if (!Equal(run, list.items[i], what)) continue;
    if (name == "index") return Value(static_cast<Int>(i));
    ++count;
  }
  return name == "index" ? run.Fail("the value is not in the list") : Value(count);
}

Value CallLoop(Run& run, const std::shared_ptr<Loop>& loop, std::string_view name, Args& args) {
  if (!args.named.empty()) return run.Fail("a loop's method takes no keyword argument");
  if (name == "cycle") {
    if (args.positional.empty()) return run.Fail("no items for cycling given");
    return args.positional[static_cast<size_t>(loop->index0) % args.positional.size()];
  }
  bool same = loop->has_changed && loop->last_changed.size() == args.positional.size();
  for (size_t i = 0; same && i < args.positional.size(); ++i)
    same = Equal(run, loop->last_changed[i], args.positional[i]);
  if (same) return Value(false);
  if (!loop->has_changed) run.loops.push_back(loop);
  loop->has_changed = true;
  loop->last_changed = std::move(args.positional);
  return Value(true);
}

}  // namespace

Value CallMethod(Run& run, const Method& method, Args args) {
  const Value& self = method.self;
  if (auto* text = self.text()) return CallStr(run, *text, method.name, args);
  if (self.dict()) return CallDict(run, self, method.name, args);
  if (auto* sequence = self.sequence()) return CallList(run, *sequence, method.name, args);
  return CallLoop(run, *self.As<std::shared_ptr<Loop>>(), method.name, args);
}

}  // namespace quantd::chat
