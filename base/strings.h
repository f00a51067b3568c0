// Bridges between std::string_view, which our interfaces use, and absl::string_view, which on Debian is another type.
#pragma once

#include <string_view>

#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>

namespace quantd {

inline absl::string_view ToAbsl(std::string_view s) { return absl::string_view(s.data(), s.size()); }
inline std::string_view ToStd(absl::string_view s) { return std::string_view(s.data(), s.size()); }

}  // namespace quantd
