// Values of the template language: Python's, as far as published templates see them. Containers are immutable (the
// sandbox of transformers forbids their mutation); a namespace is the one thing that can be assigned to.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "runtime/chat_template/text.h"

namespace quantd::chat {

using Int = __int128;  // Python's int, bounded: an overflow is an error, never a wrap

class Run;
struct Sequence;
struct Dict;
struct Namespace;
struct Loop;
struct Macro;
struct Method;

struct Undefined {
  std::shared_ptr<const std::string> why;  // what an operation on it fails with: "'x' is undefined"
  std::string Why() const { return why ? *why : "an undefined value"; }
};
struct None {};
// A function of the environment: range, dict, namespace, raise_exception, strftime_now. `name` is a literal.
struct Function {
  std::string_view name;
};
using Str = std::shared_ptr<const Text>;

struct Value {
  std::variant<Undefined, None, bool, Int, double, Str, std::shared_ptr<Sequence>, std::shared_ptr<const Dict>,
               std::shared_ptr<Namespace>, std::shared_ptr<Loop>, std::shared_ptr<Macro>, std::shared_ptr<const Method>,
               Function>
      v;
  // Whether the text of a number and the punctuation of a container come from the template. A string says it per byte.
  bool trusted = true;

  Value() = default;
  template <typename T>
  explicit Value(T value, bool from_template = true) : v(std::move(value)), trusted(from_template) {}

  template <typename T>
  const T* As() const {
    return std::get_if<T>(&v);
  }
  bool IsUndefined() const { return As<Undefined>() != nullptr; }
  bool IsNone() const { return As<None>() != nullptr; }
  const Text* text() const { return As<Str>() ? As<Str>()->get() : nullptr; }
  Sequence* sequence() const {
    auto* p = As<std::shared_ptr<Sequence>>();
    return p ? p->get() : nullptr;
  }
  const Dict* dict() const {
    auto* p = As<std::shared_ptr<const Dict>>();
    return p ? p->get() : nullptr;
  }
  // An int or a bool (which is an int in Python), else nothing.
  bool AsInt(Int& out) const;
  // An int, a bool or a float.
  bool AsDouble(double& out) const;
};

inline Value MakeText(Text text) { return Value(Str(std::make_shared<const Text>(std::move(text)))); }
inline Value MakeString(std::string_view bytes, bool trusted) { return MakeText(Text(bytes, trusted)); }
Value MakeUndefined(std::string why);

struct Sequence {
  enum class Kind { kList, kTuple, kRange, kKeys, kValues, kItems, kIterator };
  Kind kind = Kind::kList;
  std::vector<Value> items;
  size_t consumed = 0;  // of an iterator: items already taken
  struct {
    Int start = 0, stop = 0, step = 1;
  } range;                  // of a range
  bool is_group = false;    // a tuple of groupby: its items are also named grouper and list
  bool is_content = false;  // the parts of a message's content, which no template means to print as a list
  int depth = 1;            // 1 + the deepest item's: bounds every walk, and the destructor
};

struct Dict {
  std::vector<std::pair<Value, Value>> entries;   // in order of insertion
  std::unordered_map<std::string, size_t> index;  // canonical key → entry
  int depth = 1;

  const Value* Find(Run& run, const Value& key) const;
  const Value* Find(std::string_view key) const;
  // The value at `key`, a new one at the end where there is none. Null: the run has failed.
  Value* Slot(Run& run, Value key);
};

struct Namespace {
  Dict attributes;  // the keys are texts
};

// A method with the value it was taken from. `name` outlives the render: it is the template's.
struct Method {
  Value self;
  std::string_view name;
  int depth = 1;
};

// Python's type name, for messages.
std::string_view TypeName(const Value& value);
bool Truthy(const Value& value);
int DepthOf(const Value& value);

// Appends a dict's key in a form that is equal where Python's keys are equal (1, 1.0 and true are one key). False: not
// hashable, or the run has failed.
bool CanonicalKey(Run& run, const Value& key, std::string& out);

// Walks are charged to the run; on its failure the result means nothing.
bool Equal(Run& run, const Value& a, const Value& b);
// a < b as Python defines it; fails the run for types that have no order.
bool Less(Run& run, const Value& a, const Value& b);
Text ToStr(Run& run, const Value& value);
Text ToRepr(Run& run, const Value& value);
std::string IntRepr(Int value);
std::string FloatRepr(double value);

// Makers that bound the depth and charge the memory.
Value MakeSequence(Run& run, Sequence::Kind kind, std::vector<Value> items, bool trusted = true);
inline Value MakeList(Run& run, std::vector<Value> items, bool trusted = true) {
  return MakeSequence(run, Sequence::Kind::kList, std::move(items), trusted);
}
class DictBuilder {
 public:
  explicit DictBuilder(Run& run) : run_(run), dict_(std::make_shared<Dict>()) {}
  void Set(Value key, Value value);
  Value Build(bool trusted = true) { return Value(std::shared_ptr<const Dict>(std::move(dict_)), trusted); }

 private:
  Run& run_;
  std::shared_ptr<Dict> dict_;
};

// What a for loop would see; fails the run where Python has no iterator. An iterator is consumed.
std::vector<Value> Iterate(Run& run, const Value& value);
// len(); fails the run where Python has none.
Int Length(Run& run, const Value& value);

}  // namespace quantd::chat
