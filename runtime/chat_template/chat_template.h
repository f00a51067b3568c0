// Chat templates: a bounded interpreter of the Jinja2 that published templates use, equal to Python jinja2 as
// transformers sets it up (trim_blocks, lstrip_blocks, loop controls, sandbox; raise_exception, strftime_now, tojson).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/stop.h"
#include "runtime/text_piece.h"

namespace quantd {

struct ChatToolCall {
  std::string id, name;
  std::string arguments_json;  // a JSON object
};
struct ChatMessage {
  std::string role;
  std::optional<std::string> content;    // absent: the message has no such key
  std::vector<ChatToolCall> tool_calls;  // of an assistant message
  std::string tool_call_id;              // of a tool message
  std::string name;
  std::optional<std::string> reasoning_content = std::nullopt;  // a template sees it as `thinking` too
  std::vector<std::string> content_parts = {};  // texts; where there are any, content is a list of {type, text}
  std::string extra_json = {};                  // a JSON object of further keys, or empty
};
struct ChatTool {
  std::string name, description;
  std::string parameters_json_schema;  // a JSON object
};

// What a template may see. All text here is data (TextPiece::parse_special = false) except the special tokens.
struct ChatTemplateInput {
  std::vector<ChatMessage> messages;
  std::vector<ChatTool> tools;
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // the last message is left open: everything after its content is cut off
  std::string template_args_json;       // a JSON object of further variables, or empty
  std::string template_name;            // which of the model's templates; empty: see ChatTemplates
  std::map<std::string, std::string> special_tokens;  // variables: bos_token, eos_token, unk_token, …
  int64_t unix_seconds = 0;                           // what strftime_now formats (UTC)
  // The arguments of tool calls are texts, as the client wrote them, not objects.
  bool tool_arguments_are_text = false;
  Stop stop;
};

// Immutable and thread-safe. The bounds hold per Render: evaluation steps, recursion depth, bytes of output.
class ChatTemplate {
 public:
  static constexpr size_t kMaxSourceBytes = 1 << 20;
  struct Limits {
    int64_t steps = 2'000'000;
    int depth = 64;
    size_t output_bytes = 4 << 20;
  };
  // Unimplemented: a construct that is not built. InvalidArgument: not a template. Both name the line.
  // DataLoss: longer than kMaxSourceBytes, no UTF-8 (with the byte), nested too deeply.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Parse(std::string_view source, Limits limits);
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Parse(std::string_view source) {
    return Parse(source, Limits{});
  }
  virtual ~ChatTemplate() = default;

  // InvalidArgument: the template refused the messages (raise_exception, with its words) or an expression failed (with
  // its line). ResourceExhausted: a limit was hit. Cancelled: `stop` said so.
  virtual absl::StatusOr<TextPieces> Render(const ChatTemplateInput& input) const = 0;

  // Whether it reads the variable `name` where it has not set it itself.
  virtual bool ReadsVariable(std::string_view name) const = 0;
  virtual std::vector<std::string> Variables() const = 0;  // all that it reads so, sorted
  // Whether it names `key` as an attribute or in a text.
  virtual bool NamesKey(std::string_view key) const = 0;
};

}  // namespace quantd
