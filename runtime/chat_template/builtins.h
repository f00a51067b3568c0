// The filters, tests, functions and methods of the environment: jinja2's own, tojson of transformers, and the methods
// of Python's str, list and dict.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/chat_template/value.h"

namespace quantd::chat {

// Evaluated arguments. A builtin takes what it knows; Done() fails the run for what is left.
class Args {
 public:
  std::vector<Value> positional;
  std::vector<std::pair<Text, Value>> named;  // a name may come from a client's object: f(**object)

  // The next positional argument, or the one of that name.
  std::optional<Value> Take(std::string_view name);
  Value Take(std::string_view name, Value otherwise) {
    auto value = Take(name);
    return value ? *std::move(value) : std::move(otherwise);
  }
  // A missing argument fails the run.
  Value Need(Run& run, std::string_view name);
  // Only by name.
  std::optional<Value> TakeNamed(std::string_view name);
  bool Done(Run& run, std::string_view callee);

 private:
  size_t next_ = 0;
};

// An integer argument, kept within ±kFarInt: beyond any length, and sums of a few do not overflow. Else fails the run.
inline constexpr Int kFarInt = Int{1} << 100;
bool IntArgument(Run& run, const Value& value, Int& out);

bool HasFilter(std::string_view name);
bool HasTest(std::string_view name);
bool HasFunction(std::string_view name);
// The name of a method of any type, as a literal; empty if there is none.
std::string_view FindMethod(std::string_view name);

Value CallFilter(Run& run, std::string_view name, const Value& input, Args args);
bool CallTest(Run& run, std::string_view name, const Value& input, Args args);
Value CallFunction(Run& run, std::string_view name, Args args);
Value CallMethod(Run& run, const Method& method, Args args);

// value.name and value[key] of jinja2's sandbox; what is not there is undefined.
Value GetAttr(Run& run, const Value& value, std::string_view name);
Value GetItem(Run& run, const Value& value, const Value& key);
// value[start:stop:step]; none where a part is not given.
Value GetSlice(Run& run, const Value& value, const Value& start, const Value& stop, const Value& step);

Value Binary(Run& run, int op /* Operator */, const Value& a, const Value& b);
bool Contains(Run& run, const Value& container, const Value& item);

// "%s" % args, and "{}".format(args).
Value FormatPercent(Run& run, const Text& format, const Value& args);
Value FormatBraces(Run& run, const Text& format, Args args);
// datetime.strftime of `unix_seconds`, UTC.
Value FormatTime(Run& run, const Text& format, int64_t unix_seconds);

// str.strip: of whitespace, or of the characters of `chars`.
Text Strip(Run& run, const Text& text, const Text* chars, bool left, bool right);
Text Replace(Run& run, const Text& text, std::string_view from, const Text& to, Int count);
std::vector<Text> SplitLines(Run& run, const Text& text, bool keep_ends = false);
Text Repeat(Run& run, const Text& text, Int times);
bool AllCased(const Text& text, bool upper);  // str.isupper, str.islower

}  // namespace quantd::chat
