#include "runtime/tokenizer.h"

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/file.h"

namespace quantd {
namespace {

constexpr int64_t kMaxFileBytes = 64 << 20;

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
    tokenizer = model.empty() ? ParseVocabAndMerges(vocab, merges, beside) : ParseSentencePieceModel(model, beside);
  }
  if (tokenizer.ok()) return tokenizer;
  return absl::Status(tokenizer.status().code(), absl::StrCat(folder, "/", tokenizer.status().message()));
}

}  // namespace quantd
