#include "runtime/text_tokenizer.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_join.h>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/byte_alphabet.h"
#include "runtime/printable.h"
#include "runtime/utf8.h"

namespace quantd {
namespace {

// Of one Encode: offsets are 32 bits wide, also in the normalized text.
constexpr size_t kMaxTextBytes = (size_t{1} << 32) / kMaxTextGrowth - kTextGrowthSlack;

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
  SplitWork work;
  BpeModel::Scratch scratch;
  std::vector<uint32_t> begins;
};

class TextTokenizer : public Tokenizer {
 public:
  explicit TextTokenizer(TokenizerSpec spec) : spec_(std::move(spec)), special_(spec_.token_bytes.size()) {
    std::vector<bool> trusted_only(special_.size());
    for (const AddedToken& token : spec_.added) {
      special_[token.id] = token.special;
      trusted_only[token.id] = (token.special && !token.stays_text) || token.trusted_only;
    }
    spec_.model.Forbid(trusted_only);
    if (spec_.eos_id) spec_.end_ids.push_back(*spec_.eos_id);
  }

  // Once, before anything else.
  absl::Status AddTokens() {
    for (const AddedToken& token : spec_.added) {
      QD_ASSIGN_OR_RETURN(const std::string content, ComparedText(token));
      QD_RETURN_IF_ERROR((token.normalized ? normalized_tokens_ : raw_tokens_).Add(content, token));
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
    Output out{ids, byte_offsets, stop, SplitWork(joined.size(), &stop), {}, {}};
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
  // What text is compared with to find an added token.
  absl::StatusOr<std::string> ComparedText(const AddedToken& token) const {
    if (!token.normalized) return token.content;
    const auto refuse = [&](absl::string_view why) {
      return absl::DataLossError(absl::StrCat("added token '", Printable(token.content, 60), "': ", why));
    };
    if (FindInvalidUtf8(token.content)) return refuse("no UTF-8");
    SplitWork work(token.content.size());
    MappedText content = MappedText::Of(token.content, 0);
    const absl::Status status = Normalize(spec_.normalizer, work, content);
    if (!status.ok()) return refuse(status.message());
    return content.text;
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
      MappedText segment = MappedText::Of(text.substr(range.begin, range.end - range.begin), range.begin);
      segment.goes_on = goes_on || (id == kQuotedToken && range.begin > 0);
      QD_RETURN_IF_ERROR(Normalize(spec_.normalizer, out.work, segment));
      QD_RETURN_IF_ERROR(id == kQuotedToken ? EncodeStretch(segment, out) : EncodeSegment(segment, special, out));
      goes_on = id == kQuotedToken;
    }
    return absl::OkStatus();
  }

  // Text between two tokens of the raw text, normalized.
  absl::Status EncodeSegment(const MappedText& text, const Provenance& special, Output& out) const {
    if (normalized_tokens_.empty()) return EncodeStretch(text, out);
    const auto in_source = [&](uint32_t begin, uint32_t end) {
      return special(text.source[begin], text.source[end - 1] + 1);
    };
    std::vector<TextSegment> segments;
    normalized_tokens_.Find(text.text, in_source, segments);
    bool goes_on = text.goes_on;
    for (const auto& [range, id] : segments) {
      if (id >= 0) {
        AppendToken(id, text.source[range.begin], out);
        goes_on = false;
        continue;
      }
      MappedText stretch = text.Part(range.begin, range.end);
      stretch.goes_on = goes_on || (id == kQuotedToken && range.begin > 0);
      QD_RETURN_IF_ERROR(EncodeStretch(stretch, out));
      goes_on = id == kQuotedToken;
    }
    return absl::OkStatus();
  }

  // Text that holds no token.
  absl::Status EncodeStretch(const MappedText& text, Output& out) const {
    constexpr uint32_t kPollBytes = 4096;
    const auto encode = [&](const MappedText& whole, const std::vector<ByteRange>& pieces) -> absl::Status {
      uint32_t polled = 0;
      for (const ByteRange& piece : pieces) {
        if (piece.end - polled > kPollBytes && out.stop) {
          if (out.stop()) return absl::CancelledError("the tokenizer was stopped");
          polled = piece.end;
        }
        EncodePiece(whole, piece, out);
      }
      return absl::OkStatus();
    };
    return spec_.pre_tokenizer.Run(text, out.work, encode);
  }

  void EncodePiece(const MappedText& text, const ByteRange& range, Output& out) const {
    const std::string_view piece = std::string_view(text.text).substr(range.begin, range.end - range.begin);
    std::vector<uint32_t>* begins = out.byte_offsets != nullptr ? &out.begins : nullptr;
    out.begins.clear();
    if (!spec_.pre_tokenizer.to_alphabet()) {
      spec_.model.Encode(piece, out.scratch, out.ids, begins);
      for (const uint32_t begin : out.begins) out.byte_offsets->push_back(text.source[range.begin + begin]);
      return;
    }
    const std::string bytes = DecodeByteAlphabet(piece).value_or("");
    std::vector<uint32_t> places;  // in `text`, of each byte
    uint32_t place = range.begin;
    for (const char byte : bytes) {
      places.push_back(place);
      place += static_cast<uint32_t>(ByteAlphabetCharacter(static_cast<uint8_t>(byte)).size());
    }
    spec_.model.Encode(bytes, out.scratch, out.ids, begins);
    for (const uint32_t begin : out.begins) out.byte_offsets->push_back(text.source[places[begin]]);
  }

  TokenizerSpec spec_;
  std::vector<bool> special_;  // by id
  AddedTokenFinder raw_tokens_, normalized_tokens_;
};

// Special tokens that merges make of text, which are words more likely than marks.
void WarnOfMadeTokens(const TokenizerSpec& spec, std::string_view file) {
  const std::vector<bool> made = spec.model.Made();
  for (const bool stays_text : {true, false}) {
    std::vector<std::string> texts;
    for (const AddedToken& token : spec.added) {
      const bool is_made = static_cast<size_t>(token.id) < made.size() && made[token.id];
      if (is_made && token.special && token.stays_text == stays_text) texts.push_back(Printable(token.content, 40));
    }
    if (texts.empty()) continue;
    constexpr size_t kMostNamed = 8;
    const std::string more = texts.size() > kMostNamed ? absl::StrCat(" and ", texts.size() - kMostNamed, " more") : "";
    texts.resize(std::min(texts.size(), kMostNamed));
    LogWarning(absl::StrCat(
        ToAbsl(file), ": text is made of the special tokens '", absl::StrJoin(texts, "', '"), "'", more, " too: ",
        stays_text ? "it stays so, and output without special tokens leaves them out, as in transformers"
                   : "here none becomes one of them, so text that has them is cut otherwise than by transformers"));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTextTokenizer(TokenizerSpec spec, std::string_view file) {
  WarnOfMadeTokens(spec, file);
  auto tokenizer = std::make_unique<TextTokenizer>(std::move(spec));
  if (const absl::Status status = tokenizer->AddTokens(); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(ToAbsl(file), ": ", status.message()));
  }
  return tokenizer;
}

}  // namespace quantd
