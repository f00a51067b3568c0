// Cuts a template into tokens as jinja2 does with trim_blocks and lstrip_blocks: whitespace control is decided here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/chat_template/value.h"

namespace quantd::chat {

struct Token {
  enum class Kind {
    kText,
    kBlockBegin,
    kBlockEnd,
    kVariableBegin,
    kVariableEnd,
    kName,
    kString,
    kInt,
    kFloat,
    kOperator,
    kEnd
  };
  Kind kind;
  int line;
  std::string text;  // a name, an operator, the contents of a text or string
  Int integer = 0;
  double real = 0;
};

// The last token is kEnd. InvalidArgument names the line.
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

}  // namespace quantd::chat
