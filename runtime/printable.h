// Text of a file for a message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace quantd {

// `text` with control characters and what is no UTF-8 as \xNN, cut after at most `max_bytes` of its bytes.
std::string Printable(std::string_view text, size_t max_bytes = 80);

}  // namespace quantd
