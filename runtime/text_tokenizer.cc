#include "runtime/text_tokenizer.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/utf8.h"

namespace quantd {
namespace {

// Of one Encode: offsets are 32 bits wide, also in the normalized text.
constexpr size_t kMaxTextBytes = (size_t{1} << 32) / kMaxTextGrowth - 1;

// A text made from another one, with the place in that other one for each of its bytes.
struct MappedText {
  std::string text;
  std::vector<uint32_t> source;

  void Append(std::string_view bytes, uint32_t from) {
    text += bytes;
    source.insert(source.end(), bytes.size(), from);
  }
};

MappedText Identity(std::string_view text, uint32_t base) {
  MappedText mapped{std::string(text), std::vector<uint32_t>(text.size())};
  for (size_t i = 0; i < text.size(); ++i) mapped.source[i] = base + static_cast<uint32_t>(i);
  return mapped;
}

MappedText Prepend(const MappedText& in, std::string_view prefix) {
  if (in.text.empty()) return in;
  MappedText out;
  out.Append(prefix, in.source.front());
  out.text += in.text;
  out.source.insert(out.source.end(), in.source.begin(), in.source.end());
  return out;
}

MappedText Replace(const MappedText& in, std::string_view from, std::string_view to) {
  MappedText out;
  out.text.reserve(in.text.size());
  out.source.reserve(in.text.size());
  for (size_t pos = 0; pos < in.text.size();) {
    const size_t found = std::min(in.text.find(from, pos), in.text.size());
    out.text.append(in.text, pos, found - pos);
    out.source.insert(out.source.end(), in.source.begin() + pos, in.source.begin() + found);
    if (found == in.text.size()) break;
    out.Append(to, in.source[found]);
    pos = found + from.size();
  }
  return out;
}

// Stretches of a joined text, as long as may be.
class Ranges {
 public:
  void Add(uint32_t begin, uint32_t end) {
    if (begin == end) return;
    if (!ranges_.empty() && ranges_.back().end == begin) {
      ranges_.back().end = end;
    } else {
      ranges_.push_back({begin, end});
    }
  }
  bool Contain(uint32_t begin, uint32_t end) const {
    auto it = std::ranges::upper_bound(ranges_, begin, {}, &ByteRange::begin);
    return it != ranges_.begin() && (--it)->end >= end;
  }

 private:
  std::vector<ByteRange> ranges_;
};

// What the pieces of a joined text say of its bytes.
class Provenance {
 public:
  explicit Provenance(std::span<const TextPiece> pieces) {
    uint32_t begin = 0;
    for (const TextPiece& piece : pieces) {
      const uint32_t end = begin + static_cast<uint32_t>(piece.text.size());
      if (piece.parse_special) trusted_.Add(begin, end);
      if (piece.parse_special && piece.is_name) names_.Add(begin, end);
      if (!piece.parse_special && piece.cut_at_special) cut_.Add(begin, end);
      begin = end;
    }
  }
  Special operator()(uint32_t begin, uint32_t end) const {
    if (trusted_.Contain(begin, end)) return names_.Contain(begin, end) ? Special::kText : Special::kToken;
    return cut_.Contain(begin, end) ? Special::kQuoted : Special::kText;
  }

 private:
  Ranges trusted_, names_, cut_;
};

// What one Encode writes to.
struct Output {
  std::vector<int32_t>& ids;
  std::vector<uint32_t>* byte_offsets;
  const Stop& stop;
  BpeModel::Scratch scratch;
  std::vector<uint32_t> begins;
};

class TextTokenizer : public Tokenizer {
 public:
  explicit TextTokenizer(TokenizerSpec spec) : spec_(std::move(spec)), special_(spec_.token_bytes.size()) {
    for (const AddedToken& token : spec_.added) {
      if (token.special) special_[token.id] = true;
    }
    std::vector<bool> trusted_only = special_;
    for (const AddedToken& token : spec_.added) {
      if (token.trusted_only) trusted_only[token.id] = true;
    }
    spec_.model.Forbid(trusted_only);
    if (spec_.eos_id) spec_.end_ids.push_back(*spec_.eos_id);
  }

  // Once, before anything else.
  absl::Status AddTokens() {
    for (const AddedToken& token : spec_.added) {
      QD_RETURN_IF_ERROR(token.normalized
                             ? normalized_tokens_.Add(Normalize(token.content, 0, /*goes_on=*/false).text, token)
                             : raw_tokens_.Add(token.content, token));
    }
    return absl::OkStatus();
  }

  absl::Status Encode(std::span<const TextPiece> pieces, std::vector<int32_t>& ids, std::vector<uint32_t>* byte_offsets,
                      const Stop& stop) const override {
    size_t size = 0;
    for (const TextPiece& piece : pieces) size += piece.text.size();
    if (size > kMaxTextBytes) {
      return absl::InvalidArgumentError(absl::StrCat("text of ", size, " bytes, at most ", kMaxTextBytes));
    }
    std::string joined;
    joined.reserve(size);
    for (const TextPiece& piece : pieces) joined += piece.text;
    if (const std::optional<size_t> bad = FindInvalidUtf8(joined)) {
      return absl::InvalidArgumentError(absl::StrCat("text is no UTF-8 at byte ", *bad));
    }
    const size_t ids_before = ids.size();
    const size_t offsets_before = byte_offsets != nullptr ? byte_offsets->size() : 0;
    Output out{ids, byte_offsets, stop, {}, {}};
    const absl::Status status = EncodeText(joined, Provenance(pieces), out);
    if (!status.ok()) {
      ids.resize(ids_before);
      if (byte_offsets != nullptr) byte_offsets->resize(offsets_before);
    }
    return status;
  }

  std::string_view TokenBytes(int32_t id) const override {
    return id < 0 || id >= vocab_size() ? std::string_view() : std::string_view(spec_.token_bytes[id]);
  }
  bool StripsLeadingSpace() const override { return spec_.strips_leading_space; }
  int32_t vocab_size() const override { return static_cast<int32_t>(spec_.token_bytes.size()); }
  bool IsSpecial(int32_t id) const override { return id >= 0 && id < vocab_size() && special_[id]; }
  std::span<const int32_t> prefix_ids() const override { return spec_.prefix_ids; }
  std::span<const int32_t> suffix_ids() const override { return spec_.suffix_ids; }
  std::optional<int32_t> bos_id() const override { return spec_.bos_id; }
  std::optional<int32_t> eos_id() const override { return spec_.eos_id; }
  std::span<const int32_t> end_ids() const override { return spec_.end_ids; }

 private:
  // Of a text that goes on after a border nothing is prepended.
  MappedText Normalize(std::string_view text, uint32_t base, bool goes_on) const {
    MappedText mapped = Identity(text, base);
    for (const NormalizeStep& step : spec_.normalizer) {
      if (const auto* prepend = std::get_if<PrependStep>(&step)) {
        if (!goes_on) mapped = Prepend(mapped, prepend->text);
      } else {
        const auto& replace = std::get<ReplaceStep>(step);
        mapped = Replace(mapped, replace.from, replace.to);
      }
    }
    return mapped;
  }

  void AppendToken(int32_t id, uint32_t offset, Output& out) const {
    out.ids.push_back(id);
    if (out.byte_offsets != nullptr) out.byte_offsets->push_back(offset);
  }

  absl::Status EncodeText(std::string_view text, const Provenance& special, Output& out) const {
    std::vector<TextSegment> segments;
    raw_tokens_.Find(text, special, segments);
    bool goes_on = false;
    for (const auto& [range, id] : segments) {
      if (id >= 0) {
        AppendToken(id, range.begin, out);
        goes_on = false;
        continue;
      }
      const std::string_view segment = text.substr(range.begin, range.end - range.begin);
      goes_on = goes_on || (id == kQuotedToken && range.begin > 0);
      const MappedText mapped = Normalize(segment, range.begin, goes_on);
      QD_RETURN_IF_ERROR(id == kQuotedToken ? EncodeStretch(mapped, goes_on, out)
                                            : EncodeSegment(mapped, special, goes_on, out));
      goes_on = id == kQuotedToken;
    }
    return absl::OkStatus();
  }

  // Text between two tokens of the raw text, normalized.
  absl::Status EncodeSegment(const MappedText& text, const Provenance& special, bool goes_on, Output& out) const {
    if (normalized_tokens_.empty()) return EncodeStretch(text, goes_on, out);
    const auto in_source = [&](uint32_t begin, uint32_t end) {
      return special(text.source[begin], text.source[end - 1] + 1);
    };
    std::vector<TextSegment> segments;
    normalized_tokens_.Find(text.text, in_source, segments);
    for (const auto& [range, id] : segments) {
      if (id >= 0) {
        AppendToken(id, text.source[range.begin], out);
        goes_on = false;
        continue;
      }
      const MappedText stretch{text.text.substr(range.begin, range.end - range.begin),
                               {text.source.begin() + range.begin, text.source.begin() + range.end}};
      goes_on = goes_on || (id == kQuotedToken && range.begin > 0);
      QD_RETURN_IF_ERROR(EncodeStretch(stretch, goes_on, out));
      goes_on = id == kQuotedToken;
    }
    return absl::OkStatus();
  }

  // Text that holds no token.
  absl::Status EncodeStretch(const MappedText& text, bool goes_on, Output& out) const {
    if (text.text.empty() || !spec_.metaspace) return EncodePieces(text, out);
    const MetaspaceStep& step = *spec_.metaspace;
    MappedText spaced = Replace(text, " ", step.replacement);
    const bool prepends = step.prepend == MetaspaceStep::Prepend::kAlways ||
                          (step.prepend == MetaspaceStep::Prepend::kFirst && text.source.front() == 0);
    if (prepends && !goes_on && !spaced.text.starts_with(step.replacement)) spaced = Prepend(spaced, step.replacement);
    return EncodePieces(spaced, out);
  }

  absl::Status EncodePieces(const MappedText& text, Output& out) const {
    constexpr uint32_t kPollBytes = 4096;
    std::vector<ByteRange> pieces;
    QD_RETURN_IF_ERROR(spec_.split.Split(text.text, pieces));
    uint32_t polled = 0;
    for (const ByteRange& piece : pieces) {
      if (piece.end - polled > kPollBytes && out.stop) {
        if (out.stop()) return absl::CancelledError("the tokenizer was stopped");
        polled = piece.end;
      }
      const std::string_view bytes = std::string_view(text.text).substr(piece.begin, piece.end - piece.begin);
      out.begins.clear();
      spec_.model.Encode(bytes, out.scratch, out.ids, out.byte_offsets != nullptr ? &out.begins : nullptr);
      for (const uint32_t begin : out.begins) out.byte_offsets->push_back(text.source[piece.begin + begin]);
    }
    return absl::OkStatus();
  }

  TokenizerSpec spec_;
  std::vector<bool> special_;  // by id
  AddedTokenFinder raw_tokens_, normalized_tokens_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTextTokenizer(TokenizerSpec spec, std::string_view file) {
  auto tokenizer = std::make_unique<TextTokenizer>(std::move(spec));
  if (const absl::Status status = tokenizer->AddTokens(); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(ToAbsl(file), ": ", status.message()));
  }
  return tokenizer;
}

}  // namespace quantd
