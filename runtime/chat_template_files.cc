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

namespace quantd {
namespace {

using Templates = std::map<std::string, std::string>;

// JSON writes a character in up to twelve bytes.
constexpr int64_t kMaxJsonBytes = 12 * static_cast<int64_t>(ChatTemplate::kMaxSourceBytes);

absl::Status Add(const std::string& name, std::string source, const std::string& where, Templates& templates) {
  if (name.empty()) return absl::DataLossError(absl::StrCat(where, ": a chat template without a name"));
  if (source.empty()) {
    templates.erase(name);
  } else {
    templates.insert_or_assign(name, std::move(source));  // the last of one name counts, as in a dict of Python
  }
  return absl::OkStatus();
}

absl::Status AddMember(const Json& object, const std::string& file, Templates& templates) {
  const Json* member = FindMember(object, "chat_template");
  if (member == nullptr) return absl::OkStatus();
  const std::string where = file + ": chat_template";
  if (member->is_string()) return Add("default", member->get<std::string>(), where, templates);
  if (!member->is_array() && !member->is_object()) {
    return absl::DataLossError(
        absl::StrCat(where, " is ", Excerpt(*member), ", expected a string, an object or a list"));
  }
  for (const auto& [key, value] : member->items()) {
    std::string name = key;
    const Json* source = &value;
    if (member->is_array()) {
      QD_ASSIGN_OR_RETURN(name, GetString(value, "name", "", where));
      source = FindMember(value, "template");
    }
    if (source == nullptr || !source->is_string()) {
      return absl::DataLossError(absl::StrCat(where, "[", key.substr(0, 60),
                                              "]: ", source == nullptr ? "no template" : "the template is no string"));
    }
    QD_RETURN_IF_ERROR(Add(name, source->get<std::string>(), where, templates));
  }
  return absl::OkStatus();
}

absl::Status AddFile(const std::string& path, const std::string& name, Templates& templates) {
  QD_ASSIGN_OR_RETURN(std::string source, ReadFileIfPresent(path, ChatTemplate::kMaxSourceBytes));
  return source.empty() ? absl::OkStatus() : Add(name, std::move(source), path, templates);
}

absl::Status AddFolder(const std::string& folder, Templates& templates) {
  std::error_code error;
  std::filesystem::directory_iterator it(folder, error);
  for (; !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    constexpr std::string_view kEnding = ".jinja";
    const std::string file = it->path().filename().string();
    if (file.size() <= kEnding.size() || !file.ends_with(kEnding)) continue;
    if (templates.size() >= ChatTemplates::kMaxTemplates) {
      return absl::DataLossError(absl::StrCat(folder, ": more than ", ChatTemplates::kMaxTemplates, " chat templates"));
    }
    QD_RETURN_IF_ERROR(AddFile(it->path().string(), file.substr(0, file.size() - kEnding.size()), templates));
  }
  if (error && error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory) {
    return absl::DataLossError(absl::StrCat(folder, ": ", error.message()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadChatTemplates(const std::string& folder, const Json* tokenizer_config, Templates& templates) {
  QD_RETURN_IF_ERROR(AddFile(folder + "/chat_template.jinja", "default", templates));
  QD_RETURN_IF_ERROR(AddFolder(folder + "/additional_chat_templates", templates));
  if (templates.empty() && tokenizer_config != nullptr) {
    QD_RETURN_IF_ERROR(AddMember(*tokenizer_config, folder + "/tokenizer_config.json", templates));
  } else if (tokenizer_config != nullptr && tokenizer_config->contains("chat_template")) {
    LogWarning(absl::StrCat(folder,
                            "/tokenizer_config.json: chat_template is not used: the templates in files count, as in "
                            "transformers"));
  }
  if (!templates.empty()) return absl::OkStatus();
  const std::string path = folder + "/chat_template.json";
  QD_ASSIGN_OR_RETURN(const std::string text, ReadFileIfPresent(path, kMaxJsonBytes));
  if (text.empty()) return absl::OkStatus();
  QD_ASSIGN_OR_RETURN(const Json json, ParseJson(text, path));
  return AddMember(json, path, templates);
}

}  // namespace quantd
