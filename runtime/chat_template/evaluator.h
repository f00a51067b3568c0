// Runs a syntax tree: scopes, loops, macros and output. One evaluator serves one Render.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/chat_template/ast.h"
#include "runtime/chat_template/builtins.h"
#include "runtime/chat_template/run.h"

namespace quantd::chat {

class Evaluator;

// Names are those of the syntax tree, or literals. Lookup goes outwards.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string_view, Value>> variables;

  explicit Scope(std::shared_ptr<Scope> outer) : parent(std::move(outer)) {}
  void Set(Run& run, std::string_view name, Value value);
};
using ScopePtr = std::shared_ptr<Scope>;

// jinja2.runtime.LoopContext: takes items as late as it can, since the test of a loop may see what the body assigns.
struct Loop {
  Evaluator* evaluator;
  const Stmt* stmt;
  ScopePtr outer;
  std::vector<Value> items;
  size_t next = 0;
  bool tested = false;  // the items left have not passed the loop's test yet
  std::optional<Value> after;
  Value before, current;
  int64_t index0 = -1;
  std::optional<Int> length;
  int depth0 = 0;
  int depth = 1;  // as a value
  std::vector<Value> last_changed;
  bool has_changed = false;

  bool Advance(Run& run);       // to the next item; false at the end
  const Value* Peek(Run& run);  // the item after; null at the end
  Int Length(Run& run);
  std::optional<Value> Attribute(Run& run, std::string_view name);

 private:
  std::optional<Value> Pull();
};

struct Macro {
  const Stmt* stmt;
  std::string name;
  ScopePtr closure;
};

class Evaluator {
 public:
  explicit Evaluator(Run& run) : run_(run) {}
  ~Evaluator();

  // Renders `body` with the variables of `scope`. The run says whether it succeeded.
  Text Render(const Body& body, const ScopePtr& scope);

 private:
  friend struct Loop;
  enum class Flow { kNext, kBreak, kContinue };
  struct Nesting;

  Flow Exec(const Body& body, const ScopePtr& scope);
  Flow ExecOne(const Stmt& stmt, const ScopePtr& scope);
  Flow ExecFor(const Stmt& stmt, std::vector<Value> items, const ScopePtr& scope, int depth0);
  void ExecWith(const Stmt& stmt, const ScopePtr& scope);
  void Write(const Text& text);
  // What `body` writes, as a text.
  Text Capture(const Body& body, const ScopePtr& scope);
  void Assign(const Expr& target, const Value& value, const ScopePtr& scope);
  bool PassesTest(const Stmt& loop, const Value& item, const ScopePtr& outer);

  Value Eval(const Expr& e, const ScopePtr& scope);
  Value EvalNode(const Expr& e, const ScopePtr& scope);
  Value EvalCompare(const Expr& e, const ScopePtr& scope);
  Value EvalSign(const Expr& e, const ScopePtr& scope);
  Value EvalItem(const Expr& e, const ScopePtr& scope);
  Value EvalCall(const Expr& e, const ScopePtr& scope, const Value* caller);
  Value EvalFilter(const Expr& e, const ScopePtr& scope, const Value* body);
  Value Lookup(std::string_view name, const ScopePtr& scope);
  Args EvalArgs(const CallArgs& args, const ScopePtr& scope);
  Value CallMacro(const Macro& macro, Args args);
  Value MakeMacro(const Stmt& stmt, std::string name, const ScopePtr& scope);

  Run& run_;
  Text* out_ = nullptr;
  int nesting_ = 0;  // C++ calls of Eval and Exec
  int calls_ = 0;    // macros and recursive loops that are running
};

}  // namespace quantd::chat
