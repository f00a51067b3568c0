// JSON into template values and back, as Python's json module does it.
#pragma once

#include <string_view>

#include <absl/status/statusor.h>

#include "runtime/chat_template/value.h"

namespace quantd::chat {

// All of it is data. InvalidArgument says what is wrong and where; the bounds of the run hold.
absl::StatusOr<Value> ParseJson(Run& run, std::string_view text);

struct JsonStyle {
  bool ascii = false;
  Text indent;         // of one level
  bool lines = false;  // whether there is an indent: an empty one still breaks lines
  Text item_separator{", ", true}, key_separator{": ", true};
  bool sort_keys = false;
};
// json.dumps. Fails the run for what JSON cannot hold.
Text ToJson(Run& run, const Value& value, const JsonStyle& style);

}  // namespace quantd::chat
