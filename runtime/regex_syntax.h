// The regular expressions of tokenizer.json, which Hugging Face `tokenizers` runs with Oniguruma in its Ruby syntax, in
// the syntax of PCRE2.
#pragma once

#include <string>
#include <string_view>

#include <absl/status/statusor.h>

namespace quantd {

// For PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE. Unimplemented: what PCRE2 has not, and what would take a match out of
// its bounds: verbs, callouts, recursion, references back, \K (names it, with its byte).
absl::StatusOr<std::string> OnigurumaToPcre2(std::string_view regex);

// A pattern that matches `text` and nothing else, in both syntaxes.
std::string QuoteForRegex(std::string_view text);

}  // namespace quantd
