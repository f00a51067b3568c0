#include "runtime/added_tokens.h"

#include <utf8proc.h>

#include "base/strings.h"
#include "runtime/printable.h"
#include "runtime/unicode_text.h"
#include "runtime/utf8.h"

namespace quantd {
namespace {

// \w of the Rust regex that upstream uses: letters, marks, decimal digits, letter numbers, connector punctuation, the
// joiners.
bool IsWord(char32_t c) {
  if (c == 0x200C || c == 0x200D) return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

// Where the character that ends at `end` begins; end > 0.
size_t PreviousCharacter(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return begin;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder() : token_at_(1, -1) {}

absl::Status AddedTokenFinder::Add(std::string_view content, const AddedToken& token) {
  if (content.empty()) return absl::OkStatus();
  if (content.size() > kMaxAddedTokenBytes) {
    return absl::DataLossError(absl::StrCat("added token '", Printable(content), "' with id ", token.id, ": ",
                                            content.size(), " bytes of text, at most ", kMaxAddedTokenBytes));
  }
  bytes_ += content.size();
  if (tokens_.size() == kMaxAddedTokens || bytes_ > kMaxAddedBytes) {
    return absl::DataLossError(absl::StrCat("added tokens: ", tokens_.size() + 1, " with ", bytes_,
                                            " bytes of text and more, at most ", kMaxAddedTokens, " with ",
                                            kMaxAddedBytes));
  }
  begins_one_[static_cast<uint8_t>(content.front())] = true;
  uint32_t node = 0;
  for (const char c : content) {
    const auto [it, is_new] =
        edges_.try_emplace(EdgeKey(node, static_cast<uint8_t>(c)), static_cast<uint32_t>(token_at_.size()));
    if (is_new) token_at_.push_back(-1);
    node = it->second;
  }
  token_at_[node] = static_cast<int32_t>(tokens_.size());
  tokens_.push_back({token.id, token.special || token.trusted_only, token.single_word, token.lstrip, token.rstrip});
  return absl::OkStatus();
}

bool AddedTokenFinder::IsSingleWord(std::string_view text, const ByteRange& range) {
  const bool word_before = range.begin > 0 && IsWord(DecodeUtf8(text, PreviousCharacter(text, range.begin)).code_point);
  const bool word_after = range.end < text.size() && IsWord(DecodeUtf8(text, range.end).code_point);
  return !word_before && !word_after;
}

void AddedTokenFinder::Strip(std::string_view text, const Flags& token, uint32_t done, uint32_t& white_end,
                             ByteRange& range) {
  while (token.lstrip && range.begin > done) {
    const size_t previous = PreviousCharacter(text, range.begin);
    if (!IsWhiteSpace(DecodeUtf8(text, previous).code_point)) break;
    range.begin = static_cast<uint32_t>(previous);
  }
  if (!token.rstrip) return;
  white_end = std::max(white_end, range.end);
  while (white_end < text.size()) {
    const Utf8Sequence next = DecodeUtf8(text, white_end);
    if (!IsWhiteSpace(next.code_point)) break;
    white_end += next.size;
  }
  range.end = white_end;
}

}  // namespace quantd
