#include "runtime/sentencepiece.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/byte_tokens.h"
#include "runtime/printable.h"
#include "runtime/utf8.h"

namespace quantd {
namespace {

// Longest piece that merges can make, in bytes. SentencePiece trains pieces of at most 16 characters by default; each
// candidate of a merge hashes up to this many bytes.
constexpr size_t kMaxPieceBytes = 1024;

bool Merges(PieceType type) {
  return type == PieceType::kUndefined || type == PieceType::kNormal || type == PieceType::kUnused;
}

absl::Status CheckPiece(const ScoredPiece& piece, size_t id, std::string_view place) {
  const auto refuse = [&](const auto&... words) {
    return absl::DataLossError(absl::StrCat(ToAbsl(place), "[", id, "]: ", words...));
  };
  if (!std::isfinite(piece.score)) return refuse("the score is no finite number");
  if (FindInvalidUtf8(piece.text)) return refuse("the text is no UTF-8");
  if (Merges(piece.type) && piece.text.size() > kMaxPieceBytes) {
    return refuse(piece.text.size(), " bytes of text, at most ", kMaxPieceBytes);
  }
  if (piece.type == PieceType::kByte && !ByteOfToken(piece.text)) {
    return refuse("byte piece '", Printable(piece.text, 60), "', expected the form <0x0A>");
  }
  return absl::OkStatus();
}

// Ranks by descending score; equal scores share a rank, so that the leftmost pair goes first.
void SetRanks(const std::vector<ScoredPiece>& pieces, BpeModel& model) {
  std::vector<float> scores;
  for (const ScoredPiece& piece : pieces) {
    if (Merges(piece.type)) scores.push_back(piece.score);
  }
  std::ranges::sort(scores, std::greater());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (!Merges(pieces[id].type)) continue;
    const auto rank = std::ranges::lower_bound(scores, pieces[id].score, std::greater()) - scores.begin();
    model.SetRank(static_cast<int32_t>(id), static_cast<uint32_t>(rank));
  }
}

}  // namespace

absl::StatusOr<TokenizerSpec> MakeScoredSpec(const std::vector<ScoredPiece>& pieces, SpacePrefix prefix,
                                             std::string_view place, VocabTable& vocab) {
  TokenizerSpec spec;
  BpeModel::Options options;
  options.fuse_unknown = true;
  spec.model = BpeModel(options);
  for (size_t i = 0; i < pieces.size(); ++i) {
    const ScoredPiece& piece = pieces[i];
    const auto id = static_cast<int32_t>(i);
    QD_RETURN_IF_ERROR(CheckPiece(piece, i, place));
    const absl::Status status = vocab.Add(piece.text, id);
    if (!status.ok()) return absl::DataLossError(absl::StrCat(ToAbsl(place), "[", i, "]: ", status.message()));
    std::string bytes = ReplaceAll(piece.text, kMetaSpace, " ");
    switch (piece.type) {
      case PieceType::kUndefined:
      case PieceType::kNormal:
      case PieceType::kUnused:
        if (piece.text.empty()) break;
        QD_RETURN_IF_ERROR(spec.model.AddToken(piece.text, id));
        break;
      case PieceType::kByte: {
        const uint8_t byte = *ByteOfToken(piece.text);
        spec.model.SetByte(byte, id);
        bytes.assign(1, static_cast<char>(byte));
        break;
      }
      case PieceType::kUserDefined:
        spec.added.push_back({.content = bytes, .id = id});
        break;
      case PieceType::kControl:
      case PieceType::kUnknown:
        spec.added.push_back({.content = bytes, .id = id, .special = true});
        break;
    }
    spec.token_bytes.push_back(std::move(bytes));
  }
  SetRanks(pieces, spec.model);

  if (prefix == SpacePrefix::kFirstText) {
    spec.pre_tokenizer.Add(MetaspaceStep{std::string(kMetaSpace), MetaspaceStep::Prepend::kFirst});
  } else {
    if (prefix == SpacePrefix::kEachText) spec.normalizer.push_back(PrependStep{std::string(kMetaSpace)});
    spec.normalizer.push_back(ReplaceStep{" ", std::string(kMetaSpace)});
  }
  spec.strips_leading_space = prefix != SpacePrefix::kNone;
  return spec;
}

}  // namespace quantd
