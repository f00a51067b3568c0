#include "runtime/chat_template/chat_template.h"

#include <algorithm>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/chat_template/evaluator.h"
#include "runtime/chat_template/json.h"
#include "runtime/chat_template/parser.h"
#include "runtime/chat_template/usage.h"
#include "runtime/utf8.h"

namespace quantd {
namespace chat {
namespace {

// transformers appends this to the last message, renders, and cuts the text there.
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";
constexpr std::string_view kContinueTagStripped = "CONTINUE_FINAL_MESSAGE_TAG";

// Each is a variable of the outermost scope, which is searched from one to the next.
constexpr size_t kMaxTemplateArguments = 256;

Value Data(std::string_view text) { return MakeString(text, /*trusted=*/false); }

// A role may be a part of a special token that the template makes of it, if it is a plain word: one that brings its own
// brackets is data like any other text.
Value Role(std::string_view role) {
  const bool is_word = std::all_of(role.begin(), role.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
  return MakeText(Text(role, is_word ? Origin::kRole : Origin::kData));
}

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

// Keys of a message that have a field of their own.
constexpr std::string_view kMessageFields[] = {"role",         "content", "tool_calls",
                                               "tool_call_id", "name",    "reasoning_content"};

absl::Status Invalid(const std::string& field, std::string_view why) {
  return WithField(absl::InvalidArgumentError(absl::StrCat(field, ": ", ToAbsl(why))), field);
}

absl::StatusOr<Value> MakeToolCalls(Run& run, const ChatMessage& message, bool arguments_are_text,
                                    const std::string& where) {
  std::vector<Value> calls;
  for (const ChatToolCall& call : message.tool_calls) {
    const std::string field = absl::StrCat(where, ".tool_calls[", calls.size(), "].arguments_json");
    const std::string_view json = call.arguments_json.empty() ? std::string_view("{}") : call.arguments_json;
    QD_ASSIGN_OR_RETURN(Value arguments, ParseObject(run, json, field));
    if (arguments_are_text) arguments = Data(json);
    Value function = Object(run).Set("name", Data(call.name)).Set("arguments", std::move(arguments)).Build();
    Object entry(run);
    if (!call.id.empty()) entry.Set("id", Data(call.id));
    calls.push_back(entry.Set("type", Data("function")).Set("function", std::move(function)).Build());
  }
  return MakeList(run, std::move(calls), /*trusted=*/false);
}

Value MakeParts(Run& run, const std::vector<std::string>& texts, std::string_view suffix) {
  std::vector<Value> parts;
  for (size_t i = 0; i < texts.size(); ++i) {
    std::string text = texts[i];
    if (i + 1 == texts.size()) text += suffix;
    parts.push_back(Object(run).Set("type", Data("text")).Set("text", Data(text)).Build());
  }
  Value list = MakeList(run, std::move(parts), /*trusted=*/false);
  if (run.ok()) list.sequence()->is_content = true;
  return list;
}

// `suffix` ends the content.
absl::StatusOr<Value> MakeMessage(Run& run, const ChatMessage& message, std::string_view suffix,
                                  bool arguments_are_text, size_t index) {
  const std::string where = absl::StrCat("messages[", index, "]");
  Object object(run);
  // As transformers 5 does: both names of it are there, for gpt-oss and for the others.
  if (message.reasoning_content) object.Set("thinking", Data(*message.reasoning_content));
  object.Set("role", Role(message.role));
  if (!message.content_parts.empty()) {
    object.Set("content", MakeParts(run, message.content_parts, suffix));
  } else if (message.content) {
    object.Set("content", Data(*message.content + std::string(suffix)));
  }
  if (message.reasoning_content) object.Set("reasoning_content", Data(*message.reasoning_content));
  if (!message.tool_calls.empty()) {
    QD_ASSIGN_OR_RETURN(Value calls, MakeToolCalls(run, message, arguments_are_text, where));
    object.Set("tool_calls", std::move(calls));
  }
  if (!message.tool_call_id.empty()) object.Set("tool_call_id", Data(message.tool_call_id));
  if (!message.name.empty()) object.Set("name", Data(message.name));
  if (message.extra_json.empty()) return object.Build();
  const std::string field = where + ".extra_json";
  QD_ASSIGN_OR_RETURN(const Value extra, ParseObject(run, message.extra_json, field));
  for (const auto& [key, value] : extra.dict()->entries) {
    const std::string_view name = key.text()->view();
    if (std::find(std::begin(kMessageFields), std::end(kMessageFields), name) != std::end(kMessageFields)) {
      return Invalid(absl::StrCat(field, ".", ToAbsl(name)), "is a field of the message itself");
    }
    if (!value.IsNone()) object.Set(name, value);  // as transformers 5 does: null is no key
  }
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
  Template(Body body, Limits limits) : body_(std::move(body)), usage_(FindUsage(body_)), limits_(limits) {}
  absl::StatusOr<TextPieces> Render(const ChatTemplateInput& input) const override;
  bool ReadsVariable(std::string_view name) const override { return usage_.variables.contains(name); }
  std::vector<std::string> Variables() const override { return {usage_.variables.begin(), usage_.variables.end()}; }
  bool NamesKey(std::string_view key) const override { return usage_.keys.contains(key); }

 private:
  const Body body_;
  const Usage usage_;
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
    QD_ASSIGN_OR_RETURN(Value message, MakeMessage(run, input.messages[i], suffix, input.tool_arguments_are_text, i));
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
    return Invalid("template_args", absl::StrCat(count, " variables, expected at most ", kMaxTemplateArguments));
  }
  for (const auto& [key, value] : arguments.dict()->entries) {
    std::string_view name = key.text()->view();
    if (name == "messages" || name == "tools" || name == "add_generation_prompt") {
      return Invalid("template_args." + std::string(name), "is a field of the chat itself");
    }
    scope->Set(run, name, value);  // a view into `arguments`, which outlives the scope
  }
  return scope;
}

// Cuts off what follows the last message's content.
absl::StatusOr<Text> CutAfterContent(Run& run, const Text& text, const ChatMessage& last) {
  std::string_view all = text.view();
  size_t at = all.rfind(kContinueTagStripped);
  const std::string& final_text = last.content_parts.empty() ? last.content.value_or("") : last.content_parts.back();
  Text content = Strip(run, Text(final_text, false), nullptr, true, true);
  if (!run.ok()) return run.status();
  if (at == std::string_view::npos || FindPart(all, content.view()) == std::string_view::npos) {
    return absl::InvalidArgumentError("continue_final_message: the final message does not appear in the rendered chat");
  }
  Text head = text.Sub(0, at);
  // A template that strips the content has stripped the tag's own space with it.
  if (all.substr(at, kContinueTag.size()) == kContinueTag) return head;
  head = Strip(run, head, nullptr, false, true);
  if (!run.ok()) return run.status();
  return head;
}

absl::StatusOr<TextPieces> Template::Render(const ChatTemplateInput& input) const {
  if (input.continue_final_message && input.messages.empty()) {
    return Invalid("continue_final_message", "there is no message to continue");
  }
  if (input.continue_final_message && !input.messages.back().content && input.messages.back().content_parts.empty()) {
    return Invalid("continue_final_message", "the last message has no content to continue");
  }
  Run run(limits_, input.unix_seconds, input.stop);
  Value arguments;  // owns names of the scope
  Evaluator evaluator(run);
  QD_ASSIGN_OR_RETURN(ScopePtr scope, MakeContext(run, input, arguments));
  Text text = evaluator.Render(body_, scope);
  if (!run.ok()) return run.status();
  if (input.continue_final_message) {
    QD_ASSIGN_OR_RETURN(text, CutAfterContent(run, text, input.messages.back()));
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
  if (const std::optional<size_t> bad = FindInvalidUtf8(source)) {
    return absl::DataLossError(absl::StrCat("chat template: no UTF-8 at byte ", *bad));
  }
  QD_ASSIGN_OR_RETURN(chat::Body body, chat::ParseTemplate(source));
  return std::make_unique<chat::Template>(std::move(body), limits);
}

}  // namespace quantd
