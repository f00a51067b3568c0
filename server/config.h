// The YAML file of `quantd serve --config`. Unknown keys are errors, with the nearest known one suggested; all errors
// are found at once. docs/api.md lists the keys.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/options.h"

namespace quantd {

// Sets in `options` what the file says and leaves the rest. Empty: all is well. Else one message an error, with its
// line.
std::vector<std::string> ParseConfig(const std::string& yaml, ServerOptions& options);
// The same with the path before each line.
std::vector<std::string> ReadConfig(const std::string& path, ServerOptions& options);

// The candidate closest to `word` by edit distance, if any is close enough to be a typing error.
std::string_view Nearest(std::string_view word, const std::vector<std::string_view>& candidates);

}  // namespace quantd
