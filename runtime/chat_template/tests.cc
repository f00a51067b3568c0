// jinja2.tests.
#include <cmath>

#include "base/strings.h"
#include "runtime/chat_template/ast.h"
#include "runtime/chat_template/builtins.h"
#include "runtime/chat_template/run.h"

namespace quantd::chat {
namespace {

using Test = bool (*)(Run&, const Value&, Args&);

bool NoArguments(Run& run, Args& args) { return args.Done(run, "test"); }

Value Remainder(Run& run, const Value& value, const Value& divisor) {
  return Binary(run, static_cast<int>(Operator::kMod), value, divisor);
}
bool Odd(Run& run, const Value& v, Args& args) {
  return NoArguments(run, args) && Equal(run, Remainder(run, v, Value(Int{2})), Value(Int{1}));
}
bool Even(Run& run, const Value& v, Args& args) {
  return NoArguments(run, args) && Equal(run, Remainder(run, v, Value(Int{2})), Value(Int{0}));
}
bool DivisibleBy(Run& run, const Value& v, Args& args) {
  Value divisor = args.Need(run, "num");
  return NoArguments(run, args) && Equal(run, Remainder(run, v, divisor), Value(Int{0}));
}

bool Defined(Run& run, const Value& v, Args& args) { return NoArguments(run, args) && !v.IsUndefined(); }
bool IsUndefinedTest(Run& run, const Value& v, Args& args) { return NoArguments(run, args) && v.IsUndefined(); }
bool IsNoneTest(Run& run, const Value& v, Args& args) { return NoArguments(run, args) && v.IsNone(); }
bool Boolean(Run& run, const Value& v, Args& args) { return NoArguments(run, args) && v.As<bool>(); }
bool True(Run& run, const Value& v, Args& args) { return NoArguments(run, args) && v.As<bool>() && *v.As<bool>(); }
bool False(Run& run, const Value& v, Args& args) { return NoArguments(run, args) && v.As<bool>() && !*v.As<bool>(); }
bool Integer(Run& run, const Value& v, Args& args) { return NoArguments(run, args) && v.As<Int>(); }
bool Float(Run& run, const Value& v, Args& args) { return NoArguments(run, args) && v.As<double>(); }
bool Number(Run& run, const Value& v, Args& args) {
  return NoArguments(run, args) && (v.As<Int>() || v.As<double>() || v.As<bool>());
}
bool String(Run& run, const Value& v, Args& args) { return NoArguments(run, args) && v.text(); }
bool Mapping(Run& run, const Value& v, Args& args) { return NoArguments(run, args) && v.dict(); }
// What has a length and items; of an undefined value, too.
bool IsSequence(Run& run, const Value& v, Args& args) {
  auto* s = v.sequence();
  return NoArguments(run, args) &&
         (v.text() || v.dict() || v.IsUndefined() || (s && s->kind <= Sequence::Kind::kRange));
}
bool Iterable(Run& run, const Value& v, Args& args) {
  return NoArguments(run, args) &&
         (v.text() || v.dict() || v.IsUndefined() || v.sequence() || v.As<std::shared_ptr<Loop>>());
}
bool Callable(Run& run, const Value& v, Args& args) {
  return NoArguments(run, args) &&
         (v.As<Function>() || v.As<std::shared_ptr<Macro>>() || v.As<std::shared_ptr<const Method>>() ||
          v.As<std::shared_ptr<Loop>>() || v.IsUndefined());
}
bool Escaped(Run& run, const Value&, Args& args) { return NoArguments(run, args) && false; }
bool IsCased(Run& run, const Value& v, Args& args, bool upper) {
  const Text text = ToStr(run, v);
  return NoArguments(run, args) && run.ChargeMap(text.size()) && AllCased(text, upper);
}
bool Upper(Run& run, const Value& v, Args& args) { return IsCased(run, v, args, /*upper=*/true); }
bool Lower(Run& run, const Value& v, Args& args) { return IsCased(run, v, args, /*upper=*/false); }
bool IsFilter(Run& run, const Value& v, Args& args) {
  return NoArguments(run, args) && v.text() && HasFilter(v.text()->view());
}
bool IsTest(Run& run, const Value& v, Args& args) {
  return NoArguments(run, args) && v.text() && HasTest(v.text()->view());
}

// Identity: of singletons and of the same object.
bool SameAs(Run& run, const Value& v, Args& args) {
  Value other = args.Need(run, "other");
  if (!NoArguments(run, args) || v.v.index() != other.v.index()) return false;
  if (v.sequence()) return v.sequence() == other.sequence();
  if (v.dict()) return v.dict() == other.dict();
  return Equal(run, v, other);
}

bool In(Run& run, const Value& v, Args& args) {
  Value container = args.Need(run, "seq");
  return NoArguments(run, args) && Contains(run, container, v);
}
bool Eq(Run& run, const Value& v, Args& args) {
  Value other = args.Need(run, "other");
  return NoArguments(run, args) && Equal(run, v, other);
}
bool Ne(Run& run, const Value& v, Args& args) {
  Value other = args.Need(run, "other");
  return NoArguments(run, args) && !Equal(run, v, other);
}
template <Operator op>
bool Order(Run& run, const Value& v, Args& args) {
  Value other = args.Need(run, "other");
  return NoArguments(run, args) && Truthy(Binary(run, static_cast<int>(op), v, other)) && run.ok();
}

struct Entry {
  std::string_view name;
  Test test;
};
constexpr Entry kTests[] = {
    {"odd", Odd},
    {"even", Even},
    {"divisibleby", DivisibleBy},
    {"defined", Defined},
    {"undefined", IsUndefinedTest},
    {"none", IsNoneTest},
    {"boolean", Boolean},
    {"true", True},
    {"false", False},
    {"integer", Integer},
    {"float", Float},
    {"number", Number},
    {"string", String},
    {"mapping", Mapping},
    {"sequence", IsSequence},
    {"iterable", Iterable},
    {"callable", Callable},
    {"escaped", Escaped},
    {"upper", Upper},
    {"lower", Lower},
    {"filter", IsFilter},
    {"test", IsTest},
    {"sameas", SameAs},
    {"in", In},
    {"==", Eq},
    {"eq", Eq},
    {"equalto", Eq},
    {"!=", Ne},
    {"ne", Ne},
    {">", Order<Operator::kGt>},
    {"gt", Order<Operator::kGt>},
    {"greaterthan", Order<Operator::kGt>},
    {">=", Order<Operator::kGe>},
    {"ge", Order<Operator::kGe>},
    {"<", Order<Operator::kLt>},
    {"lt", Order<Operator::kLt>},
    {"lessthan", Order<Operator::kLt>},
    {"<=", Order<Operator::kLe>},
    {"le", Order<Operator::kLe>},
};

const Entry* Find(std::string_view name) {
  for (const Entry& entry : kTests) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

}  // namespace

bool HasTest(std::string_view name) { return Find(name) != nullptr; }

bool CallTest(Run& run, std::string_view name, const Value& input, Args args) {
  const Entry* entry = Find(name);
  if (entry == nullptr) return run.Fail(absl::StrCat("no test named '", ToAbsl(name), "'")), false;
  return entry->test(run, input, args);
}

}  // namespace quantd::chat
