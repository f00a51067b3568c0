#include "runtime/tokenizer.h"

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/file.h"

namespace quantd {
namespace {

constexpr int64_t kMaxFileBytes = 64 << 20;

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& folder) {
  QD_ASSIGN_OR_RETURN(const std::string config, ReadFileIfPresent(folder + "/tokenizer_config.json", kMaxFileBytes));
  QD_ASSIGN_OR_RETURN(const std::string json, ReadFileIfPresent(folder + "/tokenizer.json", kMaxFileBytes));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer;
  if (!json.empty()) {
    tokenizer = ParseTokenizerJson(json, config);
  } else {
    QD_ASSIGN_OR_RETURN(const std::string model, ReadFileIfPresent(folder + "/tokenizer.model", kMaxFileBytes));
    if (model.empty()) return absl::NotFoundError(absl::StrCat(folder, ": neither tokenizer.json nor tokenizer.model"));
    tokenizer = ParseSentencePieceModel(model, config);
  }
  if (tokenizer.ok()) return tokenizer;
  return absl::Status(tokenizer.status().code(), absl::StrCat(folder, "/", tokenizer.status().message()));
}

}  // namespace quantd
