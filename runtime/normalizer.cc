#include "runtime/normalizer.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/utf8.h"

namespace quantd {
namespace {

MappedText Strip(const MappedText& in, const StripStep& step) {
  size_t begin = 0, end = in.text.size();
  while (step.left && begin < end) {
    const Utf8Sequence c = DecodeUtf8(in.text, begin);
    if (!IsWhiteSpace(c.code_point)) break;
    begin += c.size;
  }
  while (step.right && end > begin) {
    size_t last = end - 1;
    while (last > begin && (static_cast<uint8_t>(in.text[last]) & 0xC0) == 0x80) --last;
    if (!IsWhiteSpace(DecodeUtf8(in.text, last).code_point)) break;
    end = last;
  }
  return in.Part(begin, end);
}

// Hugging Face `tokenizers`, normalizers/unicode.rs, do_nmt.
MappedText Nmt(const MappedText& in) {
  MappedText out = in.Next();
  for (size_t pos = 0; pos < in.text.size();) {
    const Utf8Sequence sequence = DecodeUtf8(in.text, pos);
    const char32_t c = sequence.code_point;
    const bool dropped =
        (c >= 0x1 && c <= 0x8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
    const bool spaced = c == 0x9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                        c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
    if (spaced) {
      out.Append(" ", in.source[pos]);
    } else if (!dropped) {
      out.AppendPart(in, pos, pos + sequence.size);
    }
    pos += sequence.size;
  }
  return out;
}

MappedText ByLongestKey(const MappedText& in, const Charsmap& map) {
  MappedText out = in.Next();
  for (size_t pos = 0; pos < in.text.size() && !out.overflowed;) {
    const auto match = map.Longest(std::string_view(in.text).substr(pos));
    const size_t end = match ? pos + match->bytes : 0;  // of a corrupt map it may lie within a character
    if (match && (end == in.text.size() || (static_cast<uint8_t>(in.text[end]) & 0xC0) != 0x80)) {
      out.Append(match->replacement, in.source[pos]);
      pos += match->bytes;
    } else {
      const int size = DecodeUtf8(in.text, pos).size;
      out.AppendPart(in, pos, pos + size);
      pos += size;
    }
  }
  return out;
}

// Hugging Face `tokenizers`, normalizers/precompiled.rs: a short grapheme is replaced as a whole by what its shortest
// known prefix stands for, a longer one character by character.
MappedText ByGraphemes(const MappedText& in, const Charsmap& map) {
  constexpr size_t kShort = 6;
  MappedText out = in.Next();
  const auto replace = [&](size_t begin, size_t end) {
    const auto match = map.Shortest(std::string_view(in.text).substr(begin, end - begin));
    if (match) out.Append(match->replacement, in.source[begin]);
    return match.has_value();
  };
  for (size_t begin = 0; begin < in.text.size() && !out.overflowed;) {
    const size_t end = GraphemeEnd(in.text, begin);
    const bool replaced = end - begin < kShort && replace(begin, end);
    for (size_t pos = begin; pos < end && !replaced;) {
      const size_t next = pos + DecodeUtf8(in.text, pos).size;
      if (!replace(pos, next)) out.AppendPart(in, pos, next);
      pos = next;
    }
    begin = end;
  }
  return out;
}

MappedText WithoutExtraSpaces(const MappedText& in) {
  MappedText out = in.Next();
  bool after_space = true;
  for (size_t pos = 0; pos < in.text.size(); ++pos) {
    const bool is_space = in.text[pos] == ' ';
    if (!is_space || !after_space) out.AppendPart(in, pos, pos + 1);
    after_space = is_space;
  }
  // SentencePiece takes a visible space that the text itself ends with for one of its own.
  constexpr std::string_view kVisibleSpace = "\xE2\x96\x81";
  size_t end = out.text.size();
  for (std::string_view rest = out.text;; rest = rest.substr(0, end)) {
    if (rest.ends_with(' ')) {
      end -= 1;
    } else if (rest.ends_with(kVisibleSpace)) {
      end -= kVisibleSpace.size();
    } else {
      break;
    }
  }
  out.text.resize(end);
  out.source.resize(end);
  return out;
}

// `begins` and so on are places of `in`; an empty match puts `to` there.
absl::StatusOr<MappedText> ReplaceMatches(const MappedText& in, const ReplaceMatchesStep& step, SplitWork& work) {
  std::vector<ByteRange> matches;
  QD_RETURN_IF_ERROR(step.pattern->FindMatches(in.text, work, matches));
  MappedText out = in.Next();
  size_t done = 0;
  for (const ByteRange& match : matches) {
    out.AppendPart(in, done, match.begin);
    out.Append(step.to, in.source[match.begin]);
    done = match.end;
  }
  out.AppendPart(in, done, in.text.size());
  return out;
}

struct Runner {
  const MappedText& in;
  SplitWork& work;

  absl::StatusOr<MappedText> operator()(const PrependStep& step) const {
    return in.goes_on ? in : Prepend(in, step.text);
  }
  absl::StatusOr<MappedText> operator()(const ReplaceStep& step) const { return Replace(in, step.from, step.to); }
  absl::StatusOr<MappedText> operator()(const ReplaceMatchesStep& step) const { return ReplaceMatches(in, step, work); }
  absl::StatusOr<MappedText> operator()(const StripStep& step) const { return Strip(in, step); }
  absl::StatusOr<MappedText> operator()(const FormStep& step) const { return ToForm(in, step.form); }
  absl::StatusOr<MappedText> operator()(const LowercaseStep&) const { return ToLowercase(in); }
  absl::StatusOr<MappedText> operator()(const StripAccentsStep&) const { return WithoutMarks(in); }
  absl::StatusOr<MappedText> operator()(const NmtStep&) const { return Nmt(in); }
  absl::StatusOr<MappedText> operator()(const CharsmapStep& step) const {
    return step.of_graphemes ? ByGraphemes(in, *step.map) : ByLongestKey(in, *step.map);
  }
  absl::StatusOr<MappedText> operator()(const ExtraSpacesStep&) const { return WithoutExtraSpaces(in); }
};

}  // namespace

MappedText Prepend(const MappedText& in, std::string_view prefix) {
  if (in.text.empty()) return in;
  MappedText out = in.Next();
  out.Append(prefix, in.source.front());
  out.AppendPart(in, 0, in.text.size());
  return out;
}

MappedText Replace(const MappedText& in, std::string_view from, std::string_view to) {
  MappedText out = in.Next();
  for (size_t pos = 0; pos < in.text.size();) {
    const size_t found = std::min(in.text.find(from, pos), in.text.size());
    out.AppendPart(in, pos, found);
    if (found == in.text.size()) break;
    out.Append(to, in.source[found]);
    pos = found + from.size();
  }
  return out;
}

absl::Status CheckGrowth(const MappedText& text) {
  if (!text.overflowed) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("normalizing makes more than ", text.limit, " bytes of a text, ", kMaxTextGrowth, " times its own"));
}

absl::Status Normalize(const std::vector<NormalizeStep>& steps, SplitWork& work, MappedText& text) {
  for (const NormalizeStep& step : steps) {
    QD_ASSIGN_OR_RETURN(MappedText next, std::visit(Runner{text, work}, step));
    text = std::move(next);
    QD_RETURN_IF_ERROR(CheckGrowth(text));
  }
  return absl::OkStatus();
}

}  // namespace quantd
