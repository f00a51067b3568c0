// Builds the syntax tree and checks what can be seen without running it: unknown tags, filters, tests, functions,
// methods.
#pragma once

#include <string_view>

#include <absl/status/statusor.h>

#include "runtime/chat_template/ast.h"

namespace quantd::chat {

// Unimplemented: a construct of Jinja2 that is not built. InvalidArgument: not a template. DataLoss: nested too
// deeply. All name the line.
absl::StatusOr<Body> ParseTemplate(std::string_view source);

}  // namespace quantd::chat
