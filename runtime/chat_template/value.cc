#include "runtime/chat_template/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/strings.h"
#include "runtime/chat_template/evaluator.h"
#include "runtime/chat_template/run.h"

namespace quantd::chat {

bool Value::AsInt(Int& out) const {
  if (auto* i = As<Int>()) return out = *i, true;
  if (auto* b = As<bool>()) return out = *b, true;
  return false;
}

bool Value::AsDouble(double& out) const {
  if (auto* d = As<double>()) return out = *d, true;
  Int i = 0;
  if (!AsInt(i)) return false;
  out = static_cast<double>(i);
  return true;
}

Value MakeUndefined(std::string why) { return Value(Undefined{std::make_shared<const std::string>(std::move(why))}); }

const Value* Dict::Find(Run& run, const Value& key) const {
  std::string canonical;
  if (!CanonicalKey(run, key, canonical)) return nullptr;
  auto it = index.find(canonical);
  return it == index.end() ? nullptr : &entries[it->second].second;
}

const Value* Dict::Find(std::string_view key) const {
  auto it = index.find("s" + std::string(key));
  return it == index.end() ? nullptr : &entries[it->second].second;
}

Value* Dict::Slot(Run& run, Value key) {
  if (!run.Charge(4)) return nullptr;
  std::string canonical;
  if (!CanonicalKey(run, key, canonical)) {
    run.Fail(absl::StrCat("unhashable type: '", ToAbsl(TypeName(key)), "'"));
    return nullptr;
  }
  auto [it, fresh] = index.try_emplace(std::move(canonical), entries.size());
  if (fresh) entries.emplace_back(std::move(key), Value());
  return &entries[it->second].second;
}

std::string_view TypeName(const Value& value) {
  switch (value.v.index()) {
    case 0:
      return "Undefined";
    case 1:
      return "NoneType";
    case 2:
      return "bool";
    case 3:
      return "int";
    case 4:
      return "float";
    case 5:
      return "str";
    case 6:
      switch (value.sequence()->kind) {
        case Sequence::Kind::kList:
          return "list";
        case Sequence::Kind::kTuple:
          return "tuple";
        case Sequence::Kind::kRange:
          return "range";
        case Sequence::Kind::kKeys:
          return "dict_keys";
        case Sequence::Kind::kValues:
          return "dict_values";
        case Sequence::Kind::kItems:
          return "dict_items";
        case Sequence::Kind::kIterator:
          return "generator";
      }
      return "";
    case 7:
      return "dict";
    case 8:
      return "Namespace";
    case 9:
      return "LoopContext";
    case 10:
      return "Macro";
    case 11:
      return "builtin_function_or_method";
    default:
      return "function";
  }
}

bool Truthy(const Value& value) {
  if (auto* b = value.As<bool>()) return *b;
  if (auto* i = value.As<Int>()) return *i != 0;
  if (auto* d = value.As<double>()) return *d != 0;
  if (auto* t = value.text()) return !t->empty();
  if (auto* s = value.sequence()) return s->kind == Sequence::Kind::kIterator || !s->items.empty();
  if (auto* d = value.dict()) return !d->entries.empty();
  return !value.IsUndefined() && !value.IsNone();
}

int DepthOf(const Value& value) {
  if (auto* s = value.sequence()) return s->depth;
  if (auto* d = value.dict()) return d->depth;
  if (auto* loop = value.As<std::shared_ptr<Loop>>()) return (*loop)->depth;
  if (auto* method = value.As<std::shared_ptr<const Method>>()) return (*method)->depth;
  return 0;
}

bool CanonicalKey(Run& run, const Value& key, std::string& out) {
  Int i = 0;
  size_t size = out.size() + (key.text() ? key.text()->size() : 0);
  if (!run.Charge(1 + (size - out.size()) / 64) || (size > run.limits().output_bytes && !run.ChargeText(size))) {
    return false;
  }
  if (auto* t = key.text()) {
    out += 's';
    out += t->view();
  } else if (key.AsInt(i)) {
    out += 'i' + IntRepr(i);
  } else if (auto* d = key.As<double>()) {
    bool whole = std::floor(*d) == *d && std::fabs(*d) < 1e30;
    out += whole ? 'i' + IntRepr(static_cast<Int>(*d)) : 'f' + FloatRepr(*d);
  } else if (key.IsNone()) {
    out += 'n';
  } else if (key.IsUndefined()) {
    out += 'u';
  } else if (auto* s = key.sequence(); s && s->kind == Sequence::Kind::kTuple) {
    out += '(';
    for (const Value& item : s->items) {  // a comma ends an item; a text, which may hold commas, says its size
      if (item.text()) out += std::to_string(item.text()->size());
      if (!CanonicalKey(run, item, out)) return false;
      out += ',';
    }
    out += ')';
  } else {
    return false;
  }
  return true;
}

bool Equal(Run& run, const Value& a, const Value& b) {
  if (!run.Charge(1)) return false;
  if (a.text() && b.text()) {
    if (!run.Charge(std::min(a.text()->size(), b.text()->size()) / 64)) return false;
    return a.text()->view() == b.text()->view();
  }
  Int i = 0, j = 0;
  if (a.AsInt(i) && b.AsInt(j)) return i == j;
  double x = 0, y = 0;
  if (a.AsDouble(x) && b.AsDouble(y)) return x == y;
  if (a.v.index() != b.v.index()) return false;
  if (a.IsNone() || a.IsUndefined()) return true;
  if (auto* s = a.sequence()) {
    auto* t = b.sequence();
    if (s == t) return true;
    if (s->kind != t->kind || s->items.size() != t->items.size() || s->kind == Sequence::Kind::kIterator) return false;
    for (size_t k = 0; k < s->items.size() && run.ok(); ++k) {
      if (!Equal(run, s->items[k], t->items[k])) return false;
    }
    return true;
  }
  if (auto* d = a.dict()) {
    auto* e = b.dict();
    if (d == e) return true;
    if (d->entries.size() != e->entries.size()) return false;
    for (const auto& [key, value] : d->entries) {
      const Value* other = e->Find(run, key);
      if (other == nullptr || !Equal(run, value, *other)) return false;
    }
    return true;
  }
  if (auto* n = a.As<std::shared_ptr<Namespace>>()) return *n == *b.As<std::shared_ptr<Namespace>>();
  if (auto* l = a.As<std::shared_ptr<Loop>>()) return *l == *b.As<std::shared_ptr<Loop>>();
  if (auto* m = a.As<std::shared_ptr<Macro>>()) return *m == *b.As<std::shared_ptr<Macro>>();
  if (auto* f = a.As<Function>()) return f->name == b.As<Function>()->name;
  return false;
}

bool Less(Run& run, const Value& a, const Value& b) {
  if (!run.Charge(1)) return false;
  if (a.text() && b.text()) {
    return run.Charge(std::min(a.text()->size(), b.text()->size()) / 64) && a.text()->view() < b.text()->view();
  }
  Int i = 0, j = 0;
  if (a.AsInt(i) && b.AsInt(j)) return i < j;
  double x = 0, y = 0;
  if (a.AsDouble(x) && b.AsDouble(y)) return x < y;
  auto *s = a.sequence(), *t = b.sequence();
  if (s && t && s->kind == t->kind && (s->kind == Sequence::Kind::kList || s->kind == Sequence::Kind::kTuple)) {
    for (size_t k = 0; k < std::min(s->items.size(), t->items.size()) && run.ok(); ++k) {
      if (!Equal(run, s->items[k], t->items[k])) return Less(run, s->items[k], t->items[k]);
    }
    return s->items.size() < t->items.size();
  }
  for (const Value* v : {&a, &b}) {
    if (auto* u = v->As<Undefined>()) return run.Fail(u->Why()), false;
  }
  run.Fail(absl::StrCat("'<' not supported between instances of '", ToAbsl(TypeName(a)), "' and '", ToAbsl(TypeName(b)),
                        "'"));
  return false;
}

std::string IntRepr(Int value) {
  bool negative = value < 0;
  auto rest = negative ? -static_cast<unsigned __int128>(value) : static_cast<unsigned __int128>(value);
  std::string digits;
  do {
    digits.push_back(static_cast<char>('0' + static_cast<int>(rest % 10)));
    rest /= 10;
  } while (rest != 0);
  if (negative) digits.push_back('-');
  std::reverse(digits.begin(), digits.end());
  return digits;
}

// float.__repr__: the shortest digits that read back equal; with an exponent below 1e-4 and from 1e16 on.
std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  std::string_view all(buffer, static_cast<size_t>(end - buffer));
  size_t e = all.find('e');
  int exponent = std::stoi(std::string(all.substr(e + 1)));
  if (exponent < -4 || exponent >= 16) {
    std::string sign = exponent < 0 ? "-" : "+";
    std::string number = std::to_string(std::abs(exponent));
    return std::string(all.substr(0, e)) + "e" + sign + (number.size() < 2 ? "0" : "") + number;
  }
  end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed).ptr;
  std::string fixed(buffer, static_cast<size_t>(end - buffer));
  return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

namespace {

// Python prefers single quotes, and takes double ones for a text that holds single ones only.
void AppendQuoted(Run& run, const Text& text, Text& out) {
  if (!run.ChargeText(text.size() * 2 + 2) || !run.ChargeMap(text.size())) return;
  bool single = text.view().find('\'') != std::string_view::npos;
  bool twice = text.view().find('"') != std::string_view::npos;
  const char quote = single && !twice ? '"' : '\'';
  out.Append(std::string_view(&quote, 1), text.AllTrusted());
  for (size_t i = 0; i < text.size();) {
    CodePoint p = DecodeAt(text.view(), i);
    std::string piece(text.view().substr(i, p.size));
    char hex[16];
    if (p.value == static_cast<unsigned char>(quote) || p.value == '\\') {
      piece.insert(0, "\\");
    } else if (p.value == '\n') {
      piece = "\\n";
    } else if (p.value == '\r') {
      piece = "\\r";
    } else if (p.value == '\t') {
      piece = "\\t";
    } else if (!p.valid || !IsPrintable(p.value)) {
      std::snprintf(hex, sizeof(hex),
                    p.value < 0x100     ? "\\x%02x"
                    : p.value < 0x10000 ? "\\u%04x"
                                        : "\\U%08x",
                    static_cast<unsigned>(p.value));
      piece = hex;
    }
    out.Append(piece, text.OriginAt(i));
    i += p.size;
  }
  out.Append(std::string_view(&quote, 1), text.AllTrusted());
}

void AppendRepr(Run& run, const Value& value, int depth, Text& out);

void AppendSequence(Run& run, const Value& value, int depth, Text& out) {
  const Sequence& s = *value.sequence();
  if (s.is_content && depth == 0) {
    return void(
        run.Fail("the template prints a message's content as it is: send it as one text, not as content_parts"));
  }
  std::string_view open = "[", close = "]";
  switch (s.kind) {
    case Sequence::Kind::kList:
      break;
    case Sequence::Kind::kTuple:
      open = "(", close = s.items.size() == 1 ? ",)" : ")";
      break;
    case Sequence::Kind::kRange:
      out.Append("range(" + IntRepr(s.range.start) + ", " + IntRepr(s.range.stop), value.trusted);
      if (s.range.step != 1) out.Append(", " + IntRepr(s.range.step), value.trusted);
      return out.Append(")", value.trusted);
    case Sequence::Kind::kKeys:
      open = "dict_keys([", close = "])";
      break;
    case Sequence::Kind::kValues:
      open = "dict_values([", close = "])";
      break;
    case Sequence::Kind::kItems:
      open = "dict_items([", close = "])";
      break;
    case Sequence::Kind::kIterator:
      return out.Append("<generator object>", value.trusted);
  }
  out.Append(open, value.trusted);
  for (size_t i = 0; i < s.items.size() && run.ok(); ++i) {
    if (i > 0) out.Append(", ", value.trusted);
    AppendRepr(run, s.items[i], depth + 1, out);
  }
  out.Append(close, value.trusted);
}

void AppendDict(Run& run, const Dict& dict, bool trusted, int depth, Text& out) {
  out.Append("{", trusted);
  for (size_t i = 0; i < dict.entries.size() && run.ok(); ++i) {
    if (i > 0) out.Append(", ", trusted);
    AppendRepr(run, dict.entries[i].first, depth + 1, out);
    out.Append(": ", trusted);
    AppendRepr(run, dict.entries[i].second, depth + 1, out);
  }
  out.Append("}", trusted);
}

void AppendRepr(Run& run, const Value& value, int depth, Text& out) {
  if (!run.Charge(1)) return;
  if (depth > kMaxValueDepth) return void(run.Exhausted("a value nested too deeply"));
  if (out.size() > run.limits().output_bytes) return void(run.ChargeText(out.size()));
  if (auto* t = value.text()) return AppendQuoted(run, *t, out);
  if (value.sequence()) return AppendSequence(run, value, depth, out);
  if (auto* d = value.dict()) return AppendDict(run, *d, value.trusted, depth, out);
  if (auto* n = value.As<std::shared_ptr<Namespace>>()) {
    out.Append("<Namespace ", true);
    AppendDict(run, (*n)->attributes, true, depth, out);
    return out.Append(">", true);
  }
  if (value.IsUndefined()) return out.Append("Undefined", true);
  out.Append(ToStr(run, value));
}

}  // namespace

Text ToRepr(Run& run, const Value& value) {
  Text out;
  AppendRepr(run, value, 0, out);
  run.ChargeText(out.size());
  return out;
}

Text ToStr(Run& run, const Value& value) {
  if (auto* t = value.text()) {
    if (!run.ChargeText(*t)) return {};
    return *t;
  }
  if (value.IsUndefined()) return {};
  if (value.IsNone()) return Text("None", value.trusted);
  if (auto* b = value.As<bool>()) return Text(*b ? "True" : "False", value.trusted);
  if (auto* i = value.As<Int>()) return Text(IntRepr(*i), value.trusted);
  if (auto* d = value.As<double>()) return Text(FloatRepr(*d), value.trusted);
  if (auto* m = value.As<std::shared_ptr<Macro>>()) {
    Text out("<Macro ", true);
    AppendQuoted(run, Text((*m)->name, true), out);
    out.Append(">", true);
    return out;
  }
  if (auto* l = value.As<std::shared_ptr<Loop>>()) {
    Int length = (*l)->Length(run);
    return Text(absl::StrCat("<LoopContext ", (*l)->index0 + 1, "/", IntRepr(length), ">"), true);
  }
  if (auto* m = value.As<std::shared_ptr<const Method>>()) {
    return Text(absl::StrCat("<built-in method ", ToAbsl((*m)->name), ">"), true);
  }
  if (auto* f = value.As<Function>()) return Text(absl::StrCat("<function ", ToAbsl(f->name), ">"), true);
  return ToRepr(run, value);
}

Value MakeSequence(Run& run, Sequence::Kind kind, std::vector<Value> items, bool trusted) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, DepthOf(item));
  if (depth >= kMaxValueDepth) return run.Exhausted("a value nested too deeply");
  if (!run.Charge(items.size() + 1)) return {};
  auto sequence = std::make_shared<Sequence>();
  sequence->kind = kind;
  sequence->items = std::move(items);
  sequence->depth = depth + 1;
  return Value(std::move(sequence), trusted);
}

void DictBuilder::Set(Value key, Value value) {
  int depth = 1 + std::max(DepthOf(key), DepthOf(value));
  if (depth > kMaxValueDepth) return void(run_.Exhausted("a value nested too deeply"));
  dict_->depth = std::max(dict_->depth, depth);
  if (Value* slot = dict_->Slot(run_, std::move(key))) *slot = std::move(value);
}

std::vector<Value> Iterate(Run& run, const Value& value) {
  std::vector<Value> items;
  if (auto* s = value.sequence()) {
    if (!run.Charge(s->items.size())) return {};
    items.assign(s->items.begin() + static_cast<ptrdiff_t>(s->consumed), s->items.end());
    if (s->kind == Sequence::Kind::kIterator) s->consumed = s->items.size();
  } else if (auto* d = value.dict()) {
    if (!run.Charge(d->entries.size())) return {};
    for (const auto& entry : d->entries) items.push_back(entry.first);
  } else if (auto* t = value.text()) {
    if (!run.Charge(2 * t->size())) return {};
    for (size_t i = 0; i < t->size();) {
      size_t n = DecodeAt(t->view(), i).size;
      items.push_back(MakeText(t->Sub(i, i + n)));
      i += n;
    }
  } else if (!value.IsUndefined()) {
    run.Fail(absl::StrCat("'", ToAbsl(TypeName(value)), "' object is not iterable"));
  }
  return items;
}

Int Length(Run& run, const Value& value) {
  if (auto* t = value.text()) {
    if (!run.ChargeScan(t->size())) return 0;
    return static_cast<Int>(CountCodePoints(t->view()));
  }
  if (auto* s = value.sequence(); s && s->kind != Sequence::Kind::kIterator) return static_cast<Int>(s->items.size());
  if (auto* d = value.dict()) return static_cast<Int>(d->entries.size());
  if (auto* l = value.As<std::shared_ptr<Loop>>()) return (*l)->Length(run);
  if (value.IsUndefined()) return 0;
  run.Fail(absl::StrCat("object of type '", ToAbsl(TypeName(value)), "' has no len()"));
  return 0;
}

}  // namespace quantd::chat
