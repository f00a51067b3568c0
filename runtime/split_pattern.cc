#include "runtime/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <optional>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/printable.h"
#include "runtime/regex_syntax.h"
#include "runtime/utf8.h"

namespace quantd {
namespace {

// The published patterns take 1 to 12 for a byte of any text, a megabyte of spaces too. A pattern that goes back over a
// run for each place in it, as `\s+$` does, is refused a run of some 8,000 in a text of a megabyte.
constexpr uint64_t kWorkPerByte = 64, kWorkPerText = 64 << 10;
constexpr uint64_t kStopWork = 1 << 20;  // some 20 ms
constexpr uint32_t kMatchHeapKib = 64 << 10;
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

std::string ErrorText(int code) {
  std::array<PCRE2_UCHAR, 160> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

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
                                (behavior == SplitBehavior::kMergedWithNext && !s.is_match && previous_was_match) ||
                                (behavior == SplitBehavior::kContiguous && s.is_match == previous_was_match);
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

// What one text needs to match. PCRE2 interprets, with a callout before each item of the pattern: the compiled code of
// its JIT looks at no limit while it runs through a repeat or skips ahead.
struct SplitWork::Matcher {
  Matcher(size_t bytes, const Stop* asked)
      : stop(asked),
        budget(kWorkPerText + kWorkPerByte * bytes),
        text_bytes(bytes),
        context(pcre2_match_context_create(nullptr)),
        data(pcre2_match_data_create(1, nullptr)) {
    if (!context || !data) return;
    pcre2_set_heap_limit(context.get(), kMatchHeapKib);
    pcre2_set_match_limit(context.get(), UINT32_MAX);  // counts less than the callouts do
    pcre2_set_depth_limit(context.get(), UINT32_MAX);  // the heap's limit is that of the depth
    pcre2_set_callout(context.get(), &Matcher::Charge, this);
  }

  // A step, and the bytes between this place and that of the step before.
  static int Charge(pcre2_callout_block* block, void* self) {
    auto& matcher = *static_cast<Matcher*>(self);
    const size_t place = block->current_position, last = matcher.last_place;
    const uint64_t cost = 1 + (place > last ? place - last : last - place);
    matcher.last_place = place;
    if (cost > matcher.budget) return PCRE2_ERROR_MATCHLIMIT;
    const bool asks =
        matcher.stop != nullptr && *matcher.stop && (matcher.budget - cost) / kStopWork != matcher.budget / kStopWork;
    matcher.budget -= cost;
    return asks && (*matcher.stop)() ? PCRE2_ERROR_CALLOUT : 0;
  }

  // The first match at or after `pos`; nothing where there is none.
  absl::StatusOr<std::optional<ByteRange>> Find(const pcre2_code* code, std::string_view text, size_t pos) {
    last_place = pos;
    const int rc = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), pos, PCRE2_NO_UTF_CHECK,
                               data.get(), context.get());
    if (rc >= 0) {
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
      return ByteRange{static_cast<uint32_t>(range[0]), static_cast<uint32_t>(range[1])};
    }
    if (rc == PCRE2_ERROR_NOMATCH) return std::nullopt;
    if (rc == PCRE2_ERROR_CALLOUT) return absl::CancelledError("the tokenizer was stopped");
    return absl::ResourceExhaustedError(
        absl::StrCat("split pattern at byte ", pos, " of a text of ", text_bytes, ": ",
                     rc == PCRE2_ERROR_MATCHLIMIT ? "takes more steps than a text of this length has" : ErrorText(rc)));
  }

  // Calls `visit` with each match, in order; the next is looked for behind it, and one character further where it is
  // empty.
  template <typename Visit>
  absl::Status ForEachMatch(const pcre2_code* code, std::string_view text, const Visit& visit) {
    if (!context || !data) return absl::ResourceExhaustedError("split pattern: no memory");
    for (size_t pos = 0; pos < text.size();) {
      QD_ASSIGN_OR_RETURN(const std::optional<ByteRange> match, Find(code, text, pos));
      if (!match || match->begin == text.size()) break;
      visit(*match);
      pos = match->end > match->begin ? match->end : match->end + DecodeUtf8(text, match->end).size;
    }
    return absl::OkStatus();
  }

  const Stop* stop;
  uint64_t budget;
  const size_t text_bytes;
  size_t last_place = 0;
  std::unique_ptr<pcre2_match_context, FreeMatch> context;
  std::unique_ptr<pcre2_match_data, FreeData> data;
};

SplitWork::SplitWork(size_t text_bytes, const Stop* stop) : matcher_(std::make_unique<Matcher>(text_bytes, stop)) {}
SplitWork::~SplitWork() = default;

absl::StatusOr<SplitPattern> SplitPattern::Compile(const std::vector<SplitRule>& rules) {
  const std::unique_ptr<pcre2_compile_context, FreeCompile> context(pcre2_compile_context_create(nullptr));
  if (!context) return absl::ResourceExhaustedError("split pattern: no memory");
  pcre2_set_max_pattern_length(context.get(), kPatternBytes);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  SplitPattern pattern;
  for (const SplitRule& rule : rules) {
    const auto refuse = [&](absl::string_view what) {
      return absl::UnimplementedError(absl::StrCat("split pattern '", Printable(rule.regex), "': ", what));
    };
    const absl::StatusOr<std::string> regex = OnigurumaToPcre2(rule.regex);
    if (!regex.ok()) return refuse(regex.status().message());
    int error = 0;
    PCRE2_SIZE offset = 0;
    constexpr uint32_t kOptions =
        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_AUTO_CALLOUT;
    std::unique_ptr<pcre2_code, FreeCode> code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(regex->data()), regex->size(),
                                                             kOptions, &error, &offset, context.get()));
    if (!code) return refuse(absl::StrCat(ErrorText(error), " at byte ", offset));
    pattern.rules_.push_back({std::move(code), rule.behavior, rule.invert});
  }
  return pattern;
}

absl::Status SplitPattern::FindMatches(std::string_view text, SplitWork& work, std::vector<ByteRange>& matches) const {
  matches.clear();
  return work.matcher_->ForEachMatch(rules_[0].code.get(), text,
                                     [&](const ByteRange& match) { matches.push_back(match); });
}

absl::Status SplitPattern::Split(std::string_view text, std::vector<ByteRange>& pieces) const {
  SplitWork work(text.size());
  return Split(text, work, pieces);
}

absl::Status SplitPattern::Split(std::string_view text, SplitWork& work, std::vector<ByteRange>& pieces) const {
  pieces.clear();
  if (text.empty()) return absl::OkStatus();
  pieces.push_back({0, static_cast<uint32_t>(text.size())});

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
      const auto add = [&](const ByteRange& match) {
        if (done < match.begin) stretches.push_back({{done, match.begin}, rule.invert});
        stretches.push_back({match, !rule.invert});
        done = match.end;
      };
      QD_RETURN_IF_ERROR(work.matcher_->ForEachMatch(rule.code.get(), piece, add));
      if (done < size) stretches.push_back({{done, size}, rule.invert});
      AppendPieces(stretches, rule.behavior, range.begin, pieces);
    }
  }
  return absl::OkStatus();
}

}  // namespace quantd
