#include "runtime/chat_template/parser.h"

#include <algorithm>
#include <initializer_list>
#include <set>

#include <absl/strings/str_cat.h>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/chat_template/builtins.h"
#include "runtime/chat_template/lexer.h"

namespace quantd::chat {
namespace {

// Levels of brackets, blocks and operators; the evaluator recurses once a level.
constexpr int kMaxDepth = 100;

// Recursive descent after jinja2.parser. The first error is kept; from then on every token reads as the end.
class Parser {
 public:
  explicit Parser(std::vector<Token> tokens)
      : tokens_(std::move(tokens)), end_{Token::Kind::kEnd, tokens_.back().line, ""} {}

  absl::StatusOr<Body> Run() {
    Body body = Statements({});
    if (status_.ok()) CheckCalls();
    if (!status_.ok()) return status_;
    return body;
  }

 private:
  using K = Token::Kind;
  using E = Expr::Kind;
  using S = Stmt::Kind;

  // Counts the nesting of the parser's own recursion.
  struct Level {
    explicit Level(Parser& p) : parser(p) {
      if (++parser.depth_ > kMaxDepth) {
        parser.FailAs(absl::StatusCode::kDataLoss, parser.Peek().line, "nested too deeply");
      }
    }
    ~Level() { --parser.depth_; }
    Parser& parser;
  };

  const Token& Peek(size_t ahead = 0) const {
    if (!status_.ok() || pos_ + ahead >= tokens_.size()) return end_;
    return tokens_[pos_ + ahead];
  }
  const Token& Next() {
    const Token& token = Peek();
    if (pos_ < tokens_.size()) ++pos_;
    return token;
  }
  bool IsOp(std::string_view op, size_t ahead = 0) const {
    return Peek(ahead).kind == K::kOperator && Peek(ahead).text == op;
  }
  bool IsName(std::string_view name, size_t ahead = 0) const {
    return Peek(ahead).kind == K::kName && Peek(ahead).text == name;
  }
  bool SkipOp(std::string_view op) { return IsOp(op) ? (Next(), true) : false; }
  bool SkipName(std::string_view name) { return IsName(name) ? (Next(), true) : false; }

  void FailAs(absl::StatusCode code, int line, std::string_view message) {
    if (status_.ok()) {
      status_ = absl::Status(code, absl::StrCat("chat template, line ", line, ": ", ToAbsl(message)));
    }
  }
  void Fail(std::string_view message) { FailAs(absl::StatusCode::kInvalidArgument, Peek().line, message); }
  void Lacks(int line, std::string_view what) {
    FailAs(absl::StatusCode::kUnimplemented, line, std::string(what) + " is not supported");
  }
  std::string Describe() const {
    switch (Peek().kind) {
      case K::kEnd:
        return "end of template";
      case K::kString:
        return "a string";
      case K::kInt:
      case K::kFloat:
        return "a number";
      default:
        return "'" + Peek().text + "'";
    }
  }
  void Expect(K kind, std::string_view what) {
    if (Peek().kind != kind) return Fail("expected " + std::string(what) + ", got " + Describe());
    Next();
  }
  void ExpectOp(std::string_view op) {
    if (!SkipOp(op)) Fail("expected '" + std::string(op) + "', got " + Describe());
  }
  void ExpectName(std::string_view name) {
    if (!SkipName(name)) Fail("expected '" + std::string(name) + "', got " + Describe());
  }
  std::string AnyName() {
    std::string name = Peek().text;
    Expect(K::kName, "a name");
    return name;
  }

  ExprPtr New(E kind, int line) const {
    auto e = std::make_unique<Expr>();
    e->kind = kind;
    e->line = line;
    return e;
  }
  void Add(Expr& parent, ExprPtr child) {
    Deepen(parent, child);
    parent.operands.push_back(std::move(child));
  }
  void Deepen(Expr& parent, const ExprPtr& child) {
    if (child == nullptr) return;
    parent.depth = std::max(parent.depth, child->depth + 1);
    if (parent.depth > kMaxDepth) FailAs(absl::StatusCode::kDataLoss, child->line, "nested too deeply");
  }
  ExprPtr Unary(E kind, int line, ExprPtr operand) {
    ExprPtr e = New(kind, line);
    Add(*e, std::move(operand));
    return e;
  }

  // ---- statements ----

  // Up to a tag that begins with one of `ends`, whose name is the next token then; up to the end of the template if
  // empty.
  Body Statements(std::initializer_list<std::string_view> ends) {
    Level level(*this);
    Body body;
    while (status_.ok()) {
      const Token& token = Peek();
      if (token.kind == K::kEnd) {
        if (ends.size() > 0) Fail("unexpected end of template, expected '" + std::string(*ends.begin()) + "'");
        break;
      }
      if (token.kind == K::kText) {
        auto s = NewStmt(S::kText, token.line);
        s->text = std::make_shared<const Text>(token.text, /*trusted=*/true);
        body.push_back(std::move(s));
        Next();
      } else if (token.kind == K::kVariableBegin) {
        auto s = NewStmt(S::kOutput, token.line);
        Next();
        s->value = Tuple();
        Expect(K::kVariableEnd, "the end of the print statement");
        body.push_back(std::move(s));
      } else if (token.kind == K::kBlockBegin) {
        Next();
        for (std::string_view end : ends) {
          if (IsName(end)) return body;
        }
        Statement(body);
        Expect(K::kBlockEnd, "the end of the tag");
      } else {
        Fail("unexpected " + Describe());
      }
    }
    return body;
  }
  std::unique_ptr<Stmt> NewStmt(S kind, int line) const {
    auto s = std::make_unique<Stmt>();
    s->kind = kind;
    s->line = line;
    return s;
  }
  // The body of a tag: the rest of the tag, the statements; the end tag's name is the next token.
  Body TagBody(std::initializer_list<std::string_view> ends) {
    SkipOp(":");
    Expect(K::kBlockEnd, "the end of the tag");
    return Statements(ends);
  }
  Body TagBodyDropEnd(std::string_view end) {
    Body body = TagBody({end});
    ExpectName(end);
    return body;
  }

  void Statement(Body& out) {
    int line = Peek().line;
    if (Peek().kind != K::kName) return Fail("tag name expected, got " + Describe());
    std::string tag = Next().text;
    if (tag == "if") return If(line, out);
    if (tag == "for") return For(line, out);
    if (tag == "set") return Set(line, out);
    if (tag == "macro") return MacroTag(line, out);
    if (tag == "call") return CallBlock(line, out);
    if (tag == "filter") return FilterBlock(line, out);
    if (tag == "with") return With(line, out);
    if (tag == "print") return Print(line, out);
    if (tag == "generation") {
      auto s = NewStmt(S::kScope, line);
      int loops = std::exchange(loops_, 0);
      s->body = TagBodyDropEnd("endgeneration");
      loops_ = loops;
      out.push_back(std::move(s));
      return;
    }
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) return Fail("'" + tag + "' outside loop");
      out.push_back(NewStmt(tag == "break" ? S::kBreak : S::kContinue, line));
      return;
    }
    for (std::string_view lacking : {"block", "extends", "include", "import", "from", "autoescape"}) {
      if (tag == lacking) return Lacks(line, "the tag '" + tag + "'");
    }
    FailAs(absl::StatusCode::kInvalidArgument, line, "encountered unknown tag '" + tag + "'");
  }

  void If(int line, Body& out) {
    auto s = NewStmt(S::kIf, line);
    while (status_.ok()) {
      ExprPtr test = Tuple({.condexpr = false});
      s->branches.emplace_back(std::move(test), TagBody({"elif", "else", "endif"}));
      if (SkipName("elif")) continue;
      if (SkipName("else")) {
        s->branches.emplace_back(nullptr, TagBodyDropEnd("endif"));
      } else {
        ExpectName("endif");
      }
      break;
    }
    out.push_back(std::move(s));
  }

  void For(int line, Body& out) {
    auto s = NewStmt(S::kFor, line);
    s->target = Target({.end = "in"});
    ExpectName("in");
    s->value = Tuple({.condexpr = false, .end = "recursive"});
    if (SkipName("if")) s->test = Expression();
    s->recursive = SkipName("recursive");
    ++loops_;
    s->body = TagBody({"endfor", "else"});
    --loops_;
    if (SkipName("else")) {
      s->orelse = TagBodyDropEnd("endfor");
    } else {
      ExpectName("endfor");
    }
    out.push_back(std::move(s));
  }

  void Set(int line, Body& out) {
    ExprPtr target = Target({.with_namespace = true});
    auto s = NewStmt(S::kSet, line);
    if (SkipOp("=")) {
      s->value = Tuple();
    } else {
      s->kind = S::kSetBlock;
      s->value = Filters(nullptr);
      s->body = TagBodyDropEnd("endset");
    }
    s->target = std::move(target);
    out.push_back(std::move(s));
  }

  void Signature(std::vector<Parameter>& parameters) {
    ExpectOp("(");
    while (status_.ok() && !IsOp(")")) {
      if (!parameters.empty()) ExpectOp(",");
      Parameter parameter{AnyName(), nullptr};
      assigned_.insert(parameter.name);
      if (SkipOp("=")) {
        parameter.default_value = Expression();
      } else if (!parameters.empty() && parameters.back().default_value != nullptr) {
        Fail("non-default argument follows default argument");
      }
      parameters.push_back(std::move(parameter));
    }
    ExpectOp(")");
  }

  // The body of a macro or of a call block, with the special names it uses.
  void MacroBody(Stmt& s, std::string_view end) {
    auto outer = std::exchange(special_, {});
    int loops = std::exchange(loops_, 0);
    s.body = TagBodyDropEnd(end);
    s.uses_varargs = special_.count("varargs") > 0;
    s.uses_kwargs = special_.count("kwargs") > 0;
    s.uses_caller = special_.count("caller") > 0;
    special_.merge(outer);  // as in jinja2, what a nested body uses counts as used by the outer one, too
    loops_ = loops;
  }

  void MacroTag(int line, Body& out) {
    auto s = NewStmt(S::kMacro, line);
    s->name = AnyName();
    assigned_.insert(s->name);
    Signature(s->parameters);
    MacroBody(*s, "endmacro");
    out.push_back(std::move(s));
  }

  void CallBlock(int line, Body& out) {
    auto s = NewStmt(S::kCallBlock, line);
    if (IsOp("(")) Signature(s->parameters);
    s->value = Expression();
    if (status_.ok() && s->value->kind != E::kCall) Fail("expected call");
    MacroBody(*s, "endcall");
    out.push_back(std::move(s));
  }

  void FilterBlock(int line, Body& out) {
    auto s = NewStmt(S::kFilterBlock, line);
    s->value = Filters(OneFilter(nullptr));
    s->body = TagBodyDropEnd("endfilter");
    out.push_back(std::move(s));
  }

  void With(int line, Body& out) {
    auto s = NewStmt(S::kWith, line);
    while (status_.ok() && Peek().kind != K::kBlockEnd) {
      if (!s->assignments.empty()) ExpectOp(",");
      ExprPtr target = Target({});
      ExpectOp("=");
      s->assignments.emplace_back(std::move(target), Expression());
    }
    s->body = TagBodyDropEnd("endwith");
    out.push_back(std::move(s));
  }

  void Print(int line, Body& out) {
    bool first = true;
    while (status_.ok() && Peek().kind != K::kBlockEnd) {
      if (!std::exchange(first, false)) ExpectOp(",");
      auto s = NewStmt(S::kOutput, line);
      s->value = Expression();
      out.push_back(std::move(s));
    }
  }

  // ---- expressions ----

  struct TupleOptions {
    bool condexpr = true;
    bool simplified = false;  // names and literals only
    bool with_namespace = false;
    bool parentheses = false;  // may be empty
    std::string_view end = {};
  };

  bool AtTupleEnd(std::string_view end) const {
    return Peek().kind == K::kVariableEnd || Peek().kind == K::kBlockEnd || IsOp(")") || (!end.empty() && IsName(end));
  }

  ExprPtr Tuple() { return Tuple(TupleOptions{}); }
  ExprPtr Tuple(TupleOptions options) {
    ExprPtr tuple = New(E::kTuple, Peek().line);
    bool is_tuple = false;
    while (status_.ok()) {
      if (!tuple->operands.empty()) ExpectOp(",");
      if (AtTupleEnd(options.end)) break;
      Add(*tuple, options.simplified ? Primary(options.with_namespace) : options.condexpr ? Expression() : Or());
      if (!IsOp(",")) break;
      is_tuple = true;
    }
    if (!is_tuple) {
      if (!tuple->operands.empty()) return std::move(tuple->operands[0]);
      if (!options.parentheses) Fail("expected an expression, got " + Describe());
    }
    return tuple;
  }

  ExprPtr Target(TupleOptions options) {
    options.simplified = true;
    ExprPtr target = Tuple(options);
    if (status_.ok()) CheckTarget(*target);
    return target;
  }
  void CheckTarget(const Expr& target) {
    if (target.kind == E::kName) {
      assigned_.insert(target.name);
    } else if (target.kind == E::kNamespaceRef) {
      assigned_.insert(target.attribute);
    } else if (target.kind == E::kTuple) {
      for (const ExprPtr& item : target.operands) CheckTarget(*item);
    } else {
      FailAs(absl::StatusCode::kInvalidArgument, target.line, "can't assign to an expression");
    }
  }

  ExprPtr Expression() {
    Level level(*this);
    ExprPtr value = Or();
    while (IsName("if")) {
      ExprPtr cond = New(E::kCond, Next().line);
      Add(*cond, Or());
      Add(*cond, std::move(value));
      Add(*cond, SkipName("else") ? Expression() : nullptr);
      value = std::move(cond);
    }
    return value;
  }

  ExprPtr Or() {
    ExprPtr first = And();
    return Chain(E::kOr, "or", std::move(first), [this] { return And(); });
  }
  ExprPtr And() {
    ExprPtr first = Not();
    return Chain(E::kAnd, "and", std::move(first), [this] { return Not(); });
  }
  template <typename Next>
  ExprPtr Chain(E kind, std::string_view name, ExprPtr first, Next next) {
    if (!IsName(name)) return first;
    int line = first->line;
    ExprPtr chain = Unary(kind, line, std::move(first));
    while (SkipName(name)) Add(*chain, next());
    return chain;
  }

  ExprPtr Not() {
    if (!IsName("not")) return Compare();
    Level level(*this);
    int line = Next().line;
    return Unary(E::kNot, line, Not());
  }

  ExprPtr Compare() {
    ExprPtr first = Sum();
    ExprPtr chain;
    while (status_.ok()) {
      Operator op;
      if (IsOp("==")) {
        op = Operator::kEq;
      } else if (IsOp("!=")) {
        op = Operator::kNe;
      } else if (IsOp("<")) {
        op = Operator::kLt;
      } else if (IsOp("<=")) {
        op = Operator::kLe;
      } else if (IsOp(">")) {
        op = Operator::kGt;
      } else if (IsOp(">=")) {
        op = Operator::kGe;
      } else if (IsName("in")) {
        op = Operator::kIn;
      } else if (IsName("not") && IsName("in", 1)) {
        op = Operator::kNotIn;
        Next();
      } else {
        break;
      }
      if (chain == nullptr) chain = Unary(E::kCompare, Peek().line, std::move(first));
      Next();
      chain->operators.push_back(op);
      Add(*chain, Sum());
    }
    return chain != nullptr ? std::move(chain) : std::move(first);
  }

  template <typename Operand>
  ExprPtr Fold(std::initializer_list<std::pair<std::string_view, Operator>> table, Operand operand) {
    ExprPtr first = operand();
    ExprPtr chain;
    while (status_.ok()) {
      auto row = std::find_if(table.begin(), table.end(), [this](const auto& r) { return IsOp(r.first); });
      if (row == table.end()) break;
      if (chain == nullptr) chain = Unary(E::kBinary, Peek().line, std::move(first));
      Next();
      chain->operators.push_back(row->second);
      Add(*chain, operand());
    }
    return chain != nullptr ? std::move(chain) : std::move(first);
  }
  ExprPtr Sum() {
    return Fold({{"+", Operator::kAdd}, {"-", Operator::kSub}}, [this] { return Concat(); });
  }
  ExprPtr Concat() {
    ExprPtr first = Product();
    if (!IsOp("~")) return first;
    ExprPtr chain = Unary(E::kConcat, Peek().line, std::move(first));
    while (SkipOp("~")) Add(*chain, Product());
    return chain;
  }
  ExprPtr Product() {
    return Fold({{"*", Operator::kMul}, {"/", Operator::kDiv}, {"//", Operator::kFloorDiv}, {"%", Operator::kMod}},
                [this] { return Power(); });
  }
  ExprPtr Power() {
    return Fold({{"**", Operator::kPow}}, [this] { return Sign(/*with_filter=*/true); });
  }

  ExprPtr Sign(bool with_filter) {
    ExprPtr node;
    if (IsOp("-") || IsOp("+")) {
      Level level(*this);
      E kind = IsOp("-") ? E::kNeg : E::kPos;
      int line = Next().line;
      node = Unary(kind, line, Sign(/*with_filter=*/false));
    } else {
      node = Primary(/*with_namespace=*/false);
    }
    node = Postfix(std::move(node));
    return with_filter ? FilterExpr(std::move(node)) : std::move(node);
  }

  ExprPtr Constant(Value value) {
    ExprPtr e = New(E::kConst, Peek().line);
    e->constant = std::move(value);
    return e;
  }

  ExprPtr Primary(bool with_namespace) {
    Level level(*this);
    const Token token = Peek();
    switch (token.kind) {
      case K::kName:
        return NameOrConstant(with_namespace);
      case K::kString: {
        std::string value;
        while (Peek().kind == K::kString) value += Next().text;
        return Constant(MakeString(value, /*trusted=*/true));
      }
      case K::kInt:
        Next();
        return Constant(Value(token.integer));
      case K::kFloat:
        Next();
        return Constant(Value(token.real));
      default:
        break;
    }
    if (SkipOp("(")) {
      ExprPtr inner = Tuple({.parentheses = true});
      ExpectOp(")");
      return inner;
    }
    if (SkipOp("[")) {
      ExprPtr list = New(E::kList, token.line);
      while (status_.ok() && !IsOp("]")) {
        if (!list->operands.empty()) ExpectOp(",");
        if (IsOp("]")) break;
        Add(*list, Expression());
      }
      ExpectOp("]");
      return list;
    }
    if (SkipOp("{")) {
      ExprPtr dict = New(E::kDict, token.line);
      while (status_.ok() && !IsOp("}")) {
        if (!dict->operands.empty()) ExpectOp(",");
        if (IsOp("}")) break;
        Add(*dict, Expression());
        ExpectOp(":");
        Add(*dict, Expression());
      }
      ExpectOp("}");
      return dict;
    }
    Fail("unexpected " + Describe());
    return New(E::kConst, token.line);
  }

  ExprPtr NameOrConstant(bool with_namespace) {
    int line = Peek().line;
    std::string name = Next().text;
    if (name == "true" || name == "True") return Constant(Value(true));
    if (name == "false" || name == "False") return Constant(Value(false));
    if (name == "none" || name == "None") return Constant(Value(None{}));
    ExprPtr e = New(E::kName, line);
    if (with_namespace && SkipOp(".")) {
      e->kind = E::kNamespaceRef;
      e->attribute = AnyName();
    }
    if (name == "self" || name == "super") called_.push_back({name, line, /*method=*/false});
    if (name == "varargs" || name == "kwargs" || name == "caller") special_.insert(name);
    e->name = std::move(name);
    return e;
  }

  ExprPtr Postfix(ExprPtr node) {
    while (status_.ok()) {
      if (IsOp(".") || IsOp("[")) {
        node = Subscript(std::move(node));
      } else if (IsOp("(")) {
        node = Call(std::move(node));
      } else {
        break;
      }
    }
    return node;
  }

  ExprPtr FilterExpr(ExprPtr node) {
    while (status_.ok()) {
      if (IsOp("|")) {
        node = Filters(std::move(node));
      } else if (IsName("is")) {
        node = Test(std::move(node));
      } else if (IsOp("(")) {
        node = Call(std::move(node));
      } else {
        break;
      }
    }
    return node;
  }

  ExprPtr Subscript(ExprPtr node) {
    int line = Peek().line;
    if (SkipOp(".")) {
      if (Peek().kind == K::kName) {
        ExprPtr e = Unary(E::kGetattr, line, std::move(node));
        e->name = Next().text;
        return e;
      }
      if (Peek().kind != K::kInt) Fail("expected name or number");
      ExprPtr e = Unary(E::kGetitem, line, std::move(node));
      Int index = Next().integer;
      Add(*e, Constant(Value(index)));
      return e;
    }
    ExpectOp("[");
    ExprPtr tuple = New(E::kTuple, line);
    while (status_.ok() && !IsOp("]")) {
      if (!tuple->operands.empty()) ExpectOp(",");
      Add(*tuple, Subscribed());
    }
    ExpectOp("]");
    if (tuple->operands.size() != 1) {
      if (status_.ok()) Lacks(line, "a subscript of several values");
      return node;
    }
    ExprPtr e = Unary(E::kGetitem, line, std::move(node));
    Add(*e, std::move(tuple->operands[0]));
    return e;
  }

  ExprPtr Subscribed() {
    ExprPtr first;
    int line = Peek().line;
    if (!IsOp(":")) {
      first = Expression();
      if (!IsOp(":")) return first;
    }
    ExpectOp(":");
    ExprPtr slice = New(E::kSlice, line);
    Add(*slice, std::move(first));
    auto part = [this] { return IsOp(":") || IsOp("]") || IsOp(",") ? nullptr : Expression(); };
    Add(*slice, part());
    Add(*slice, SkipOp(":") ? part() : nullptr);
    return slice;
  }

  void Arguments(Expr& e) {
    ExpectOp("(");
    CallArgs& args = e.args;
    auto take = [&](ExprPtr& to) {
      to = Expression();
      Deepen(e, to);
    };
    bool first = true;
    while (status_.ok() && !IsOp(")")) {
      if (!std::exchange(first, false)) {
        ExpectOp(",");
        if (IsOp(")")) break;
      }
      bool valid = args.star_star == nullptr;
      if (SkipOp("*")) {
        valid = valid && args.star == nullptr;
        take(args.star);
      } else if (SkipOp("**")) {
        take(args.star_star);
      } else if (Peek().kind == K::kName && IsOp("=", 1)) {
        std::string name = Next().text;
        Next();
        take(args.named.emplace_back(name, nullptr).second);
      } else {
        valid = valid && args.star == nullptr && args.named.empty();
        take(args.positional.emplace_back());
      }
      if (!valid) Fail("invalid syntax for function call expression");
    }
    ExpectOp(")");
  }

  ExprPtr Call(ExprPtr callee) {
    ExprPtr e = Unary(E::kCall, Peek().line, std::move(callee));
    Arguments(*e);
    if (!status_.ok()) return e;
    const Expr& target = *e->operands[0];
    if (target.kind == E::kName) called_.push_back({target.name, target.line, /*method=*/false});
    if (target.kind == E::kGetattr) called_.push_back({target.name, target.line, /*method=*/true});
    if (target.kind == E::kName && target.name == "namespace") {
      for (const auto& named : e->args.named) assigned_.insert(named.first);
    }
    return e;
  }

  std::string DottedName() {
    std::string name = AnyName();
    while (SkipOp(".")) name += "." + AnyName();
    return name;
  }

  ExprPtr Filters(ExprPtr node) {
    while (status_.ok() && SkipOp("|")) node = OneFilter(std::move(node));
    return node;
  }
  ExprPtr OneFilter(ExprPtr node) {
    ExprPtr e = Unary(E::kFilter, Peek().line, std::move(node));
    e->name = DottedName();
    if (status_.ok() && !HasFilter(e->name)) Lacks(e->line, "the filter '" + e->name + "'");
    if (IsOp("(")) Arguments(*e);
    CheckNamedBuiltin(*e);
    return e;
  }
  // map('trim'), select('defined'), …: a filter or test named by a literal.
  void CheckNamedBuiltin(const Expr& e) {
    auto literal = [&](size_t i) -> const Text* {
      if (i >= e.args.positional.size() || e.args.positional[i]->kind != E::kConst) return nullptr;
      return e.args.positional[i]->constant.text();
    };
    const Text* filter = e.name == "map" ? literal(0) : nullptr;
    if (filter != nullptr && !HasFilter(filter->view()))
      Lacks(e.line, "the filter '" + std::string(filter->view()) + "'");
    const Text* test = e.name == "select" || e.name == "reject"           ? literal(0)
                       : e.name == "selectattr" || e.name == "rejectattr" ? literal(1)
                                                                          : nullptr;
    if (test != nullptr && !HasTest(test->view())) Lacks(e.line, "the test '" + std::string(test->view()) + "'");
  }

  ExprPtr Test(ExprPtr node) {
    int line = Next().line;
    bool negated = SkipName("not");
    ExprPtr e = Unary(E::kTest, line, std::move(node));
    e->name = DottedName();
    if (status_.ok() && !HasTest(e->name)) Lacks(line, "the test '" + e->name + "'");
    K kind = Peek().kind;
    if (IsOp("(")) {
      Arguments(*e);
    } else if ((kind == K::kName || kind == K::kString || kind == K::kInt || kind == K::kFloat || IsOp("[") ||
                IsOp("{")) &&
               !IsName("else") && !IsName("or") && !IsName("and")) {
      if (IsName("is")) Fail("you cannot chain multiple tests with is");
      ExprPtr argument = Postfix(Primary(/*with_namespace=*/false));
      Deepen(*e, argument);
      e->args.positional.push_back(std::move(argument));
    }
    return negated ? Unary(E::kNot, line, std::move(e)) : std::move(e);
  }

  // A function must be one of the environment's or be assigned somewhere; a method must exist or be a namespace's.
  void CheckCalls() {
    for (const auto& call : called_) {
      if (assigned_.count(call.name) > 0) continue;
      if (call.method ? FindMethod(call.name).empty() : (!HasFunction(call.name) && !IsSpecialName(call.name))) {
        return Lacks(call.line, (call.method ? "the method '" : "the function '") + call.name + "'");
      }
    }
  }
  static bool IsSpecialName(std::string_view name) { return name == "caller" || name == "loop"; }

  struct Called {
    std::string name;
    int line;
    bool method;
  };
  std::vector<Token> tokens_;
  const Token end_;
  size_t pos_ = 0;
  int depth_ = 0;
  int loops_ = 0;  // that a break here would leave
  absl::Status status_;
  std::set<std::string> assigned_;  // names that the template gives a value
  std::set<std::string> special_;   // varargs, kwargs, caller: those used in the macro being parsed
  std::vector<Called> called_;
};

}  // namespace

absl::StatusOr<Body> ParseTemplate(std::string_view source) {
  QD_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace quantd::chat
