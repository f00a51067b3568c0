// Filters of lists and dicts, of jinja2.filters.
#include <algorithm>
#include <set>
#include <vector>
#include "runtime/chat_template/filters.h"

namespace quantd::chat {
namespace {

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
  if (value.text() == nullptr || !run.ChargeMap(value.text()->size())) return value;
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
    if (!run.Charge(1 + separator.size() / 64 + separator.runs() / 4) || out.size() > run.limits().output_bytes) {
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

constexpr FilterEntry kFilters[] = {
    {"batch", Batch},
    {"count", LengthFilter},
    {"dictsort", DictSort},
    {"first", First},
    {"groupby", GroupBy},
    {"items", Items},
    {"join", Join},
    {"last", Last},
    {"length", LengthFilter},
    {"list", List},
    {"map", Map},
    {"max", Max},
    {"min", Min},
    {"reject", Reject},
    {"rejectattr", RejectAttr},
    {"reverse", Reverse},
    {"select", Select},
    {"selectattr", SelectAttr},
    {"slice", Slice},
    {"sort", Sort},
    {"sum", Sum},
    {"unique", Unique},
};

}  // namespace

std::span<const FilterEntry> SequenceFilters() { return kFilters; }

}  // namespace quantd::chat
