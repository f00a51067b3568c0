#include "runtime/tokenizer_config.h"

#include <charconv>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/added_token_json.h"
#include "runtime/json.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

constexpr std::string_view kFile = "tokenizer_config.json";

absl::StatusOr<std::optional<bool>> OptionalBool(const Json& object, std::string_view key) {
  if (FindMember(object, key) == nullptr) return std::optional<bool>();
  QD_ASSIGN_OR_RETURN(const bool value, GetBool(object, key, false, kFile));
  return std::optional<bool>(value);
}

// A token's text: a string, or an object that says its flags too.
absl::StatusOr<std::optional<std::string>> OptionalToken(const Json& object, std::string_view key) {
  const Json* token = FindMember(object, key);
  if (token == nullptr) return std::optional<std::string>();
  const bool is_object = token->is_object();
  QD_ASSIGN_OR_RETURN(std::string text, GetString(is_object ? *token : object, is_object ? "content" : key, "", kFile));
  return std::optional<std::string>(std::move(text));
}

absl::StatusOr<std::optional<int32_t>> FindNamed(const std::optional<std::string>& text, std::string_view key,
                                                 const VocabTable& vocab, std::optional<int32_t> otherwise) {
  if (!text) return otherwise;
  const std::optional<int32_t> id = vocab.Find(*text);
  if (!id) {
    return absl::DataLossError(
        absl::StrCat(ToAbsl(kFile), ": ", ToAbsl(key), " '", Printable(*text, 60), "' is no token of the vocabulary"));
  }
  return id;
}

void Override(std::optional<bool> add, std::optional<int32_t> id, std::vector<int32_t>& ids) {
  if (!add) return;
  ids.clear();
  if (*add && id) ids.push_back(*id);
}

}  // namespace

absl::StatusOr<TokenizerConfig> ParseTokenizerConfig(std::string_view text) {
  TokenizerConfig config;
  if (text.empty()) return config;
  QD_ASSIGN_OR_RETURN(const Json json, ParseJson(text, kFile));
  QD_ASSIGN_OR_RETURN(config.bos_token, OptionalToken(json, "bos_token"));
  QD_ASSIGN_OR_RETURN(config.eos_token, OptionalToken(json, "eos_token"));
  QD_ASSIGN_OR_RETURN(config.add_bos_token, OptionalBool(json, "add_bos_token"));
  QD_ASSIGN_OR_RETURN(config.add_eos_token, OptionalBool(json, "add_eos_token"));
  QD_ASSIGN_OR_RETURN(config.legacy, OptionalBool(json, "legacy"));
  QD_ASSIGN_OR_RETURN(config.add_prefix_space, OptionalBool(json, "add_prefix_space"));
  const Json* decoder = FindMember(json, "added_tokens_decoder");
  if (decoder == nullptr) return config;
  if (!decoder->is_object()) {
    return absl::DataLossError(
        absl::StrCat(ToAbsl(kFile), ": added_tokens_decoder is ", Excerpt(*decoder), ", expected an object"));
  }
  if (decoder->size() > kMaxAddedTokens) {
    return absl::DataLossError(absl::StrCat(ToAbsl(kFile), ": added_tokens_decoder has ", decoder->size(),
                                            " entries, at most ", kMaxAddedTokens));
  }
  for (const auto& [key, value] : decoder->items()) {
    const std::string place = absl::StrCat(ToAbsl(kFile), ": added_tokens_decoder[", key.substr(0, 20), "]");
    int32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size()) {
      return absl::DataLossError(absl::StrCat(place, ": the key is no token id"));
    }
    QD_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(value, place));
    token.id = id;
    config.added_tokens.push_back(std::move(token));
  }
  return config;
}

absl::Status ApplyTokenizerConfig(const TokenizerConfig& config, const VocabTable& vocab, TokenizerSpec& spec) {
  QD_ASSIGN_OR_RETURN(spec.bos_id, FindNamed(config.bos_token, "bos_token", vocab, spec.bos_id));
  QD_ASSIGN_OR_RETURN(spec.eos_id, FindNamed(config.eos_token, "eos_token", vocab, spec.eos_id));
  Override(config.add_bos_token, spec.bos_id, spec.prefix_ids);
  Override(config.add_eos_token, spec.eos_id, spec.suffix_ids);
  return absl::OkStatus();
}

}  // namespace quantd
