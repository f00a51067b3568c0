#include "runtime/chat_template/usage.h"

#include <algorithm>
#include <string_view>
#include <vector>

namespace quantd::chat {
namespace {

// Walks the tree in the order of evaluation. `set_` holds the names that are set wherever the walk stands.
class Walker {
 public:
  explicit Walker(Usage& usage) : usage_(usage) {}

  void Walk(const Body& body) {
    for (const auto& stmt : body) WalkStmt(*stmt);
  }

 private:
  // What is set inside does not count outside: the body may not have run, or has a scope of its own.
  template <typename Inside>
  void InScope(const Inside& inside) {
    const size_t outer = in_order_.size();
    inside();
    while (in_order_.size() > outer) {
      set_.erase(set_.find(in_order_.back()));
      in_order_.pop_back();
    }
  }
  void Set(std::string_view name) {
    if (set_.emplace(name).second) in_order_.push_back(name);
  }

  void Declare(const Expr& target) {
    if (target.kind == Expr::Kind::kName) Set(target.name);
    if (target.kind == Expr::Kind::kNamespaceRef) Read(target.name);
    for (const ExprPtr& operand : target.operands) {
      if (operand != nullptr) Declare(*operand);
    }
  }

  void WalkStmt(const Stmt& stmt) {
    switch (stmt.kind) {
      case Stmt::Kind::kText:
      case Stmt::Kind::kBreak:
      case Stmt::Kind::kContinue:
        break;
      case Stmt::Kind::kOutput:
        WalkExpr(stmt.value);
        break;
      case Stmt::Kind::kIf:
        for (const auto& branch : stmt.branches) {  // no structured binding: clang 14 captures none
          WalkExpr(branch.first);
          InScope([&] { Walk(branch.second); });
        }
        break;
      case Stmt::Kind::kFor:
        WalkExpr(stmt.value);
        InScope([&] {
          Declare(*stmt.target);
          WalkExpr(stmt.test);
          Set("loop");
          Walk(stmt.body);
        });
        InScope([&] { Walk(stmt.orelse); });
        break;
      case Stmt::Kind::kSet:
        WalkExpr(stmt.value);
        Declare(*stmt.target);
        break;
      case Stmt::Kind::kSetBlock:
        InScope([&] { Walk(stmt.body); });
        WalkExpr(stmt.value);
        Declare(*stmt.target);
        break;
      case Stmt::Kind::kMacro:
        Set(stmt.name);
        WalkMacro(stmt);
        break;
      case Stmt::Kind::kCallBlock:
        WalkExpr(stmt.value);
        WalkMacro(stmt);
        break;
      case Stmt::Kind::kFilterBlock:
        InScope([&] { Walk(stmt.body); });
        WalkExpr(stmt.value);
        break;
      case Stmt::Kind::kWith:
        InScope([&] {
          for (const auto& [target, value] : stmt.assignments) {
            WalkExpr(value);
            Declare(*target);
          }
          Walk(stmt.body);
        });
        break;
      case Stmt::Kind::kScope:
        InScope([&] { Walk(stmt.body); });
        break;
    }
  }

  void WalkMacro(const Stmt& stmt) {
    InScope([&] {
      for (const Parameter& parameter : stmt.parameters) {
        WalkExpr(parameter.default_value);
        Set(parameter.name);
      }
      for (const char* name : {"caller", "varargs", "kwargs"}) Set(name);
      Walk(stmt.body);
    });
  }

  void WalkExpr(const ExprPtr& expr) {
    if (expr == nullptr) return;
    if (expr->kind == Expr::Kind::kName) Read(expr->name);
    if (expr->kind == Expr::Kind::kGetattr) usage_.keys.insert(expr->name);
    if (const Text* text = expr->kind == Expr::Kind::kConst ? expr->constant.text() : nullptr) AddKeys(text->view());
    for (const ExprPtr& operand : expr->operands) WalkExpr(operand);
    for (const ExprPtr& argument : expr->args.positional) WalkExpr(argument);
    for (const auto& [name, argument] : expr->args.named) WalkExpr(argument);
    WalkExpr(expr->args.star);
    WalkExpr(expr->args.star_star);
  }

  void Read(std::string_view name) {
    if (!set_.contains(name)) usage_.variables.emplace(name);
  }

  void AddKeys(std::string_view text) {
    constexpr size_t kLongestKey = 256;  // a longer text is no key, and a template may hold many
    if (text.size() > kLongestKey) return;
    usage_.keys.emplace(text);
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find_first_of(".,", begin), text.size());
      usage_.keys.emplace(text.substr(begin, end - begin));
      begin = end + 1;
    }
  }

  Usage& usage_;
  std::set<std::string_view> set_;  // names of the tree, and literals
  std::vector<std::string_view> in_order_;
};

}  // namespace

Usage FindUsage(const Body& body) {
  Usage usage;
  Walker(usage).Walk(body);
  return usage;
}

}  // namespace quantd::chat
