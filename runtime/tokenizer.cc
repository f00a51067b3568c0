#include "runtime/tokenizer.h"

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/file.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

constexpr int64_t kMaxFileBytes = 64 << 20;

// tokenizer.model, which two kinds of tokenizer are called.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseModelFile(std::string_view bytes, const TokenizerCompanions& beside) {
  if (IsTiktokenModel(bytes)) return ParseTiktokenModel(bytes, beside);
  // A SentencePiece model begins with the length of its first piece, a field of the kind "bytes".
  constexpr char kFirstPiece = 0x0a;
  if (bytes.front() == kFirstPiece) return ParseSentencePieceModel(bytes, beside);
  const char* hint = bytes.starts_with("version https://git-lfs")
                         ? ": a pointer of git LFS, the file itself was not fetched"
                         : ": neither a SentencePiece model nor a tiktoken list of base64 texts and ranks";
  return absl::DataLossError(absl::StrCat("tokenizer.model begins with '", Printable(bytes.substr(0, 24)), "'", hint));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& folder) {
  const auto read = [&](const char* name) { return ReadFileIfPresent(absl::StrCat(folder, "/", name), kMaxFileBytes); };
  QD_ASSIGN_OR_RETURN(const std::string config, read("tokenizer_config.json"));
  QD_ASSIGN_OR_RETURN(const std::string map, read("special_tokens_map.json"));
  QD_ASSIGN_OR_RETURN(const std::string added, read("added_tokens.json"));
  const TokenizerCompanions beside = {config, map, added};
  QD_ASSIGN_OR_RETURN(const std::string json, read("tokenizer.json"));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer;
  if (!json.empty()) {
    tokenizer = ParseTokenizerJson(json, beside);
  } else {
    QD_ASSIGN_OR_RETURN(const std::string model, read("tokenizer.model"));
    QD_ASSIGN_OR_RETURN(const std::string vocab, read("vocab.json"));
    QD_ASSIGN_OR_RETURN(const std::string merges, read("merges.txt"));
    if (model.empty() && (vocab.empty() || merges.empty())) {
      return absl::NotFoundError(
          absl::StrCat(folder, ": neither tokenizer.json nor tokenizer.model nor vocab.json with merges.txt"));
    }
    tokenizer = model.empty() ? ParseVocabAndMerges(vocab, merges, beside) : ParseModelFile(model, beside);
  }
  if (tokenizer.ok()) return tokenizer;
  return absl::Status(tokenizer.status().code(), absl::StrCat(folder, "/", tokenizer.status().message()));
}

}  // namespace quantd
