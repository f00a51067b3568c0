#include "runtime/chat_templates.h"

#include <utility>
#include <vector>

#include <absl/strings/str_join.h>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/json.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

constexpr std::string_view kDefault = "default", kToolUse = "tool_use";

absl::Status Invalid(const std::string& field, std::string_view why) {
  return WithField(absl::InvalidArgumentError(absl::StrCat(field, ": ", ToAbsl(why))), field);
}

// A key of a message that the template does not name.
struct Unnamed {
  std::string field;
  size_t message;
  std::string key;
};

std::vector<Unnamed> FindUnnamed(const ChatTemplate& chat_template, const ChatTemplateInput& input) {
  std::vector<Unnamed> unnamed;
  for (size_t i = 0; i < input.messages.size(); ++i) {
    const ChatMessage& message = input.messages[i];
    const std::string where = absl::StrCat("messages[", i, "].");
    if (!message.tool_calls.empty() && !chat_template.NamesKey("tool_calls")) {
      unnamed.push_back({where + "tool_calls", i, "tool_calls"});
    }
    if (message.reasoning_content && !chat_template.NamesKey("reasoning_content") &&
        !chat_template.NamesKey("thinking")) {
      unnamed.push_back({where + "reasoning_content", i, "reasoning_content"});
    }
    if (message.extra_json.empty()) continue;
    const absl::StatusOr<JsonDocument> extra = ParseJson(message.extra_json, "extra_json");
    if (!extra.ok() || !(*extra)->is_object()) continue;  // Render says what is wrong
    for (const auto& [key, value] : (*extra)->items()) {
      if (!value.is_null() && !chat_template.NamesKey(key)) {
        unnamed.push_back({absl::StrCat(where, "extra_json.", Printable(key, 60)), i, key});
      }
    }
  }
  return unnamed;
}

void Remove(const Unnamed& what, ChatTemplateInput& input) {
  ChatMessage& message = input.messages[what.message];
  if (what.key == "tool_calls") {
    message.tool_calls.clear();
  } else if (what.key == "reasoning_content") {
    message.reasoning_content.reset();
  } else if (absl::StatusOr<JsonDocument> extra = ParseJson(message.extra_json, "extra_json"); extra.ok()) {
    (*extra)->erase(what.key);
    message.extra_json = (*extra)->dump();
  }
}

absl::Status CheckVariables(const ChatTemplate& chat_template, const ChatTemplateInput& input) {
  if (!input.tools.empty() && !chat_template.ReadsVariable("tools")) {
    return Invalid("tools", "the chat template of the model does not use tools");
  }
  if (input.template_args_json.empty()) return absl::OkStatus();
  const absl::StatusOr<JsonDocument> args = ParseJson(input.template_args_json, "template_args");
  if (!args.ok() || !(*args)->is_object()) return absl::OkStatus();  // Render says what is wrong
  for (const auto& [name, value] : (*args)->items()) {
    if (chat_template.ReadsVariable(name) || name == "messages" || name == "add_generation_prompt") continue;
    return Invalid("template_args." + Printable(name, 60),
                   absl::StrCat("the chat template of the model reads no such variable; it reads ",
                                absl::StrJoin(chat_template.Variables(), ", ")));
  }
  return absl::OkStatus();
}

// "chat template 'rag' is broken: line 3: unexpected 'endif'".
std::string Broken(std::string_view name, const absl::Status& why) {
  std::string_view what(why.message().data(), why.message().size());
  for (const std::string_view known : {"chat template, ", "chat template: "}) {
    if (what.starts_with(known)) what.remove_prefix(known.size());
  }
  return absl::StrCat("chat template '", Printable(name, 60), "' is broken: ", ToAbsl(what));
}

bool HasToolCalls(const ChatTemplateInput& input) {
  for (const ChatMessage& message : input.messages) {
    if (!message.tool_calls.empty()) return true;
  }
  return false;
}

// Published templates take the arguments of a tool call as an object, but for a few (DeepSeek's) that join them to
// other text and fail on one.
absl::StatusOr<TextPieces> RenderWithArguments(const ChatTemplate& chat_template, ChatTemplateInput& input) {
  absl::StatusOr<TextPieces> pieces = chat_template.Render(input);
  if (!absl::IsInvalidArgument(pieces.status()) || !GetField(pieces.status()).empty() || !HasToolCalls(input)) {
    return pieces;
  }
  input.tool_arguments_are_text = true;
  absl::StatusOr<TextPieces> second = chat_template.Render(input);
  return second.ok() ? std::move(second) : std::move(pieces);
}

}  // namespace

absl::StatusOr<ChatTemplates> ChatTemplates::Parse(const ChatTemplateSources& sources,
                                                   std::vector<std::string>& warnings) {
  if (sources.size() > kMaxTemplates) {
    return absl::DataLossError(absl::StrCat(sources.size(), " chat templates, at most ", kMaxTemplates, " are read"));
  }
  ChatTemplates out;
  for (const auto& [name, source] : sources) {
    absl::StatusOr<std::unique_ptr<ChatTemplate>> parsed =
        source.ok() ? ChatTemplate::Parse(*source) : absl::StatusOr<std::unique_ptr<ChatTemplate>>(source.status());
    if (!parsed.ok()) {
      const std::string broken = Broken(name, parsed.status());
      warnings.push_back(absl::StrCat(broken, "; chats that use it are refused"));
      parsed = WithReason(absl::FailedPreconditionError(broken), "CHAT_TEMPLATE_BROKEN");
    }
    out.templates_.emplace(name, std::move(parsed));
  }
  return out;
}

absl::StatusOr<const ChatTemplate*> ChatTemplates::Choose(std::string_view name, bool has_tools) const {
  if (templates_.empty()) {
    return WithReason(absl::FailedPreconditionError("the model has no chat template: send text or tokens"),
                      "NO_CHAT_TEMPLATE");
  }
  auto found = name.empty() ? templates_.end() : templates_.find(name);
  if (name.empty() && has_tools) found = templates_.find(kToolUse);
  if (name.empty() && found == templates_.end()) found = templates_.find(kDefault);
  if (found == templates_.end()) {
    const std::string names = absl::StrJoin(templates_, ", ", [](std::string* out, const auto& entry) {
      absl::StrAppend(out, Printable(entry.first, 60));
    });
    return Invalid("template_name",
                   name.empty()
                       ? absl::StrCat("is empty, and no chat template of the model is its default; it has ", names)
                       : absl::StrCat("the model has no chat template '", Printable(name, 60), "'; it has ", names));
  }
  if (!found->second.ok()) return found->second.status();
  return found->second->get();
}

absl::StatusOr<TextPieces> RenderChat(const ChatTemplates& templates, ChatTemplateInput input) {
  QD_ASSIGN_OR_RETURN(const ChatTemplate* chosen, templates.Choose(input.template_name, !input.tools.empty()));
  QD_RETURN_IF_ERROR(CheckVariables(*chosen, input));
  QD_ASSIGN_OR_RETURN(TextPieces pieces, RenderWithArguments(*chosen, input));
  const std::vector<Unnamed> unnamed = FindUnnamed(*chosen, input);
  if (unnamed.empty()) return pieces;
  // The template may print them all the same, with the whole message: then the text is another one without them.
  for (const Unnamed& what : unnamed) Remove(what, input);
  const absl::StatusOr<TextPieces> without = chosen->Render(input);
  if (without.ok() && JoinText(*without) == JoinText(pieces)) {
    return Invalid(unnamed.front().field, "the chat template of the model does not use it");
  }
  return pieces;
}

}  // namespace quantd
