// SentencePiece's byte tokens, "<0x0A>", and its visible space.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace quantd {

std::string ByteTokenText(uint8_t byte);
// The byte of a text of that form; nothing for any other.
std::optional<uint8_t> ByteOfToken(std::string_view text);
// `text` with each `from` (not empty) as `to`.
std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to);

}  // namespace quantd
