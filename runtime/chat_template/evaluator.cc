#include "runtime/chat_template/evaluator.h"

#include <algorithm>

#include "base/strings.h"

namespace quantd::chat {

void Scope::Set(Run& run, std::string_view name, Value value) {
  run.Charge(variables.size() / 16);
  for (auto& [key, old] : variables) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(name, std::move(value));
}

// ---- loops ----

std::optional<Value> Loop::Pull() {
  while (next < items.size()) {
    Value item = std::move(items[next++]);
    if (!tested || evaluator->PassesTest(*stmt, item, outer)) return item;
  }
  return std::nullopt;
}

const Value* Loop::Peek(Run& run) {
  if (!after && run.ok()) after = Pull();
  return after ? &*after : nullptr;
}

bool Loop::Advance(Run& run) {
  std::optional<Value> item = after ? std::exchange(after, std::nullopt) : Pull();
  if (!item || !run.ok()) return false;
  ++index0;
  before = std::exchange(current, *std::move(item));
  return true;
}

Int Loop::Length(Run& run) {
  if (!length) {
    if (tested) {
      std::vector<Value> rest;
      while (run.ok()) {
        std::optional<Value> item = Pull();
        if (!item) break;
        rest.push_back(*std::move(item));
      }
      items = std::move(rest);
      next = 0;
      tested = false;
    }
    length = static_cast<Int>(items.size() - next) + index0 + 1 + (after ? 1 : 0);
  }
  return *length;
}

std::optional<Value> Loop::Attribute(Run& run, std::string_view name) {
  if (name == "index0") return Value(Int{index0});
  if (name == "index") return Value(Int{index0} + 1);
  if (name == "first") return Value(index0 == 0);
  if (name == "last") return Value(Peek(run) == nullptr);
  if (name == "length") return Value(Length(run));
  if (name == "revindex") return Value(Length(run) - index0);
  if (name == "revindex0") return Value(Length(run) - index0 - 1);
  if (name == "depth") return Value(Int{depth0} + 1);
  if (name == "depth0") return Value(Int{depth0});
  if (name == "previtem") return index0 == 0 ? MakeUndefined("there is no previous item") : before;
  if (name == "nextitem") {
    const Value* item = Peek(run);
    return item ? *item : MakeUndefined("there is no next item");
  }
  return std::nullopt;
}

bool Evaluator::PassesTest(const Stmt& loop, const Value& item, const ScopePtr& outer) {
  if (!run_.Charge(1)) return false;
  auto scope = std::make_shared<Scope>(outer);
  Assign(*loop.target, item, scope);
  return Truthy(Eval(*loop.test, scope));
}

// ---- statements ----

// Counts C++ recursion, so that no template overflows the stack.
struct Evaluator::Nesting {
  explicit Nesting(Evaluator& e) : evaluator(e) {
    if (++e.nesting_ > e.run_.limits().depth * 16) e.run_.Exhausted("nested too deeply");
  }
  ~Nesting() { --evaluator.nesting_; }
  Evaluator& evaluator;
};

Evaluator::~Evaluator() {
  // Cycles go through these alone; emptied one by one, no destructor recurses further than a value is deep.
  for (auto& ns : run_.namespaces) ns->attributes = {};
  for (auto& scope : run_.closures) scope->variables.clear();
  for (auto& loop : run_.loops) loop->last_changed.clear();
}

Text Evaluator::Render(const Body& body, const ScopePtr& scope) { return Capture(body, scope); }

Text Evaluator::Capture(const Body& body, const ScopePtr& scope) {
  Text text;
  Text* outer = std::exchange(out_, &text);
  Exec(body, scope);
  out_ = outer;
  return text;
}

void Evaluator::Write(const Text& text) {
  if (!run_.ok()) return;
  if (out_->size() + text.size() > run_.limits().output_bytes) {
    run_.Exhausted(absl::StrCat("an output of more than ", run_.limits().output_bytes, " bytes"));
    return;
  }
  if (run_.ChargeText(text)) out_->Append(text);
}

Evaluator::Flow Evaluator::Exec(const Body& body, const ScopePtr& scope) {
  Nesting nesting(*this);
  for (const auto& stmt : body) {
    run_.line = stmt->line;
    if (!run_.Charge(1)) break;
    Flow flow = ExecOne(*stmt, scope);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::ExecOne(const Stmt& stmt, const ScopePtr& scope) {
  switch (stmt.kind) {
    case Stmt::Kind::kText:
      Write(*stmt.text);
      break;
    case Stmt::Kind::kOutput:
      Write(ToStr(run_, Eval(*stmt.value, scope)));
      break;
    case Stmt::Kind::kIf:
      for (const auto& [test, body] : stmt.branches) {
        if (test == nullptr || Truthy(Eval(*test, scope))) return run_.ok() ? Exec(body, scope) : Flow::kNext;
      }
      break;
    case Stmt::Kind::kFor: {
      Value iterable = Eval(*stmt.value, scope);
      return ExecFor(stmt, Iterate(run_, iterable), scope, 0);
    }
    case Stmt::Kind::kSet:
      Assign(*stmt.target, Eval(*stmt.value, scope), scope);
      break;
    case Stmt::Kind::kSetBlock: {
      Value text = MakeText(Capture(stmt.body, std::make_shared<Scope>(scope)));
      if (stmt.value != nullptr) text = EvalFilter(*stmt.value, scope, &text);
      Assign(*stmt.target, text, scope);
      break;
    }
    case Stmt::Kind::kMacro:
      scope->Set(run_, stmt.name, MakeMacro(stmt, stmt.name, scope));
      break;
    case Stmt::Kind::kCallBlock: {
      Value caller = MakeMacro(stmt, "caller", scope);
      Write(ToStr(run_, EvalCall(*stmt.value, scope, &caller)));
      break;
    }
    case Stmt::Kind::kFilterBlock: {
      Value text = MakeText(Capture(stmt.body, std::make_shared<Scope>(scope)));
      Write(ToStr(run_, EvalFilter(*stmt.value, scope, &text)));
      break;
    }
    case Stmt::Kind::kWith:
      ExecWith(stmt, scope);
      break;
    case Stmt::Kind::kScope:
      Exec(stmt.body, std::make_shared<Scope>(scope));
      break;
    case Stmt::Kind::kBreak:
      return Flow::kBreak;
    case Stmt::Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::ExecFor(const Stmt& stmt, std::vector<Value> items, const ScopePtr& scope, int depth0) {
  auto loop = std::make_shared<Loop>();
  loop->evaluator = this;
  loop->stmt = &stmt;
  loop->outer = scope;
  loop->items = std::move(items);
  loop->tested = stmt.test != nullptr;
  loop->depth0 = depth0;
  for (const Value& item : loop->items) loop->depth = std::max(loop->depth, DepthOf(item) + 1);
  if (loop->depth > kMaxValueDepth) run_.Exhausted("a value nested too deeply");
  bool completed = false;  // jinja2 runs the else where no body came to its end, be it for a break or a continue
  while (run_.Charge(1) && loop->Advance(run_)) {
    auto inner = std::make_shared<Scope>(scope);
    inner->Set(run_, "loop", Value(loop));
    Assign(*stmt.target, loop->current, inner);
    Flow flow = Exec(stmt.body, inner);
    completed = completed || flow == Flow::kNext;
    if (flow == Flow::kBreak) break;
  }
  if (!completed && run_.ok()) return Exec(stmt.orelse, std::make_shared<Scope>(scope));
  return Flow::kNext;
}

void Evaluator::ExecWith(const Stmt& stmt, const ScopePtr& scope) {
  auto inner = std::make_shared<Scope>(scope);
  for (const auto& [target, value] : stmt.assignments) Assign(*target, Eval(*value, scope), inner);
  Exec(stmt.body, inner);
}

void Evaluator::Assign(const Expr& target, const Value& value, const ScopePtr& scope) {
  if (!run_.ok()) return;
  switch (target.kind) {
    case Expr::Kind::kName:
      scope->Set(run_, target.name, value);
      return;
    case Expr::Kind::kNamespaceRef: {
      Value holder = Lookup(target.name, scope);
      auto* ns = holder.As<std::shared_ptr<Namespace>>();
      if (ns == nullptr) return void(run_.Fail("cannot assign attribute on non-namespace object"));
      if (target.attribute[0] == '_') return void(run_.Fail("a namespace takes no attribute that begins with '_'"));
      if (Value* slot = (*ns)->attributes.Slot(run_, MakeString(target.attribute, true))) *slot = value;
      return;
    }
    default:
      break;
  }
  std::vector<Value> items = Iterate(run_, value);
  size_t expected = target.operands.size();
  if (run_.ok() && items.size() != expected) {
    run_.Fail(items.size() > expected
                  ? absl::StrCat("too many values to unpack (expected ", expected, ")")
                  : absl::StrCat("not enough values to unpack (expected ", expected, ", got ", items.size(), ")"));
  }
  for (size_t i = 0; i < expected && run_.ok(); ++i) Assign(*target.operands[i], items[i], scope);
}

// ---- macros ----

Value Evaluator::MakeMacro(const Stmt& stmt, std::string name, const ScopePtr& scope) {
  if (run_.closures.empty() || run_.closures.back() != scope) run_.closures.push_back(scope);
  return Value(std::make_shared<Macro>(Macro{&stmt, std::move(name), scope}));
}

// jinja2.runtime.Macro.__call__: positional arguments, then names, then defaults; what is left goes to varargs and
// kwargs where the body names them.
Value Evaluator::CallMacro(const Macro& macro, Args args) {
  const Stmt& stmt = *macro.stmt;
  if (calls_ >= run_.limits().depth) return run_.Exhausted("macros nested too deeply");
  auto scope = std::make_shared<Scope>(macro.closure);
  bool explicit_caller = false;
  size_t taken = std::min(args.positional.size(), stmt.parameters.size());
  for (size_t i = 0; i < stmt.parameters.size() && run_.ok(); ++i) {
    const Parameter& parameter = stmt.parameters[i];
    explicit_caller = explicit_caller || parameter.name == "caller";
    std::optional<Value> value;
    if (i < taken) {
      value = args.positional[i];
    } else if (run_.Charge(args.named.size() / 16)) {
      value = args.TakeNamed(parameter.name);
    }
    if (!value) {
      value = parameter.default_value != nullptr ? Eval(*parameter.default_value, scope)
                                                 : MakeUndefined("parameter '" + parameter.name + "' was not provided");
    }
    scope->Set(run_, parameter.name, *std::move(value));
  }
  if (stmt.uses_caller && !explicit_caller) {
    scope->Set(run_, "caller", args.TakeNamed("caller").value_or(MakeUndefined("No caller defined")));
  }
  if (stmt.uses_kwargs) {
    DictBuilder kwargs(run_);
    for (auto& [name, value] : args.named) kwargs.Set(MakeText(std::move(name)), std::move(value));
    scope->Set(run_, "kwargs", kwargs.Build());
  } else if (!args.named.empty()) {
    return run_.Fail("macro '" + macro.name + "' takes no keyword argument '" +
                     std::string(args.named[0].first.view()) + "'");
  }
  if (stmt.uses_varargs) {
    std::vector<Value> rest(args.positional.begin() + static_cast<ptrdiff_t>(taken), args.positional.end());
    scope->Set(run_, "varargs", MakeSequence(run_, Sequence::Kind::kTuple, std::move(rest)));
  } else if (args.positional.size() > taken) {
    return run_.Fail(
        absl::StrCat("macro '", macro.name, "' takes not more than ", stmt.parameters.size(), " argument(s)"));
  }
  if (!run_.ok()) return {};
  ++calls_;
  Value result = MakeText(Capture(stmt.body, scope));
  --calls_;
  return result;
}

// ---- expressions ----

Value Evaluator::Lookup(std::string_view name, const ScopePtr& scope) {
  size_t seen = 0;
  for (const Scope* s = scope.get(); s != nullptr; s = s->parent.get()) {
    for (const auto& [key, value] : s->variables) {
      if (++seen % 16 == 0) run_.Charge(1);
      if (key == name) return value;
    }
  }
  if (HasFunction(name)) return Value(Function{name});
  return MakeUndefined("'" + std::string(name) + "' is undefined");
}

Value Evaluator::Eval(const Expr& e, const ScopePtr& scope) {
  Nesting nesting(*this);
  if (!run_.Charge(1)) return {};
  run_.line = e.line;
  return EvalNode(e, scope);
}

Value Evaluator::EvalNode(const Expr& e, const ScopePtr& scope) {
  switch (e.kind) {
    case Expr::Kind::kConst:
      return e.constant;
    case Expr::Kind::kName:
      return Lookup(e.name, scope);
    case Expr::Kind::kList:
    case Expr::Kind::kTuple: {
      std::vector<Value> items;
      for (const ExprPtr& operand : e.operands) items.push_back(Eval(*operand, scope));
      auto kind = e.kind == Expr::Kind::kList ? Sequence::Kind::kList : Sequence::Kind::kTuple;
      return MakeSequence(run_, kind, std::move(items));
    }
    case Expr::Kind::kDict: {
      DictBuilder dict(run_);
      for (size_t i = 0; i + 1 < e.operands.size() && run_.ok(); i += 2) {
        Value key = Eval(*e.operands[i], scope);
        dict.Set(std::move(key), Eval(*e.operands[i + 1], scope));
      }
      return dict.Build();
    }
    case Expr::Kind::kNeg:
    case Expr::Kind::kPos:
      return EvalSign(e, scope);
    case Expr::Kind::kNot:
      return Value(!Truthy(Eval(*e.operands[0], scope)));
    case Expr::Kind::kBinary: {
      Value left = Eval(*e.operands[0], scope);
      for (size_t i = 0; i < e.operators.size() && run_.ok(); ++i) {
        Value right = Eval(*e.operands[i + 1], scope);
        if (run_.Charge(1)) left = Binary(run_, static_cast<int>(e.operators[i]), left, right);
      }
      return left;
    }
    case Expr::Kind::kCompare:
      return EvalCompare(e, scope);
    case Expr::Kind::kAnd:
    case Expr::Kind::kOr: {
      Value value;
      for (const ExprPtr& operand : e.operands) {
        value = Eval(*operand, scope);
        if (!run_.ok() || Truthy(value) == (e.kind == Expr::Kind::kOr)) break;
      }
      return value;
    }
    case Expr::Kind::kConcat: {
      Text text;
      for (const ExprPtr& operand : e.operands) {
        Text part = ToStr(run_, Eval(*operand, scope));
        if (!run_.ChargeText(text.size() + part.size()) || !run_.ChargeText(part)) return {};
        text.Append(part);
      }
      return MakeText(std::move(text));
    }
    case Expr::Kind::kCond:
      if (Truthy(Eval(*e.operands[0], scope))) return Eval(*e.operands[1], scope);
      if (e.operands[2] != nullptr) return Eval(*e.operands[2], scope);
      return MakeUndefined("the inline if-expression evaluated to false and no else section was defined");
    case Expr::Kind::kGetattr: {
      Value object = Eval(*e.operands[0], scope);
      return run_.ok() ? GetAttr(run_, object, e.name) : Value();
    }
    case Expr::Kind::kGetitem:
      return EvalItem(e, scope);
    case Expr::Kind::kFilter:
      return EvalFilter(e, scope, nullptr);
    case Expr::Kind::kTest: {
      Value value = Eval(*e.operands[0], scope);
      Args args = EvalArgs(e.args, scope);
      return Value(run_.ok() && CallTest(run_, e.name, value, std::move(args)));
    }
    case Expr::Kind::kCall:
      return EvalCall(e, scope, nullptr);
    case Expr::Kind::kNamespaceRef:
    case Expr::Kind::kSlice:
      break;  // never evaluated by themselves
  }
  return run_.Fail("unexpected expression");
}

Value Evaluator::EvalCompare(const Expr& e, const ScopePtr& scope) {
  Value left = Eval(*e.operands[0], scope);
  for (size_t i = 0; i < e.operators.size() && run_.ok(); ++i) {
    Value right = Eval(*e.operands[i + 1], scope);
    if (!run_.ok()) return {};
    bool holds = false;
    switch (e.operators[i]) {
      case Operator::kEq:
        holds = Equal(run_, left, right);
        break;
      case Operator::kNe:
        holds = !Equal(run_, left, right);
        break;
      case Operator::kIn:
        holds = Contains(run_, right, left);
        break;
      case Operator::kNotIn:
        holds = !Contains(run_, right, left);
        break;
      default:
        holds = Truthy(Binary(run_, static_cast<int>(e.operators[i]), left, right));
        break;
    }
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Evaluator::EvalSign(const Expr& e, const ScopePtr& scope) {
  Value value = Eval(*e.operands[0], scope);
  bool negate = e.kind == Expr::Kind::kNeg;
  Int i = 0;
  if (value.AsInt(i)) {
    if (negate && __builtin_sub_overflow(Int{0}, i, &i)) return run_.Exhausted("an integer of more than 127 bits");
    return Value(i, value.trusted);
  }
  if (auto* d = value.As<double>()) return Value(negate ? -*d : *d, value.trusted);
  if (auto* u = value.As<Undefined>()) return run_.Fail(u->Why());
  return run_.Fail(
      absl::StrCat("bad operand type for unary ", negate ? "-" : "+", ": '", ToAbsl(TypeName(value)), "'"));
}

Value Evaluator::EvalItem(const Expr& e, const ScopePtr& scope) {
  Value object = Eval(*e.operands[0], scope);
  const Expr& key = *e.operands[1];
  if (key.kind != Expr::Kind::kSlice) {
    Value index = Eval(key, scope);
    return run_.ok() ? GetItem(run_, object, index) : Value();
  }
  Value parts[3];
  for (int i = 0; i < 3; ++i) parts[i] = key.operands[i] != nullptr ? Eval(*key.operands[i], scope) : Value(None{});
  return run_.ok() ? GetSlice(run_, object, parts[0], parts[1], parts[2]) : Value();
}

Args Evaluator::EvalArgs(const CallArgs& from, const ScopePtr& scope) {
  Args args;
  for (const ExprPtr& e : from.positional) args.positional.push_back(Eval(*e, scope));
  if (from.star != nullptr) {
    for (Value& item : Iterate(run_, Eval(*from.star, scope))) args.positional.push_back(std::move(item));
  }
  for (const auto& [name, e] : from.named) args.named.emplace_back(Text(name, true), Eval(*e, scope));
  if (from.star_star != nullptr) {
    Value value = Eval(*from.star_star, scope);
    const Dict* dict = value.dict();
    if (dict == nullptr && run_.ok()) run_.Fail("argument after ** must be a mapping");
    if (dict != nullptr && run_.Charge(dict->entries.size())) {
      for (const auto& [key, item] : dict->entries) {
        if (key.text() == nullptr) {
          run_.Fail("keywords must be strings");
          return args;
        }
        args.named.emplace_back(*key.text(), item);
      }
    }
  }
  return args;
}

Value Evaluator::EvalCall(const Expr& e, const ScopePtr& scope, const Value* caller) {
  Value callee = Eval(*e.operands[0], scope);
  if (!run_.ok()) return {};
  Args args = EvalArgs(e.args, scope);
  if (caller != nullptr) args.named.emplace_back(Text("caller", true), *caller);
  if (!run_.ok()) return {};
  run_.line = e.line;
  if (auto* macro = callee.As<std::shared_ptr<Macro>>()) return CallMacro(**macro, std::move(args));
  if (auto* method = callee.As<std::shared_ptr<const Method>>()) return CallMethod(run_, **method, std::move(args));
  if (auto* function = callee.As<Function>()) return CallFunction(run_, function->name, std::move(args));
  if (auto* loop = callee.As<std::shared_ptr<Loop>>()) {
    if (!(*loop)->stmt->recursive)
      return run_.Fail("the loop must have the 'recursive' marker to be called recursively");
    if (calls_ >= run_.limits().depth) return run_.Exhausted("loops nested too deeply");
    std::vector<Value> items = Iterate(run_, args.Need(run_, "iterable"));
    if (!args.Done(run_, "loop")) return {};
    Text text;
    Text* outer = std::exchange(out_, &text);
    ++calls_;
    {
      Nesting nesting(*this);
      ExecFor(*(*loop)->stmt, std::move(items), (*loop)->outer, (*loop)->depth0 + 1);
    }
    --calls_;
    out_ = outer;
    return MakeText(std::move(text));
  }
  if (auto* u = callee.As<Undefined>()) return run_.Fail(u->Why());
  return run_.Fail(absl::StrCat("'", ToAbsl(TypeName(callee)), "' object is not callable"));
}

Value Evaluator::EvalFilter(const Expr& e, const ScopePtr& scope, const Value* body) {
  Value input = e.operands[0] != nullptr ? (e.operands[0]->kind == Expr::Kind::kFilter && body != nullptr
                                                ? EvalFilter(*e.operands[0], scope, body)
                                                : Eval(*e.operands[0], scope))
                                         : *body;
  Args args = EvalArgs(e.args, scope);
  if (!run_.ok()) return {};
  run_.line = e.line;
  return CallFilter(run_, e.name, input, std::move(args));
}

}  // namespace quantd::chat
