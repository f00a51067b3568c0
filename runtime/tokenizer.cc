#include "runtime/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <optional>
#include <system_error>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/file.h"
#include "runtime/printable.h"
#include "runtime/unsupported_checkpoint.h"

namespace quantd {
namespace {

constexpr int64_t kMaxFileBytes = 64 << 20;

// tokenizer.model, which two kinds of tokenizer are called.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseModelFile(std::string_view bytes, const TokenizerCompanions& beside) {
  if (IsTiktokenModel(bytes)) return ParseTiktokenModel(bytes, beside);
  // A SentencePiece model begins with the length of its first piece, a field of the kind "bytes".
  constexpr char kFirstPiece = 0x0a;
  if (bytes.front() == kFirstPiece) return ParseSentencePieceModel(bytes, beside);
  const std::string pointer = LfsPointerProblem(bytes);
  if (!pointer.empty()) return absl::DataLossError(absl::StrCat("tokenizer.model: ", pointer));
  return absl::DataLossError(absl::StrCat("tokenizer.model begins with '", Printable(bytes.substr(0, 24)),
                                          "': neither a SentencePiece model nor a tiktoken list of base64 texts and "
                                          "ranks"));
}

// Files that are no tokenizer by themselves, or are one in a form that is not read.
struct OtherFile {
  const char* name;
  const char* what;
};
constexpr OtherFile kOtherFiles[] = {
    {"vocab.json", "vocab.json is there without merges.txt"},
    {"merges.txt", "merges.txt is there without vocab.json"},
    {"tekken.json", "tekken.json is a form of Mistral's that is not read"},
    {"tokenizer.model.v3", "tokenizer.model.v3 is not read under that name"},
    {"tokenizer.model.v2", "tokenizer.model.v2 is not read under that name"},
    {"tokenizer.model.v1", "tokenizer.model.v1 is not read under that name"},
    {"spiece.model", "spiece.model is not read under that name"},
    {"sentencepiece.bpe.model", "sentencepiece.bpe.model is not read under that name"},
    {"vocab.txt", "vocab.txt is a WordPiece vocabulary, which is not supported"},
    {"tokenizer_config.json", "tokenizer_config.json names tokens and has no vocabulary"},
    {"special_tokens_map.json", "special_tokens_map.json names tokens and has no vocabulary"},
    {"added_tokens.json", "added_tokens.json has only the tokens that a vocabulary lacks"}};

absl::Status NoTokenizer(const std::string& folder) {
  constexpr char kExpected[] = "expected tokenizer.json, tokenizer.model, or vocab.json with merges.txt";
  const auto* found = std::ranges::find_if(kOtherFiles, [&](const OtherFile& file) {
    std::error_code error;
    return std::filesystem::exists(absl::StrCat(folder, "/", file.name), error);
  });
  return absl::NotFoundError(absl::StrCat(
      "has no tokenizer: ", found == std::end(kOtherFiles) ? "" : absl::StrCat(found->what, "; "), kExpected));
}

// The text of a file, nothing where there is none. DataLoss: it is empty, as after a download that failed. Messages,
// here and below, are without the folder.
absl::StatusOr<std::optional<std::string>> ReadVocabulary(const std::string& folder, const char* name) {
  absl::StatusOr<std::string> text = ReadFile(absl::StrCat(folder, "/", name), kMaxFileBytes);
  if (absl::IsNotFound(text.status())) return std::optional<std::string>();
  if (!text.ok()) return absl::Status(text.status().code(), text.status().message().substr(folder.size() + 1));
  if (text->empty()) return absl::DataLossError(absl::StrCat(name, ": is an empty file"));
  return std::optional(*std::move(text));
}

// Of the first of the three forms that is there.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTokenizer(const std::string& folder, const TokenizerCompanions& beside) {
  QD_ASSIGN_OR_RETURN(const auto json, ReadVocabulary(folder, "tokenizer.json"));
  if (json) return ParseTokenizerJson(*json, beside);
  QD_ASSIGN_OR_RETURN(const auto model, ReadVocabulary(folder, "tokenizer.model"));
  if (model) return ParseModelFile(*model, beside);
  QD_ASSIGN_OR_RETURN(const auto vocab, ReadVocabulary(folder, "vocab.json"));
  QD_ASSIGN_OR_RETURN(const auto merges, ReadVocabulary(folder, "merges.txt"));
  return vocab && merges ? ParseVocabAndMerges(*vocab, *merges, beside) : NoTokenizer(folder);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& folder) {
  const auto read = [&](const char* name) { return ReadFileIfPresent(absl::StrCat(folder, "/", name), kMaxFileBytes); };
  QD_ASSIGN_OR_RETURN(const std::string config, read("tokenizer_config.json"));
  QD_ASSIGN_OR_RETURN(const std::string map, read("special_tokens_map.json"));
  QD_ASSIGN_OR_RETURN(const std::string added, read("added_tokens.json"));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = ReadTokenizer(folder, {config, map, added});
  if (tokenizer.ok()) return tokenizer;
  const char* between = absl::IsNotFound(tokenizer.status()) ? ": " : "/";  // of the folder, or of a file in it
  return absl::Status(tokenizer.status().code(), absl::StrCat(folder, between, tokenizer.status().message()));
}

}  // namespace quantd
