// The architecture a config.json names.
#pragma once

#include <string>
#include <string_view>

#include <absl/status/statusor.h>

namespace quantd {

// The first of "architectures". InvalidArgument: there is none.
absl::StatusOr<std::string> ReadArchitecture(std::string_view config_json);

}  // namespace quantd
