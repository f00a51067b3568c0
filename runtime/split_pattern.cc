#include "runtime/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/utf8.h"

namespace quantd {
namespace {

// Work is counted in PCRE2's match steps, or bytes looked at where those are more. kFreeWork places in a row are tried
// with that much for nothing; the published patterns need no more for a word. What goes beyond is counted, and a text
// has a budget of it: a run of n spaces takes the patterns of GPT-2, Llama 3 and their kin some 6 n. `\s+$` takes n
// squared before other text: it refuses a run of over 2000 there.
constexpr uint64_t kFreeWork = 64;
constexpr uint64_t kWorkPerByte = 64, kWorkPerText = 1024;
constexpr uint32_t kMatchHeapKib = 64 << 10;
constexpr size_t kJitStackBytes = 1 << 20;
constexpr size_t kPatternBytes = 16 << 10;

struct FreeCode {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
};
struct FreeCompile {
  void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
};
struct FreeMatch {
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
};
struct FreeData {
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};
struct FreeStack {
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};

std::string ErrorText(int code) {
  std::array<PCRE2_UCHAR, 160> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

// PCRE2's \s holds U+180E, which has not been white space since Unicode 6.3; its script names mean Script_Extensions,
// where Oniguruma means Script.
std::string ToPcre2(std::string_view regex) {
  constexpr std::array<std::string_view, 8> kScripts = {"Han",   "Hiragana", "Katakana", "Hangul",
                                                        "Latin", "Greek",    "Cyrillic", "Arabic"};
  std::string out;
  for (size_t i = 0; i < regex.size(); ++i) {
    if (regex[i] != '\\' || i + 1 == regex.size()) {
      out += regex[i];
      continue;
    }
    const char escaped = regex[++i];
    if (escaped == 's') {
      out += "\\p{White_Space}";
    } else if (escaped == 'S') {
      out += "\\P{White_Space}";
    } else {
      out += '\\';
      out += escaped;
      if (escaped != 'p' && escaped != 'P') continue;
      for (const std::string_view script : kScripts) {
        const std::string braced = "{" + std::string(script) + "}";
        if (regex.substr(i + 1, braced.size()) != braced) continue;
        out += "{sc:" + std::string(script) + "}";
        i += braced.size();
      }
    }
  }
  return out;
}

// What one call of Split needs to match: one per call, since it is written to.
class Matcher {
 public:
  explicit Matcher(size_t text_bytes)
      : budget_(kWorkPerText + kWorkPerByte * text_bytes),
        context_(pcre2_match_context_create(nullptr)),
        data_(pcre2_match_data_create(1, nullptr)),
        stack_(pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr)) {
    if (!ok()) return;
    pcre2_set_heap_limit(context_.get(), kMatchHeapKib);
    pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
  }
  bool ok() const { return context_ && data_ && stack_; }

  // The first match at or after `pos`; an empty range at the text's end where there is none.
  absl::StatusOr<ByteRange> Find(const pcre2_code* code, std::string_view text, size_t pos) {
    uint64_t work = kFreeWork;
    while (pos < text.size()) {
      const size_t next = CharacterAt(text, pos + kFreeWork);
      const int rc = Match(code, text, pos, /*last_start=*/next - 1, CharacterAt(text, pos + work), work);
      if (rc >= 0) {
        const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data_.get());
        return ByteRange{static_cast<uint32_t>(range[0]), static_cast<uint32_t>(range[1])};
      }
      if (rc == PCRE2_ERROR_NOMATCH) {
        pos = next;
        work = kFreeWork;
        continue;
      }
      const bool needs_more = rc == PCRE2_ERROR_PARTIAL || rc == PCRE2_ERROR_MATCHLIMIT;
      if (!needs_more || budget_ == 0) {
        return absl::ResourceExhaustedError(
            absl::StrCat("split pattern at byte ", pos, " of a text of ", text.size(), ": ",
                         needs_more ? "takes more steps than a text of this length has" : ErrorText(rc)));
      }
      work = std::min(4 * work, budget_);
      budget_ -= work;
    }
    const auto end = static_cast<uint32_t>(text.size());
    return ByteRange{end, end};
  }

 private:
  // Where the first character at or after `pos` begins, or the text's end.
  static size_t CharacterAt(std::string_view text, size_t pos) {
    while (pos < text.size() && (static_cast<uint8_t>(text[pos]) & 0xC0) == 0x80) ++pos;
    return std::min(pos, text.size());
  }

  // A match that starts in [pos, last_start], by at most `steps` steps within text[0, end). PCRE2_ERROR_PARTIAL: what
  // comes after `end` decides.
  int Match(const pcre2_code* code, std::string_view text, size_t pos, size_t last_start, size_t end, uint64_t steps) {
    pcre2_set_offset_limit(context_.get(), last_start);
    pcre2_set_match_limit(context_.get(), static_cast<uint32_t>(std::min<uint64_t>(steps, UINT32_MAX)));
    const uint32_t options = PCRE2_NO_UTF_CHECK | (end < text.size() ? PCRE2_PARTIAL_HARD : 0);
    return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), end, pos, options, data_.get(), context_.get());
  }

  uint64_t budget_;
  std::unique_ptr<pcre2_match_context, FreeMatch> context_;
  std::unique_ptr<pcre2_match_data, FreeData> data_;
  std::unique_ptr<pcre2_jit_stack, FreeStack> stack_;
};

// A stretch of a text, between two matches or within one.
struct Stretch {
  ByteRange range;
  bool is_match;
};

void AppendPieces(const std::vector<Stretch>& stretches, SplitBehavior behavior, uint32_t base,
                  std::vector<ByteRange>& pieces) {
  const size_t first = pieces.size();
  bool previous_was_match = false;
  for (const Stretch& s : stretches) {
    const ByteRange piece{base + s.range.begin, base + s.range.end};
    const bool has_previous = pieces.size() > first;
    if (piece.begin == piece.end || (s.is_match && behavior == SplitBehavior::kRemoved)) {
      previous_was_match = s.is_match;
      continue;
    }
    const bool joins_previous = (behavior == SplitBehavior::kMergedWithPrevious && s.is_match && !previous_was_match) ||
                                (behavior == SplitBehavior::kMergedWithNext && !s.is_match && previous_was_match);
    if (joins_previous && has_previous) {
      pieces.back().end = piece.end;
    } else {
      pieces.push_back(piece);
    }
    previous_was_match = s.is_match;
  }
}

}  // namespace

struct SplitPattern::Rule {
  std::unique_ptr<pcre2_code, FreeCode> code;
  SplitBehavior behavior;
  bool invert;
};

std::string_view Gpt2Pattern() {
  return R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
}

SplitPattern::SplitPattern() = default;
SplitPattern::SplitPattern(SplitPattern&&) noexcept = default;
SplitPattern& SplitPattern::operator=(SplitPattern&&) noexcept = default;
SplitPattern::~SplitPattern() = default;

absl::StatusOr<SplitPattern> SplitPattern::Compile(const std::vector<SplitRule>& rules) {
  const std::unique_ptr<pcre2_compile_context, FreeCompile> context(pcre2_compile_context_create(nullptr));
  if (!context) return absl::ResourceExhaustedError("split pattern: no memory");
  pcre2_set_max_pattern_length(context.get(), kPatternBytes);
  SplitPattern pattern;
  for (const SplitRule& rule : rules) {
    const std::string regex = ToPcre2(rule.regex);
    int error = 0;
    PCRE2_SIZE offset = 0;
    std::unique_ptr<pcre2_code, FreeCode> code(pcre2_compile(
        reinterpret_cast<PCRE2_SPTR>(regex.data()), regex.size(),
        PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT, &error, &offset, context.get()));
    if (!code) {
      return absl::UnimplementedError(
          absl::StrCat("split pattern '", rule.regex.substr(0, 80), "': ", ErrorText(error), " at byte ", offset));
    }
    pcre2_jit_compile(code.get(),
                      PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);  // where there is no JIT, pcre2_match interprets
    pattern.rules_.push_back({std::move(code), rule.behavior, rule.invert});
  }
  return pattern;
}

absl::Status SplitPattern::Split(std::string_view text, std::vector<ByteRange>& pieces) const {
  pieces.clear();
  if (text.empty()) return absl::OkStatus();
  pieces.push_back({0, static_cast<uint32_t>(text.size())});
  if (rules_.empty()) return absl::OkStatus();
  Matcher matcher(text.size());
  if (!matcher.ok()) return absl::ResourceExhaustedError("split pattern: no memory");

  std::vector<ByteRange> whole;
  std::vector<Stretch> stretches;
  for (const Rule& rule : rules_) {
    whole.swap(pieces);
    pieces.clear();
    for (const ByteRange& range : whole) {
      const std::string_view piece = text.substr(range.begin, range.end - range.begin);
      const auto size = static_cast<uint32_t>(piece.size());
      stretches.clear();
      uint32_t done = 0;
      for (uint32_t pos = 0; pos < size;) {
        QD_ASSIGN_OR_RETURN(const ByteRange match, matcher.Find(rule.code.get(), piece, pos));
        if (match.begin == size) break;
        if (done < match.begin) stretches.push_back({{done, match.begin}, rule.invert});
        stretches.push_back({match, !rule.invert});
        done = match.end;
        pos = match.end > match.begin ? match.end : match.end + DecodeUtf8(piece, match.end).size;
      }
      if (done < size) stretches.push_back({{done, size}, rule.invert});
      AppendPieces(stretches, rule.behavior, range.begin, pieces);
    }
  }
  return absl::OkStatus();
}

}  // namespace quantd
