#include "runtime/chat_template/chat_template.h"

#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/chat_template/evaluator.h"
#include "runtime/chat_template/json.h"
#include "runtime/chat_template/parser.h"

namespace quantd {
namespace chat {
namespace {

// transformers appends this to the last message, renders, and cuts the text there.
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";
constexpr std::string_view kContinueTagStripped = "CONTINUE_FINAL_MESSAGE_TAG";

// Each is a variable of the outermost scope, which is searched from one to the next.
constexpr size_t kMaxTemplateArguments = 256;

Value Data(std::string_view text) { return MakeString(text, /*trusted=*/false); }
// Keys that we write ourselves are data all the same where a template prints them: the whole object is.
class Object {
 public:
  explicit Object(Run& run) : builder_(run) {}
  Object& Set(std::string_view key, Value value) {
    builder_.Set(Data(key), std::move(value));
    return *this;
  }
  Value Build() { return builder_.Build(/*trusted=*/false); }

 private:
  DictBuilder builder_;
};

// InvalidArgument with the field `where`, a path below the proto's Chat, for what is no JSON object.
absl::StatusOr<Value> ParseObject(Run& run, std::string_view json, const std::string& where) {
  absl::StatusOr<Value> value = ParseJson(run, json);
  if (!value.ok()) {
    if (!run.ok()) return run.status();
    return WithField(absl::InvalidArgumentError(absl::StrCat(where, ": ", value.status().message())), where);
  }
  if (value->dict() == nullptr) {
    return WithField(
        absl::InvalidArgumentError(absl::StrCat(where, ": a JSON ", ToAbsl(TypeName(*value)), ", expected an object")),
        where);
  }
  return value;
}

absl::StatusOr<Value> MakeMessage(Run& run, const ChatMessage& message, std::string_view suffix, size_t index) {
  Object object(run);
  object.Set("role", Data(message.role)).Set("content", Data(message.content + std::string(suffix)));
  if (!message.tool_calls.empty()) {
    std::vector<Value> calls;
    for (const ChatToolCall& call : message.tool_calls) {
      std::string where = absl::StrCat("messages[", index, "].tool_calls[", calls.size(), "].arguments_json");
      std::string_view json = call.arguments_json.empty() ? std::string_view("{}") : call.arguments_json;
      QD_ASSIGN_OR_RETURN(Value arguments, ParseObject(run, json, where));
      Value function = Object(run).Set("name", Data(call.name)).Set("arguments", std::move(arguments)).Build();
      Object entry(run);
      if (!call.id.empty()) entry.Set("id", Data(call.id));
      calls.push_back(entry.Set("type", Data("function")).Set("function", std::move(function)).Build());
    }
    object.Set("tool_calls", MakeList(run, std::move(calls), /*trusted=*/false));
  }
  if (!message.tool_call_id.empty()) object.Set("tool_call_id", Data(message.tool_call_id));
  if (!message.name.empty()) object.Set("name", Data(message.name));
  return object.Build();
}

absl::StatusOr<Value> MakeTool(Run& run, const ChatTool& tool, size_t index) {
  std::string_view schema = tool.parameters_json_schema;
  if (schema.empty()) schema = R"({"type": "object", "properties": {}})";
  QD_ASSIGN_OR_RETURN(Value parameters,
                      ParseObject(run, schema, absl::StrCat("tools[", index, "].parameters_json_schema")));
  Value function = Object(run)
                       .Set("name", Data(tool.name))
                       .Set("description", Data(tool.description))
                       .Set("parameters", std::move(parameters))
                       .Build();
  return Object(run).Set("type", Data("function")).Set("function", std::move(function)).Build();
}

class Template : public ChatTemplate {
 public:
  Template(Body body, Limits limits) : body_(std::move(body)), limits_(limits) {}
  absl::StatusOr<TextPieces> Render(const ChatTemplateInput& input) const override;

 private:
  const Body body_;
  const Limits limits_;
};

// The variables of apply_chat_template.
absl::StatusOr<ScopePtr> MakeContext(Run& run, const ChatTemplateInput& input, Value& arguments) {
  auto scope = std::make_shared<Scope>(nullptr);
  for (const auto& [name, text] : input.special_tokens) scope->Set(run, name, MakeString(text, /*trusted=*/true));
  std::vector<Value> messages, tools;
  for (size_t i = 0; i < input.messages.size(); ++i) {
    bool last = i + 1 == input.messages.size();
    std::string_view suffix = input.continue_final_message && last ? kContinueTag : "";
    QD_ASSIGN_OR_RETURN(Value message, MakeMessage(run, input.messages[i], suffix, i));
    messages.push_back(std::move(message));
  }
  for (size_t i = 0; i < input.tools.size(); ++i) {
    QD_ASSIGN_OR_RETURN(Value tool, MakeTool(run, input.tools[i], i));
    tools.push_back(std::move(tool));
  }
  scope->Set(run, "messages", MakeList(run, std::move(messages), /*trusted=*/false));
  scope->Set(run, "tools", tools.empty() ? Value(None{}, false) : MakeList(run, std::move(tools), /*trusted=*/false));
  scope->Set(run, "documents", Value(None{}, false));
  scope->Set(run, "add_generation_prompt", Value(input.add_generation_prompt && !input.continue_final_message));
  if (input.template_args_json.empty()) return scope;
  QD_ASSIGN_OR_RETURN(arguments, ParseObject(run, input.template_args_json, "template_args"));
  if (size_t count = arguments.dict()->entries.size(); count > kMaxTemplateArguments) {
    return absl::InvalidArgumentError(
        absl::StrCat("template_args: ", count, " variables, expected at most ", kMaxTemplateArguments));
  }
  for (const auto& [key, value] : arguments.dict()->entries) {
    std::string_view name = key.text()->view();
    if (name == "messages" || name == "tools" || name == "add_generation_prompt") {
      return absl::InvalidArgumentError(absl::StrCat("template_args: '", ToAbsl(name), "' has a field of its own"));
    }
    scope->Set(run, name, value);  // a view into `arguments`, which outlives the scope
  }
  return scope;
}

// Cuts off what follows the last message's content.
absl::StatusOr<Text> CutAfterContent(const Text& text, const ChatMessage& last) {
  std::string_view all = text.view();
  size_t at = all.rfind(kContinueTagStripped);
  Text content = Strip(Text(last.content, false), nullptr, true, true);
  if (at == std::string_view::npos || FindPart(all, content.view()) == std::string_view::npos) {
    return absl::InvalidArgumentError("continue_final_message: the final message does not appear in the rendered chat");
  }
  Text head = text.Sub(0, at);
  // A template that strips the content has stripped the tag's own space with it.
  if (all.substr(at, kContinueTag.size()) == kContinueTag) return head;
  return Strip(head, nullptr, false, true);
}

absl::StatusOr<TextPieces> Template::Render(const ChatTemplateInput& input) const {
  if (input.continue_final_message && input.messages.empty()) {
    return absl::InvalidArgumentError("continue_final_message: there is no message to continue");
  }
  Run run(limits_, input.unix_seconds);
  Value arguments;  // owns names of the scope
  Evaluator evaluator(run);
  QD_ASSIGN_OR_RETURN(ScopePtr scope, MakeContext(run, input, arguments));
  Text text = evaluator.Render(body_, scope);
  if (!run.ok()) return run.status();
  if (input.continue_final_message) {
    QD_ASSIGN_OR_RETURN(text, CutAfterContent(text, input.messages.back()));
  }
  return text.Pieces();
}

}  // namespace
}  // namespace chat

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Parse(std::string_view source, Limits limits) {
  if (source.size() > kMaxSourceBytes) {
    return absl::DataLossError(
        absl::StrCat("chat template: ", source.size(), " bytes, at most ", kMaxSourceBytes, " are read"));
  }
  QD_ASSIGN_OR_RETURN(chat::Body body, chat::ParseTemplate(source));
  return std::make_unique<chat::Template>(std::move(body), limits);
}

}  // namespace quantd
