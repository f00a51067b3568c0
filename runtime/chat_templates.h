// The chat templates of a model, by name, and which of them a chat uses.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/chat_template/chat_template.h"
#include "runtime/chat_template_sources.h"

namespace quantd {

// Immutable; any thread.
class ChatTemplates {
 public:
  static constexpr size_t kMaxTemplates = 64;

  // A template that cannot be read, or is none that ChatTemplate::Parse takes, is broken: a warning says so by its
  // name, and Choose where a chat gets it. DataLoss: more than kMaxTemplates.
  static absl::StatusOr<ChatTemplates> Parse(const ChatTemplateSources& sources, std::vector<std::string>& warnings);

  bool empty() const { return templates_.empty(); }
  // As transformers' get_chat_template: the one called `name`; with no name "tool_use" for a chat with tools where
  // there is one, else "default". InvalidArgument at template_name: there is none of that name, or no name and no
  // default. FailedPrecondition: it is broken (CHAT_TEMPLATE_BROKEN), or the model has none at all (NO_CHAT_TEMPLATE).
  absl::StatusOr<const ChatTemplate*> Choose(std::string_view name, bool has_tools) const;

 private:
  std::map<std::string, absl::StatusOr<std::unique_ptr<ChatTemplate>>, std::less<>> templates_;
};

// Renders `input` with the template that it chooses. What a client sent and the template has no use for is refused:
// InvalidArgument at tools, template_args.NAME, messages[i].tool_calls, .reasoning_content or .extra_json.KEY. A
// tool_call_id and a name are labels, which a template may leave out. Else codes of Choose and ChatTemplate::Render.
absl::StatusOr<TextPieces> RenderChat(const ChatTemplates& templates, ChatTemplateInput input);

}  // namespace quantd
