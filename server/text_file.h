// Texts that a person names on the command line: files, pipes (`<(…)`, /dev/stdin), standard input.
#pragma once

#include <cstdio>
#include <string>

#include <absl/status/statusor.h>

namespace quantd {

// All that is left of `in`. `name` is for messages. InvalidArgument: it cannot be read (a folder, a failing disk), or
// holds more than 64 MiB.
absl::StatusOr<std::string> ReadText(std::FILE* in, const std::string& name);
// InvalidArgument: the file cannot be opened; else as ReadText.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

}  // namespace quantd
