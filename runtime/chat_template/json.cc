#include "runtime/chat_template/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/strings.h"
#include "runtime/chat_template/run.h"
#include "runtime/json.h"

namespace quantd::chat {
namespace {

// Builds values straight from the parser's events: no tree of the library's, and the run's bounds hold while parsing.
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(Run& run) : run_(run) {}
  Value result;
  std::string error;

  bool null() override { return Put(Value(None{}, false)); }
  bool boolean(bool b) override { return Put(Value(b, false)); }
  bool number_integer(number_integer_t i) override { return Put(Value(Int{i}, false)); }
  bool number_unsigned(number_unsigned_t i) override { return Put(Value(static_cast<Int>(i), false)); }
  bool number_float(number_float_t d, const string_t& raw) override {
    if (raw.find_first_of(".eE") != std::string::npos) return Put(Value(static_cast<double>(d), false));
    Int value = 0;  // an integer that does not fit the library's types
    for (char c : raw) {
      if (c == '-') continue;
      if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, c - '0', &value)) {
        error = "an integer of more than 127 bits";
        return false;
      }
    }
    return Put(Value(raw[0] == '-' ? -value : value, false));
  }
  bool string(string_t& s) override { return run_.ChargeText(s.size()) && Put(MakeString(s, false)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return Open(true); }
  bool start_array(std::size_t) override { return Open(false); }
  bool key(string_t& s) override {
    open_.back().key = MakeString(s, false);
    return run_.ChargeText(s.size());
  }
  bool end_object() override {
    Value value = open_.back().dict->Build(false);
    open_.pop_back();
    return Put(std::move(value));
  }
  bool end_array() override {
    Value value = MakeList(run_, std::move(open_.back().items), false);
    open_.pop_back();
    return Put(std::move(value));
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    error = "not JSON, at byte " + std::to_string(position);
    return false;
  }

 private:
  struct Container {
    std::optional<DictBuilder> dict;  // else a list
    Value key;
    std::vector<Value> items;
  };

  bool Open(bool object) {
    if (open_.size() >= static_cast<size_t>(kMaxValueDepth)) {
      error = "nested too deeply";
      return false;
    }
    open_.emplace_back();
    if (object) open_.back().dict.emplace(run_);
    return true;
  }
  bool Put(Value value) {
    if (open_.empty()) {
      result = std::move(value);
    } else if (open_.back().dict) {
      open_.back().dict->Set(std::move(open_.back().key), std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return run_.Charge(1);
  }

  Run& run_;
  std::vector<Container> open_;
};

class Writer {
 public:
  Writer(Run& run, const JsonStyle& style) : run_(run), style_(style) {}

  void Write(const Value& value, int level) {
    if (!run_.Charge(1) || level > kMaxValueDepth) return;
    if (out.size() > run_.limits().output_bytes) return void(run_.ChargeText(out.size()));
    if (auto* t = value.text()) return String(*t);
    if (value.IsNone()) return out.Append("null", value.trusted);
    if (auto* b = value.As<bool>()) return out.Append(*b ? "true" : "false", value.trusted);
    if (auto* i = value.As<Int>()) return out.Append(IntRepr(*i), value.trusted);
    if (auto* d = value.As<double>()) return out.Append(Float(*d), value.trusted);
    auto* s = value.sequence();
    if (s && (s->kind == Sequence::Kind::kList || s->kind == Sequence::Kind::kTuple))
      return List(*s, value.trusted, level);
    if (auto* d = value.dict()) return Object(*d, value.trusted, level);
    run_.Fail(absl::StrCat("Object of type ", ToAbsl(TypeName(value)), " is not JSON serializable"));
  }

  Text out;

 private:
  static std::string Float(double d) {
    if (std::isnan(d)) return "NaN";
    if (std::isinf(d)) return d < 0 ? "-Infinity" : "Infinity";
    return FloatRepr(d);
  }

  // The punctuation of data is data, wherever its characters come from.
  void Punctuate(const Text& text, bool trusted) {
    if (trusted) return out.Append(text);
    out.Append(text.view(), false);
  }

  void NewLine(int level, bool trusted) {
    if (!style_.lines || !run_.ChargeText(style_.indent.size() * static_cast<size_t>(level))) return;
    out.Append("\n", trusted);
    for (int i = 0; i < level; ++i) Punctuate(style_.indent, trusted);
  }

  void List(const Sequence& list, bool trusted, int level) {
    if (list.items.empty()) return out.Append("[]", trusted);
    out.Append("[", trusted);
    for (size_t i = 0; i < list.items.size() && run_.ok(); ++i) {
      if (i > 0) Punctuate(style_.item_separator, trusted);
      NewLine(level + 1, trusted);
      Write(list.items[i], level + 1);
    }
    NewLine(level, trusted);
    out.Append("]", trusted);
  }

  void Object(const Dict& dict, bool trusted, int level) {
    if (dict.entries.empty()) return out.Append("{}", trusted);
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [this](const auto* a, const auto* b) { return Less(run_, a->first, b->first); });
    }
    out.Append("{", trusted);
    for (size_t i = 0; i < entries.size() && run_.ok(); ++i) {
      if (i > 0) Punctuate(style_.item_separator, trusted);
      NewLine(level + 1, trusted);
      Key(entries[i]->first);
      Punctuate(style_.key_separator, trusted);
      Write(entries[i]->second, level + 1);
    }
    NewLine(level, trusted);
    out.Append("}", trusted);
  }

  // Keys of JSON are strings; numbers, booleans and none are quoted.
  void Key(const Value& key) {
    if (auto* t = key.text()) return String(*t);
    if (key.sequence() || key.IsUndefined()) {
      return void(run_.Fail(absl::StrCat("keys must be str, int, float, bool or None, not ", ToAbsl(TypeName(key)))));
    }
    out.Append("\"", key.trusted);
    Write(key, 0);
    out.Append("\"", key.trusted);
  }

  void String(const Text& text) {
    if (!run_.ChargeText(text.size() * 2) || !run_.ChargeScan(text.size()) || !run_.Charge(text.runs() / 4)) return;
    out.Append("\"", text.AllTrusted());
    size_t done = 0;  // what is plain is taken as it is, in one piece
    for (size_t i = 0; i < text.size();) {
      CodePoint p = DecodeAt(text.view(), i);
      bool plain = p.value >= 0x20 && p.value != '"' && p.value != '\\' && !(style_.ascii && p.value > 0x7F);
      if (!plain) {
        if (!run_.Charge(2)) return;
        out.Append(text, done, i);
        out.Append(Escape(p.value), text.OriginAt(i));
        done = i + p.size;
      }
      i += p.size;
    }
    out.Append(text, done, text.size());
    out.Append("\"", text.AllTrusted());
  }

  static std::string Escape(char32_t c) {
    switch (c) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\f':
        return "\\f";
      case '\b':
        return "\\b";
      default:
        break;
    }
    char buffer[16];
    auto unit = [](char32_t value) { return static_cast<unsigned>(value); };
    if (c < 0x10000) {
      std::snprintf(buffer, sizeof(buffer), "\\u%04x", unit(c));
    } else {
      std::snprintf(buffer, sizeof(buffer), "\\u%04x\\u%04x", unit(0xD800 + ((c - 0x10000) >> 10)),
                    unit(0xDC00 + ((c - 0x10000) & 0x3FF)));
    }
    return buffer;
  }

  Run& run_;
  const JsonStyle& style_;
};

}  // namespace

absl::StatusOr<Value> ParseJson(Run& run, std::string_view text) {
  // nlohmann takes a NUL for the end of the text.
  if (text.find('\0') != text.npos) return absl::InvalidArgumentError("a NUL in JSON");
  Builder builder(run);
  bool parsed = Json::sax_parse(text.begin(), text.end(), &builder);
  if (!run.ok()) return run.status();
  if (!parsed) return absl::InvalidArgumentError(builder.error);
  return std::move(builder.result);
}

Text ToJson(Run& run, const Value& value, const JsonStyle& style) {
  Writer writer(run, style);
  writer.Write(value, 0);
  return std::move(writer.out);
}

}  // namespace quantd::chat
