// What this build checks while it runs; it costs memory and time that some tests must know of.
#pragma once

#include <string_view>

namespace quantd::testing {

// As in CMakePresets.json: "address,undefined", "thread" or "".
inline constexpr std::string_view kSanitizer = QD_SANITIZE;

}  // namespace quantd::testing
