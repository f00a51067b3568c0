// Provenance: a prompt is a list of pieces, each of which says whether its text may hold special tokens.
#pragma once

#include <string>
#include <vector>

namespace quantd {

// Template text is trusted: special tokens written in it are recognised. A value (a message of a user, a tool's output)
// is data: "<|eot_id|>" in it stays plain text. Between two specials all text encodes as one string, whoever it came
// from: provenance decides what may be special, never where a merge may happen.
struct TextPiece {
  std::string text;
  bool parse_special = false;
};
using TextPieces = std::vector<TextPiece>;

inline std::string JoinText(const TextPieces& pieces) {
  std::string all;
  for (const TextPiece& piece : pieces) all += piece.text;
  return all;
}

}  // namespace quantd
