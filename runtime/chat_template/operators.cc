// Python's operators on template values.
#include <cmath>

#include "base/strings.h"
#include "runtime/chat_template/ast.h"
#include "runtime/chat_template/builtins.h"
#include "runtime/chat_template/run.h"

namespace quantd::chat {
namespace {

std::string_view Symbol(Operator op) {
  static constexpr std::string_view kSymbols[] = {
      "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
  return kSymbols[static_cast<int>(op)];
}

Value Unsupported(Run& run, Operator op, const Value& a, const Value& b) {
  for (const Value* v : {&a, &b}) {
    if (auto* u = v->As<Undefined>()) return run.Fail(u->Why());
  }
  return run.Fail(absl::StrCat("unsupported operand type(s) for ", ToAbsl(Symbol(op)), ": '", ToAbsl(TypeName(a)),
                               "' and '", ToAbsl(TypeName(b)), "'"));
}

Value TooLarge(Run& run) { return run.Exhausted("an integer of more than 127 bits"); }

Value PowerOfInts(Run& run, Int base, Int exponent, bool trusted) {
  if (exponent < 0) {
    if (base == 0) return run.Fail("0.0 cannot be raised to a negative power");
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)), trusted);
  }
  if (base == 0 || base == 1) return Value(exponent == 0 ? Int{1} : base, trusted);
  if (base == -1) return Value(exponent % 2 == 0 ? Int{1} : Int{-1}, trusted);
  if (exponent > 127) return TooLarge(run);
  Int result = 1;
  for (Int i = 0; i < exponent; ++i) {
    if (__builtin_mul_overflow(result, base, &result)) return TooLarge(run);
  }
  return Value(result, trusted);
}

// Division rounds down, and the remainder has the divisor's sign.
Int FloorDiv(Int a, Int b) { return a / b - ((a % b != 0) && ((a < 0) != (b < 0)) ? 1 : 0); }
double FloorMod(double a, double b) {
  double r = std::fmod(a, b);
  if (r != 0 && (r < 0) != (b < 0)) r += b;
  return r == 0 ? std::copysign(0.0, b) : r;
}

Value Ints(Run& run, Operator op, Int a, Int b, bool trusted) {
  Int result = 0;
  switch (op) {
    case Operator::kAdd:
      return __builtin_add_overflow(a, b, &result) ? TooLarge(run) : Value(result, trusted);
    case Operator::kSub:
      return __builtin_sub_overflow(a, b, &result) ? TooLarge(run) : Value(result, trusted);
    case Operator::kMul:
      return __builtin_mul_overflow(a, b, &result) ? TooLarge(run) : Value(result, trusted);
    case Operator::kPow:
      return PowerOfInts(run, a, b, trusted);
    default:
      break;
  }
  if (b == 0) {
    return run.Fail(op == Operator::kDiv ? "division by zero" : "integer division or modulo by zero");
  }
  if (b == -1 && op != Operator::kDiv) {  // the one quotient that overflows is that of the smallest integer
    if (op == Operator::kMod) return Value(Int{0}, trusted);
    return __builtin_sub_overflow(Int{0}, a, &result) ? TooLarge(run) : Value(result, trusted);
  }
  if (op == Operator::kDiv) return Value(static_cast<double>(a) / static_cast<double>(b), trusted);
  Int quotient = FloorDiv(a, b);
  return Value(op == Operator::kFloorDiv ? quotient : a - quotient * b, trusted);
}

Value Doubles(Run& run, Operator op, double a, double b, bool trusted) {
  switch (op) {
    case Operator::kAdd:
      return Value(a + b, trusted);
    case Operator::kSub:
      return Value(a - b, trusted);
    case Operator::kMul:
      return Value(a * b, trusted);
    case Operator::kPow:
      if (a == 0 && b < 0) return run.Fail("0.0 cannot be raised to a negative power");
      if (a < 0 && std::floor(b) != b) return run.Fail("a complex number");
      if (double p = std::pow(a, b); !std::isinf(p) || std::isinf(a) || std::isinf(b)) return Value(p, trusted);
      return run.Fail("numerical result out of range");
    default:
      break;
  }
  if (b == 0)
    return run.Fail(op == Operator::kDiv ? "float division by zero" : "float modulo or floor division by zero");
  if (op == Operator::kDiv) return Value(a / b, trusted);
  double mod = FloorMod(a, b);
  if (op == Operator::kMod) return Value(mod, trusted);
  double quotient = (a - mod) / b, whole = std::floor(quotient);
  return Value(quotient - whole > 0.5 ? whole + 1 : whole, trusted);
}

Value RepeatSequence(Run& run, const Value& value, Int times) {
  const Sequence& s = *value.sequence();
  if (times <= 0) return MakeSequence(run, s.kind, {}, value.trusted);
  if (times > kMaxRange * 10 || !run.Charge(s.items.size() * static_cast<size_t>(times))) {
    return run.Exhausted("a repetition that is too long");
  }
  std::vector<Value> items;
  for (Int i = 0; i < times; ++i) items.insert(items.end(), s.items.begin(), s.items.end());
  return MakeSequence(run, s.kind, std::move(items), value.trusted);
}

bool IsListOrTuple(const Value& v) {
  auto* s = v.sequence();
  return s && (s->kind == Sequence::Kind::kList || s->kind == Sequence::Kind::kTuple);
}

Value Order(Run& run, Operator op, const Value& a, const Value& b) {
  double x = 0, y = 0;
  if ((a.As<double>() || b.As<double>()) && a.AsDouble(x) && b.AsDouble(y)) {  // not a number has no order
    return Value(op == Operator::kLt ? x < y : op == Operator::kLe ? x <= y : op == Operator::kGt ? x > y : x >= y);
  }
  switch (op) {
    case Operator::kLt:
      return Value(Less(run, a, b));
    case Operator::kGt:
      return Value(Less(run, b, a));
    case Operator::kLe:
      return Value(!Less(run, b, a));
    default:
      return Value(!Less(run, a, b));
  }
}

}  // namespace

Text Repeat(Run& run, const Text& text, Int times) {
  Text out;
  if (times <= 0 || text.empty()) return out;
  if (times > static_cast<Int>(run.limits().output_bytes) ||
      !run.ChargeText(text.size() * static_cast<size_t>(times)) ||
      !run.Charge((text.runs() / 4 + 1) * static_cast<size_t>(times))) {
    run.Exhausted("a repetition that is too long");
    return out;
  }
  for (Int i = 0; i < times; ++i) out.Append(text);
  return out;
}

Value Binary(Run& run, int code, const Value& a, const Value& b) {
  auto op = static_cast<Operator>(code);
  if (op >= Operator::kLt && op <= Operator::kGe) return Order(run, op, a, b);
  bool trusted = a.trusted && b.trusted;
  Int i = 0, j = 0;
  if (op == Operator::kMod && a.text()) return FormatPercent(run, *a.text(), b);
  if (a.AsInt(i) && b.AsInt(j)) return Ints(run, op, i, j, trusted);
  double x = 0, y = 0;
  if (a.AsDouble(x) && b.AsDouble(y)) return Doubles(run, op, x, y, trusted);
  if (op == Operator::kAdd) {
    if (a.text() && b.text()) {
      if (!run.ChargeText(a.text()->size() + b.text()->size()) || !run.ChargeText(*a.text()) ||
          !run.ChargeText(*b.text())) {
        return {};
      }
      Text text = *a.text();
      text.Append(*b.text());
      return MakeText(std::move(text));
    }
    if (IsListOrTuple(a) && IsListOrTuple(b) && a.sequence()->kind == b.sequence()->kind) {
      if (!run.Charge(a.sequence()->items.size() + b.sequence()->items.size())) return {};
      std::vector<Value> items = a.sequence()->items;
      items.insert(items.end(), b.sequence()->items.begin(), b.sequence()->items.end());
      return MakeSequence(run, a.sequence()->kind, std::move(items), trusted);
    }
  }
  if (op == Operator::kMul) {
    if (a.text() && b.AsInt(j)) return MakeText(Repeat(run, *a.text(), j));
    if (b.text() && a.AsInt(i)) return MakeText(Repeat(run, *b.text(), i));
    if (IsListOrTuple(a) && b.AsInt(j)) return RepeatSequence(run, a, j);
    if (IsListOrTuple(b) && a.AsInt(i)) return RepeatSequence(run, b, i);
  }
  return Unsupported(run, op, a, b);
}

bool Contains(Run& run, const Value& container, const Value& item) {
  if (auto* t = container.text()) {
    if (item.text() == nullptr) {
      if (auto* u = item.As<Undefined>()) return run.Fail(u->Why()), false;
      run.Fail(absl::StrCat("'in <string>' requires string as left operand, not ", ToAbsl(TypeName(item))));
      return false;
    }
    if (!run.ChargeScan(t->size() + item.text()->size())) return false;
    return FindPart(t->view(), item.text()->view()) != std::string_view::npos;
  }
  if (auto* d = container.dict()) {
    std::string key;
    if (CanonicalKey(run, item, key)) return d->index.count(key) > 0;
    run.Fail(absl::StrCat("unhashable type: '", ToAbsl(TypeName(item)), "'"));
    return false;
  }
  if (container.sequence() == nullptr && !container.IsUndefined()) {
    run.Fail(absl::StrCat("argument of type '", ToAbsl(TypeName(container)), "' is not iterable"));
    return false;
  }
  for (const Value& member : Iterate(run, container)) {
    if (!run.ok()) return false;
    if (Equal(run, member, item)) return true;
  }
  return false;
}

}  // namespace quantd::chat
