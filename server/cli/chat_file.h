// A conversation in a file: {"model": ..., "messages": [{"role": ..., "content": ...}]}.
#pragma once

#include <string>

#include <absl/status/status.h>

#include "quantd/v1/generation.pb.h"

namespace quantd {

// Writes the file for its user alone (mode 0600). InvalidArgument: it cannot be written, or something that is no
// conversation stands there.
absl::Status SaveChat(const std::string& path, const std::string& model, const v1::Chat& chat);
// Replaces the messages of `chat`. InvalidArgument: the file cannot be read or holds no conversation.
absl::Status LoadChat(const std::string& path, v1::Chat& chat);

}  // namespace quantd
