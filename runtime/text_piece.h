// Provenance: a prompt is a list of pieces, each of which says what a special token written in its text becomes.
#pragma once

#include <string>
#include <vector>

namespace quantd {

// Template text is trusted: special tokens written in it are recognised. A value (a message of a user, a tool's output)
// is data: "<|eot_id|>" in it stays plain text. Between two specials all text encodes as one string, whoever it came
// from: provenance decides what may be special, never where a merge may happen; but for the borders of cut_at_special.
struct TextPiece {
  std::string text;
  bool parse_special = false;
  // With parse_special: a special token may hold the text with what stands around it, not lie within it alone.
  bool is_name = false;
  // Without parse_special: a special token that lies in such pieces is text of its own, with which nothing before or
  // after it merges, as transformers' sanitize_control_tokens cuts a chat. Else it is text like any other, as with its
  // split_special_tokens.
  bool cut_at_special = false;
};
using TextPieces = std::vector<TextPiece>;

inline std::string JoinText(const TextPieces& pieces) {
  std::string all;
  for (const TextPiece& piece : pieces) all += piece.text;
  return all;
}

}  // namespace quantd
