// vocab.json and merges.txt, in which GPT-2 and its heirs kept byte-level BPE before tokenizer.json: the same model,
// and a tokenizer_class that stands for the rest.

#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/json.h"
#include "runtime/printable.h"
#include "runtime/tokenizer_json.h"

namespace quantd {
namespace {

constexpr std::string_view kMergesFile = "merges.txt";

// Lines of "left right", in order of rank; the first may be "#version: 0.2".
absl::StatusOr<JsonDocument> ReadMergesFile(std::string_view text) {
  JsonDocument merges(Json::array());
  size_t line_number = 0;
  while (!text.empty()) {
    ++line_number;
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    const size_t space = line.find(' ');
    if (space == line.npos || line.find(' ', space + 1) != line.npos) {
      return absl::DataLossError(absl::StrCat(ToAbsl(kMergesFile), ": line ", line_number, ": '", Printable(line, 60),
                                              "', expected two tokens with a space between"));
    }
    if (merges->size() == kMaxMerges) {
      return absl::DataLossError(absl::StrCat(ToAbsl(kMergesFile), ": more than ", kMaxMerges, " merges"));
    }
    merges->push_back(Json::array());
    for (const std::string_view token : {line.substr(0, space), line.substr(space + 1)})
      merges->back().push_back(token);
  }
  return merges;
}

// GPT2Tokenizer's own names, for those that the folder does not say.
void NameEndOfText(const Json& vocab, TokenizerConfig& config) {
  constexpr std::string_view kEndOfText = "<|endoftext|>";
  if (FindMember(vocab, kEndOfText) == nullptr) return;
  const auto name = [&](const char* key, std::optional<std::string>& text) {
    if (text) return;
    text = kEndOfText;
    config.named_tokens.push_back({key, {.content = std::string(kEndOfText), .special = true}});
  };
  name("bos_token", config.bos_token);
  name("eos_token", config.eos_token);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseVocabAndMerges(std::string_view vocab_json, std::string_view merges,
                                                               const TokenizerCompanions& beside) {
  QD_ASSIGN_OR_RETURN(TokenizerConfig config, ParseTokenizerConfig(beside, ConfigFlags::kRead));
  if (config.tokenizer_class != "GPT2Tokenizer" && config.tokenizer_class != "CodeGenTokenizer") {
    return absl::UnimplementedError(absl::StrCat(
        "tokenizer_config.json: tokenizer_class '", Printable(config.tokenizer_class, 60),
        "' with vocab.json and merges.txt is not supported (GPT2Tokenizer, CodeGenTokenizer); save a tokenizer.json "
        "with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"));
  }
  JsonDocument document(Json::object());
  Json& json = *document;
  Json& model = json["model"] = Json::object();
  model["type"] = "BPE";
  QD_ASSIGN_OR_RETURN(JsonDocument vocab, ParseJson(vocab_json, "vocab.json"));
  QD_ASSIGN_OR_RETURN(JsonDocument ranked, ReadMergesFile(merges));
  model["vocab"].swap(*vocab);
  model["merges"].swap(*ranked);
  Json& pre_tokenizer = json["pre_tokenizer"] = Json::object();
  pre_tokenizer["type"] = "ByteLevel";
  pre_tokenizer["add_prefix_space"] = config.add_prefix_space.value_or(false);
  pre_tokenizer["use_regex"] = true;
  NameEndOfText(model["vocab"], config);
  return MakeTokenizerOfJson(json, "vocab.json and merges.txt", config, AroundText::kConfigFlags);
}

}  // namespace quantd
