#include "runtime/chat_template_files.h"

#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/chat_template/chat_template.h"
#include "runtime/chat_templates.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

constexpr std::string_view kDefault = "default", kMember = "chat_template";
constexpr size_t kQuotedBytes = 60;

// JSON writes a character in up to twelve bytes.
constexpr int64_t kMaxJsonBytes = 12 * static_cast<int64_t>(ChatTemplate::kMaxSourceBytes);

// The last of one name counts, as in a dict of Python.
void Add(const std::string& name, absl::StatusOr<std::string> source, const std::string& where,
         ChatTemplateSources& templates) {
  if (name.empty()) {
    LogWarning(absl::StrCat(where, ": a chat template without a name, which no chat can ask for"));
  } else if (source.ok() && source->empty()) {
    templates.erase(name);
  } else {
    templates.insert_or_assign(name, std::move(source));
  }
}

// A member or an item that should be Jinja2; null where there is none.
absl::StatusOr<std::string> SourceOf(const Json* value, const std::string& where) {
  if (value == nullptr) return absl::DataLossError(absl::StrCat(where, ": has no \"template\""));
  if (!value->is_string()) {
    return absl::DataLossError(absl::StrCat(where, " is ", Excerpt(*value), ", expected a string"));
  }
  return value->get<std::string>();
}

// An item of a list: {"name", "template"}.
void AddItem(const Json& item, const std::string& where, ChatTemplateSources& templates) {
  const absl::StatusOr<std::string> name = GetString(item, "name", "", where);
  if (!name.ok()) {
    LogWarning(absl::StrCat(name.status().message(), ": no chat can ask for this template"));
    return;
  }
  Add(*name, SourceOf(FindMember(item, "template"), where), where, templates);
}

// `file` is what messages call it, for clients too: without its folder.
void AddMember(const Json& object, std::string_view file, ChatTemplateSources& templates) {
  const Json* member = FindMember(object, kMember);
  if (member == nullptr) return;
  const std::string where = absl::StrCat(ToAbsl(file), ": ", ToAbsl(kMember));
  if (member->is_array()) {
    for (size_t i = 0; i < member->size(); ++i) AddItem((*member)[i], absl::StrCat(where, "[", i, "]"), templates);
  } else if (member->is_object()) {
    for (const auto& [name, value] : member->items()) {
      const std::string of = absl::StrCat(where, "[\"", Printable(name, kQuotedBytes), "\"]");
      Add(name, SourceOf(&value, of), of, templates);
    }
  } else {
    absl::StatusOr<std::string> source = SourceOf(member, where);
    if (!source.ok()) source = absl::DataLossError(absl::StrCat(source.status().message(), ", an object or a list"));
    Add(std::string(kDefault), std::move(source), where, templates);
  }
}

// The text of a file, empty where there is none. ResourceExhausted is the machine's fault, not the file's.
absl::StatusOr<std::string> ReadText(const std::string& folder, const std::string& file, int64_t max_bytes) {
  absl::StatusOr<std::string> text = ReadFileIfPresent(absl::StrCat(folder, "/", file), max_bytes);
  if (text.ok() || absl::IsResourceExhausted(text.status())) return text;
  const std::string_view message(text.status().message().data(), text.status().message().size());
  return absl::Status(text.status().code(), ToAbsl(message.substr(folder.size() + 1)));
}

absl::Status AddFile(const std::string& folder, const std::string& file, const std::string& name,
                     ChatTemplateSources& templates) {
  absl::StatusOr<std::string> source = ReadText(folder, file, ChatTemplate::kMaxSourceBytes);
  if (absl::IsResourceExhausted(source.status())) return source.status();
  if (!source.ok() || !source->empty()) Add(name, std::move(source), file, templates);
  return absl::OkStatus();
}

absl::Status AddFolder(const std::string& folder, ChatTemplateSources& templates) {
  constexpr std::string_view kFolder = "additional_chat_templates", kEnding = ".jinja";
  std::error_code error;
  std::filesystem::directory_iterator it(absl::StrCat(folder, "/", ToAbsl(kFolder)), error);
  for (; !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    const std::string file = it->path().filename().string();
    if (file.size() <= kEnding.size() || !file.ends_with(kEnding)) continue;
    if (templates.size() >= ChatTemplates::kMaxTemplates) {
      return absl::DataLossError(
          absl::StrCat(folder, "/", ToAbsl(kFolder), ": more than ", ChatTemplates::kMaxTemplates, " chat templates"));
    }
    QD_RETURN_IF_ERROR(AddFile(folder, absl::StrCat(ToAbsl(kFolder), "/", file),
                               file.substr(0, file.size() - kEnding.size()), templates));
  }
  if (error && error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory) {
    LogWarning(absl::StrCat(folder, "/", ToAbsl(kFolder), ": ", error.message(), ": its chat templates are not read"));
  }
  return absl::OkStatus();
}

// chat_template.json, which names the default and may name others.
absl::Status AddJsonFile(const std::string& folder, ChatTemplateSources& templates) {
  constexpr char kFile[] = "chat_template.json";
  const absl::StatusOr<std::string> text = ReadText(folder, kFile, kMaxJsonBytes);
  if (absl::IsResourceExhausted(text.status())) return text.status();
  if (text.ok() && text->empty()) return absl::OkStatus();
  const absl::StatusOr<JsonDocument> json =
      text.ok() ? ParseJson(*text, kFile) : absl::StatusOr<JsonDocument>(text.status());
  if (json.ok()) {
    AddMember(**json, kFile, templates);
  } else {
    Add(std::string(kDefault), json.status(), kFile, templates);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadChatTemplates(const std::string& folder, const Json* tokenizer_config,
                               ChatTemplateSources& templates) {
  QD_RETURN_IF_ERROR(AddFile(folder, "chat_template.jinja", std::string(kDefault), templates));
  QD_RETURN_IF_ERROR(AddFolder(folder, templates));
  if (templates.empty() && tokenizer_config != nullptr) {
    AddMember(*tokenizer_config, "tokenizer_config.json", templates);
  } else if (tokenizer_config != nullptr && tokenizer_config->contains(kMember)) {
    LogWarning(absl::StrCat(folder,
                            "/tokenizer_config.json: chat_template is not used: the templates in files count, as in "
                            "transformers"));
  }
  return templates.empty() ? AddJsonFile(folder, templates) : absl::OkStatus();
}

}  // namespace quantd
