// The chat templates that a checkpoint names, as its files hold them.
#pragma once

#include <map>
#include <string>

#include <absl/status/statusor.h>

namespace quantd {

// Jinja2 by name; "default" is the one of most models. A status in place of a text: the template is named, and there is
// none to read (a value of another kind, a file that cannot be read); it says what was found, by file and key.
using ChatTemplateSources = std::map<std::string, absl::StatusOr<std::string>>;

}  // namespace quantd
