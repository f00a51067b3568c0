#include "server/cli/chat_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include <absl/strings/str_cat.h>

#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/printable.h"
#include "server/text_file.h"

namespace quantd {
namespace {

using Json = nlohmann::json;

absl::Status NoConversation(const std::string& path, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(Printable(path), " is no conversation: ", ToAbsl(what)));
}

absl::Status AddMessage(const std::string& path, const Json& message, v1::Chat& chat) {
  const auto text = [&](const char* key) {
    return message.is_object() && message.contains(key) && message[key].is_string()
               ? std::optional(message[key].get<std::string>())
               : std::nullopt;
  };
  const std::optional<std::string> role = text("role"), content = text("content");
  if (!role.has_value() || !content.has_value()) {
    return NoConversation(path, "a message has no texts \"role\" and \"content\"");
  }
  v1::ChatMessage& added = *chat.add_messages();
  added.set_role(*role);
  added.set_content(*content);
  return absl::OkStatus();
}

std::string CannotWrite(const std::string& path) {
  return absl::StrCat("cannot write ", Printable(path), ": ", std::strerror(errno));
}

}  // namespace

absl::Status LoadChat(const std::string& path, v1::Chat& chat) {
  QD_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return NoConversation(path, "it is no JSON");
  if (!json.is_object() || !json.contains("messages") || !json["messages"].is_array()) {
    return NoConversation(path, "it has no list \"messages\"");
  }
  v1::Chat loaded;
  for (const Json& message : json["messages"]) QD_RETURN_IF_ERROR(AddMessage(path, message, loaded));
  *chat.mutable_messages() = loaded.messages();
  return absl::OkStatus();
}

absl::Status SaveChat(const std::string& path, const std::string& model, const v1::Chat& chat) {
  if (v1::Chat there; access(path.c_str(), F_OK) == 0 && !LoadChat(path, there).ok()) {
    return absl::InvalidArgumentError(absl::StrCat(Printable(path), " is there and is no conversation; it stays"));
  }
  Json messages = Json::array();
  for (const v1::ChatMessage& m : chat.messages()) {
    messages.push_back({{"role", m.role()}, {"content", m.content()}});
  }
  const std::string text =
      Json{{"model", model}, {"messages", messages}}.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return absl::InvalidArgumentError(CannotWrite(path));
  size_t written = 0;
  while (written < text.size()) {
    const ssize_t n = write(fd, text.data() + written, text.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    written += static_cast<size_t>(n);
  }
  const absl::Status status = written == text.size() ? absl::OkStatus() : absl::InvalidArgumentError(CannotWrite(path));
  close(fd);
  return status;
}

}  // namespace quantd
