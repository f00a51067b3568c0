// The syntax tree of a template. Names are those of jinja2.nodes.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/chat_template/value.h"

namespace quantd::chat {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

// Arguments of a call, filter or test.
struct CallArgs {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star, star_star;  // *args, **kwargs
};

enum class Operator {
  kAdd,
  kSub,
  kMul,
  kDiv,
  kFloorDiv,
  kMod,
  kPow,  // kBinary
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kIn,
  kNotIn,  // kCompare
};

struct Expr {
  enum class Kind {
    kConst,         // constant
    kName,          // name
    kNamespaceRef,  // name.attribute, as a target of set only
    kList,
    kTuple,  // operands
    kDict,   // operands: key, value, key, value, …
    kNeg,
    kPos,
    kNot,      // operands[0]
    kBinary,   // operands folded from the left by operators; one longer
    kCompare,  // a chain: operands[i] operators[i] operands[i+1], and all of them
    kAnd,
    kOr,       // operands, two or more
    kConcat,   // operands
    kCond,     // operands: test, then, else; else may be null
    kGetattr,  // operands[0].name
    kGetitem,  // operands[0][operands[1]]
    kSlice,    // operands: start, stop, step, each may be null; only inside kGetitem
    kFilter,   // operands[0] | name(args); operands[0] is null for the body of a block
    kTest,     // operands[0] is name(args)
    kCall,     // operands[0](args)
  };
  Kind kind;
  int line;
  int depth = 1;  // of the tree below
  std::string name, attribute;
  Value constant;
  std::vector<ExprPtr> operands;
  std::vector<Operator> operators;
  CallArgs args;
};

struct Stmt;
using Body = std::vector<std::unique_ptr<Stmt>>;

struct Parameter {
  std::string name;
  ExprPtr default_value;  // may be null
};

struct Stmt {
  enum class Kind {
    kText,         // text
    kOutput,       // value
    kIf,           // branches; a null test is the else
    kFor,          // for target in value if test: body, orelse
    kSet,          // target = value
    kSetBlock,     // target = body through the filter `value`, which may be null
    kMacro,        // name, parameters, body
    kCallBlock,    // value is the call; parameters, body are the caller
    kFilterBlock,  // body through the filter `value`
    kWith,         // assignments, body
    kScope,        // body in a scope of its own ({% generation %})
    kBreak,
    kContinue,
  };
  Kind kind;
  int line;
  Str text;
  std::string name;
  ExprPtr target, value, test;
  bool recursive = false;
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;  // of a macro's or caller's body
  std::vector<Parameter> parameters;
  std::vector<std::pair<ExprPtr, Body>> branches;
  std::vector<std::pair<ExprPtr, ExprPtr>> assignments;
  Body body, orelse;
};

}  // namespace quantd::chat
