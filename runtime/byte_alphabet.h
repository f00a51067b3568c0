// GPT-2's alphabet: each byte is written as one printable character (openai/gpt-2 encoder.py, bytes_to_unicode).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace quantd {

// The bytes that a token of a byte-level vocabulary stands for; nothing where a character is not of the alphabet.
std::optional<std::string> DecodeByteAlphabet(std::string_view token);

// The character that `byte` is written as, in UTF-8.
std::string_view ByteAlphabetCharacter(uint8_t byte);

}  // namespace quantd
