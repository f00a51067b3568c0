// What happens to a text between two added tokens before it is split: the normalizers of tokenizer.json and those that
// a SentencePiece model brings.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include <absl/status/status.h>

#include "runtime/charsmap.h"
#include "runtime/mapped_text.h"
#include "runtime/split_pattern.h"
#include "runtime/unicode_text.h"

namespace quantd {

struct PrependStep {
  std::string text;  // before a text that is not empty
};
struct ReplaceStep {
  std::string from, to;  // `from` is not empty
};
struct ReplaceMatchesStep {
  std::shared_ptr<const SplitPattern> pattern;  // of one rule
  std::string to;
};
struct StripStep {
  bool left = true, right = true;  // white space
};
struct FormStep {
  UnicodeForm form;
};
struct LowercaseStep {};
struct StripAccentsStep {};
// SentencePiece's Nmt: control characters go, other white space becomes a space.
struct NmtStep {};
// `of_graphemes`: as Hugging Face `tokenizers` looks the map up, else as SentencePiece does.
struct CharsmapStep {
  std::shared_ptr<const Charsmap> map;
  bool of_graphemes = true;
};
// SentencePiece's remove_extra_whitespaces: no space at either end, and one where there are several.
struct ExtraSpacesStep {};

using NormalizeStep = std::variant<PrependStep, ReplaceStep, ReplaceMatchesStep, StripStep, FormStep, LowercaseStep,
                                   StripAccentsStep, NmtStep, CharsmapStep, ExtraSpacesStep>;

// Runs the steps on `text`. ResourceExhausted: the text grows beyond its limit, or a pattern takes too many steps.
absl::Status Normalize(const std::vector<NormalizeStep>& steps, SplitWork& work, MappedText& text);

// Pieces of other steps too.
MappedText Prepend(const MappedText& in, std::string_view prefix);
MappedText Replace(const MappedText& in, std::string_view from, std::string_view to);
absl::Status CheckGrowth(const MappedText& text);

}  // namespace quantd
