// What `/set` of a conversation can change: sampling, the length of an answer, the system message.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>

#include "server/cli/client.h"

namespace quantd {

struct ChatSettings {
  SamplingFlags sampling;
  std::string system;
};

// Sets `name` ("temperature", "max_tokens", also with dashes) to `value`; "default" takes a value back.
// InvalidArgument: no such setting, with the one that was probably meant, or no such value.
absl::Status Set(ChatSettings& settings, std::string_view name, const std::string& value);
// A line a setting: its name and its value, or what holds without one.
std::vector<std::string> Describe(const ChatSettings& settings, const ServedModel& model);

}  // namespace quantd
