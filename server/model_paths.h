// Which paths of the disk a client may have read.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace quantd {

// `path` with its symbolic links resolved, where it lies at or below one of `roots` and no link leads out of them; it
// need not exist. Nothing otherwise, and then nothing outside the roots was looked at: neither the answer nor the time
// it takes says what is there. ".." is taken off by its letters, before the disk is asked, so the result is what is to
// be opened, not `path`.
std::optional<std::string> ResolveBelow(const std::string& path, const std::vector<std::string>& roots);

}  // namespace quantd
