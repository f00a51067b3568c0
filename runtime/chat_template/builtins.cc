// Arguments, functions and the access to attributes and items.
#include "runtime/chat_template/builtins.h"

#include <algorithm>

#include "base/strings.h"
#include "runtime/chat_template/evaluator.h"
#include "runtime/chat_template/run.h"

namespace quantd::chat {

std::optional<Value> Args::Take(std::string_view name) {
  if (next_ < positional.size()) return positional[next_++];
  return TakeNamed(name);
}

std::optional<Value> Args::TakeNamed(std::string_view name) {
  for (auto it = named.begin(); it != named.end(); ++it) {
    if (it->first.view() != name) continue;
    Value value = std::move(it->second);
    named.erase(it);
    return value;
  }
  return std::nullopt;
}

Value Args::Need(Run& run, std::string_view name) {
  std::optional<Value> value = Take(name);
  if (!value) return run.Fail(absl::StrCat("missing argument '", ToAbsl(name), "'"));
  return *std::move(value);
}

bool Args::Done(Run& run, std::string_view callee) {
  if (next_ < positional.size()) {
    run.Fail(absl::StrCat(ToAbsl(callee), "() takes ", next_, " positional arguments but ", positional.size(),
                          " were given"));
  } else if (!named.empty()) {
    run.Fail(
        absl::StrCat(ToAbsl(callee), "() got an unexpected keyword argument '", ToAbsl(named[0].first.view()), "'"));
  }
  return run.ok();
}

bool IntArgument(Run& run, const Value& value, Int& out) {
  if (value.AsInt(out)) {
    out = std::clamp(out, -kFarInt, kFarInt);
    return true;
  }
  if (auto* u = value.As<Undefined>()) return run.Fail(u->Why()), false;
  run.Fail(absl::StrCat("'", ToAbsl(TypeName(value)), "' object cannot be interpreted as an integer"));
  return false;
}

// ---- functions ----

namespace {

Value Range(Run& run, Args args) {
  Int start = 0, stop = 0, step = 1;
  size_t n = args.positional.size();
  if (n < 1 || n > 3 || !args.named.empty()) return run.Fail("range expected 1 to 3 arguments");
  if (n == 1 && !IntArgument(run, args.positional[0], stop)) return {};
  if (n >= 2 && (!IntArgument(run, args.positional[0], start) || !IntArgument(run, args.positional[1], stop)))
    return {};
  if (n == 3 && !IntArgument(run, args.positional[2], step)) return {};
  if (step == 0) return run.Fail("range() arg 3 must not be zero");
  for (Int x : {start, stop, step}) {
    if (x >= kFarInt || x <= -kFarInt) return run.Exhausted("range too big");
  }
  Int count = step > 0 ? (stop - start + step - 1) / step : (start - stop - step - 1) / -step;
  count = std::max<Int>(count, 0);
  if (count > kMaxRange) return run.Exhausted("range too big: more than 100000 items");
  std::vector<Value> items;
  bool trusted = std::all_of(args.positional.begin(), args.positional.end(), [](const Value& v) { return v.trusted; });
  for (Int i = 0; i < count; ++i) items.push_back(Value(start + i * step, trusted));
  Value range = MakeSequence(run, Sequence::Kind::kRange, std::move(items));
  if (!run.ok()) return {};
  range.sequence()->range = {start, stop, step};
  return range;
}

// dict(mapping or pairs, **named).
Value MakeDict(Run& run, Args args) {
  DictBuilder dict(run);
  std::optional<Value> from = args.positional.empty() ? std::nullopt : std::optional<Value>(args.positional[0]);
  if (args.positional.size() > 1) return run.Fail("dict expected at most 1 argument");
  if (from && from->dict()) {
    for (const auto& [key, value] : from->dict()->entries) dict.Set(key, value);
  } else if (from) {
    for (const Value& pair : Iterate(run, *from)) {
      std::vector<Value> items = Iterate(run, pair);
      if (run.ok() && items.size() != 2) run.Fail("dictionary update sequence element does not have length 2");
      if (!run.ok()) return {};
      dict.Set(items[0], items[1]);
    }
  }
  for (auto& [name, value] : args.named) dict.Set(MakeText(std::move(name)), std::move(value));
  return dict.Build();
}

Value MakeNamespace(Run& run, Args args) {
  Value dict = MakeDict(run, std::move(args));
  if (!run.ok()) return {};
  auto ns = std::make_shared<Namespace>();
  for (const auto& [key, value] : dict.dict()->entries) {
    if (key.text() == nullptr) return run.Fail("a namespace's attributes must be strings");
    if (key.text()->view().substr(0, 1) == "_") return run.Fail("a namespace takes no attribute that begins with '_'");
  }
  ns->attributes = *dict.dict();
  run.namespaces.push_back(ns);
  return Value(ns);
}

}  // namespace

bool HasFunction(std::string_view name) {
  for (std::string_view known : {"range", "dict", "namespace", "raise_exception", "strftime_now"}) {
    if (name == known) return true;
  }
  return false;
}

Value CallFunction(Run& run, std::string_view name, Args args) {
  if (name == "range") return Range(run, std::move(args));
  if (name == "dict") return MakeDict(run, std::move(args));
  if (name == "namespace") return MakeNamespace(run, std::move(args));
  if (name == "raise_exception") {
    Text message = ToStr(run, args.Need(run, "message"));
    return args.Done(run, name) ? run.Fail(message.view()) : Value();
  }
  Value format = args.Need(run, "format");  // strftime_now
  if (!args.Done(run, name)) return {};
  if (format.text() == nullptr) return run.Fail("strftime_now() argument must be str");
  return FormatTime(run, *format.text(), run.unix_seconds());
}

// ---- attributes and items ----

namespace {

constexpr std::string_view kStrMethods[] = {
    "capitalize", "center",    "count",      "endswith",  "find",         "format",       "index",      "isalnum",
    "isalpha",    "isdecimal", "isdigit",    "islower",   "isnumeric",    "isspace",      "isupper",    "join",
    "ljust",      "lower",     "lstrip",     "partition", "removeprefix", "removesuffix", "replace",    "rfind",
    "rindex",     "rjust",     "rpartition", "rsplit",    "rstrip",       "split",        "splitlines", "startswith",
    "strip",      "title",     "upper",      "zfill"};
constexpr std::string_view kDictMethods[] = {"items", "keys", "values", "get", "copy"};
constexpr std::string_view kListMethods[] = {"index", "count"};
constexpr std::string_view kLoopMethods[] = {"cycle", "changed"};
// What would change a container; the sandbox of transformers refuses it when it is called.
constexpr std::string_view kDictMutations[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view kListMutations[] = {"append", "clear", "pop",    "reverse",
                                               "insert", "sort",  "extend", "remove"};

template <size_t N>
bool IsIn(const std::string_view (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

bool IsMutation(const Value& value, std::string_view name) {
  if (value.dict()) return IsIn(kDictMutations, name);
  return value.sequence() && value.sequence()->kind == Sequence::Kind::kList && IsIn(kListMutations, name);
}

Value Missing(const Value& value, std::string_view name) {
  std::string type(TypeName(value));
  return MakeUndefined("'" + type + " object' has no attribute '" + std::string(name) + "'");
}

Value Bind(Run& run, const Value& value, std::string_view name) {
  auto method = std::make_shared<Method>(Method{value, name, DepthOf(value) + 1});
  if (method->depth > kMaxValueDepth) return run.Exhausted("a value nested too deeply");
  return Value(std::shared_ptr<const Method>(std::move(method)));
}

// getattr() alone, without the fall back to the items.
std::optional<Value> Attribute(Run& run, const Value& value, std::string_view name) {
  if (IsMutation(value, name)) {
    return MakeUndefined("access to attribute '" + std::string(name) + "' of '" + std::string(TypeName(value)) +
                         "' object is unsafe");
  }
  auto* s = value.sequence();
  bool bound = (value.text() && IsIn(kStrMethods, name)) || (value.dict() && IsIn(kDictMethods, name)) ||
               (s && s->kind <= Sequence::Kind::kRange && IsIn(kListMethods, name));
  if (s && s->is_group && name == "grouper") return s->items[0];
  if (s && s->is_group && name == "list") return s->items[1];
  auto* loop = value.As<std::shared_ptr<Loop>>();
  if (bound || (loop && IsIn(kLoopMethods, name))) return Bind(run, value, name);
  if (loop) return (*loop)->Attribute(run, name);
  if (auto* ns = value.As<std::shared_ptr<Namespace>>()) {
    if (const Value* found = (*ns)->attributes.Find(name)) return *found;
  }
  if (auto* macro = value.As<std::shared_ptr<Macro>>(); macro && name == "name")
    return MakeString((*macro)->name, true);
  return std::nullopt;
}

// Python's obj[key]; nothing where it raises TypeError or LookupError.
std::optional<Value> Item(Run& run, const Value& value, const Value& key) {
  if (auto* d = value.dict()) {
    const Value* found = d->Find(run, key);
    return found ? std::optional<Value>(*found) : std::nullopt;
  }
  Int index = 0;
  if (!key.AsInt(index)) return std::nullopt;
  if (auto* s = value.sequence(); s && s->kind <= Sequence::Kind::kRange) {
    auto size = static_cast<Int>(s->items.size());
    if (index < 0) index += size;
    if (index < 0 || index >= size) return std::nullopt;
    return s->items[static_cast<size_t>(index)];
  }
  if (auto* t = value.text()) {
    std::vector<size_t> at = CodePointOffsets(t->view());
    auto size = static_cast<Int>(at.size() - 1);
    if (index < 0) index += size;
    if (index < 0 || index >= size) return std::nullopt;
    auto i = static_cast<size_t>(index);
    return MakeText(t->Sub(at[i], at[i + 1]));
  }
  return std::nullopt;
}

}  // namespace

std::string_view FindMethod(std::string_view name) {
  auto find = [name](const auto& names) {
    for (std::string_view known : names) {
      if (known == name) return known;
    }
    return std::string_view();
  };
  for (std::string_view found : {find(kStrMethods), find(kDictMethods), find(kListMethods), find(kLoopMethods),
                                 find(kDictMutations), find(kListMutations)}) {
    if (!found.empty()) return found;
  }
  return {};
}

Value GetAttr(Run& run, const Value& value, std::string_view name) {
  if (auto* u = value.As<Undefined>()) return run.Fail(u->Why());
  if (std::optional<Value> attribute = Attribute(run, value, name)) return *std::move(attribute);
  if (auto* d = value.dict()) {
    if (const Value* item = d->Find(name)) return *item;
  }
  return Missing(value, name);
}

Value GetItem(Run& run, const Value& value, const Value& key) {
  if (auto* u = value.As<Undefined>()) return run.Fail(u->Why());
  if (value.text() && !run.Charge(value.text()->size() / 8)) return {};
  if (std::optional<Value> item = Item(run, value, key)) return *std::move(item);
  if (key.text() == nullptr) return MakeUndefined("'" + std::string(TypeName(value)) + " object' has no such item");
  // A bound method keeps its name, and that of a key lives only as long as the key.
  if (std::string_view method = FindMethod(key.text()->view()); !method.empty()) {
    return Attribute(run, value, method).value_or(Missing(value, method));
  }
  bool simple = value.sequence() || value.As<std::shared_ptr<Loop>>() || value.As<std::shared_ptr<Namespace>>();
  std::optional<Value> attribute = simple ? Attribute(run, value, key.text()->view()) : std::nullopt;
  return attribute ? *std::move(attribute) : Missing(value, key.text()->view());
}

Value GetSlice(Run& run, const Value& value, const Value& start, const Value& stop, const Value& step) {
  if (auto* u = value.As<Undefined>()) return run.Fail(u->Why());
  auto* s = value.sequence();
  auto* t = value.text();
  if (!t && !(s && s->kind <= Sequence::Kind::kRange)) {
    return run.Fail(absl::StrCat("'", ToAbsl(TypeName(value)), "' object cannot be sliced"));
  }
  if (!run.Charge(t ? t->size() / 8 : 1)) return {};
  std::vector<size_t> at = t ? CodePointOffsets(t->view()) : std::vector<size_t>();
  auto size = static_cast<Int>(t ? at.size() - 1 : s->items.size());
  Int by = 1;
  for (const Value* part : {&start, &stop, &step}) {
    Int ignored = 0;
    if (part->IsNone() || part->AsInt(ignored)) continue;
    return run.Fail("slice indices must be integers or None");
  }
  if (!step.IsNone()) step.AsInt(by);
  if (by == 0) return run.Fail("slice step cannot be zero");
  by = std::clamp<Int>(by, -size - 1, size + 1);
  if (by == 0) by = 1;  // of an empty value
  // slice.indices: what is outside is cut to the ends.
  auto bound = [&](const Value& part, Int otherwise) {
    Int i = 0;
    if (!part.AsInt(i)) return otherwise;
    if (i < 0) i = i < -size ? Int{-1} - (by > 0 ? -1 : 0) : i + size;
    return std::clamp<Int>(i, by > 0 ? 0 : -1, by > 0 ? size : size - 1);
  };
  Int from = bound(start, by > 0 ? 0 : size - 1);
  Int to = bound(stop, by > 0 ? size : -1);
  if (t && by == 1) {
    return from < to ? MakeText(t->Sub(at[static_cast<size_t>(from)], at[static_cast<size_t>(to)])) : MakeText({});
  }
  if (t && !run.ChargeMap(t->size())) return {};
  Text text;
  std::vector<Value> items;
  for (Int i = from; by > 0 ? i < to : i > to; i += by) {
    auto k = static_cast<size_t>(i);
    if (t) {
      text.Append(*t, at[k], at[k + 1]);
    } else {
      items.push_back(s->items[k]);
    }
  }
  if (t) return MakeText(std::move(text));
  Value part = MakeSequence(run, s->kind, std::move(items), value.trusted);
  if (run.ok()) {
    const auto& [first, ignored, stride] = s->range;  // the stride grows with every slice of a slice
    Int far = 0;
    if (__builtin_mul_overflow(stride, size + 1, &far) || far >= kFarInt || far <= -kFarInt) {
      return run.Exhausted("range too big");
    }
    part.sequence()->range = {first + from * stride, first + to * stride, by * stride};
  }
  return part;
}

}  // namespace quantd::chat
