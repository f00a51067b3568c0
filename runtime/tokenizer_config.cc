#include "runtime/tokenizer_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/added_token_json.h"
#include "runtime/json.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

constexpr std::string_view kConfig = "tokenizer_config.json", kMap = "special_tokens_map.json",
                           kAdded = "added_tokens.json";
constexpr size_t kQuotedBytes = 60;

// The keys of transformers' SPECIAL_TOKENS_ATTRIBUTES. A list of further ones follows them.
constexpr std::array<const char*, 7> kNames = {"bos_token", "eos_token", "unk_token", "sep_token",
                                               "pad_token", "cls_token", "mask_token"};
constexpr std::array<const char*, 2> kLists = {"extra_special_tokens", "additional_special_tokens"};

absl::StatusOr<JsonDocument> ParseObject(std::string_view text, std::string_view file) {
  if (text.empty()) return JsonDocument(Json::object());
  QD_ASSIGN_OR_RETURN(JsonDocument document, ParseJson(text, file));
  if (document->is_object()) return document;
  return absl::DataLossError(absl::StrCat(ToAbsl(file), ": is ", Excerpt(*document), ", expected an object"));
}

absl::Status CheckCount(size_t count, std::string_view place) {
  if (count <= kMaxAddedTokens) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(ToAbsl(place), " has ", count, " entries, at most ", kMaxAddedTokens));
}

absl::StatusOr<std::optional<bool>> OptionalBool(const Json& object, std::string_view key) {
  if (FindMember(object, key) == nullptr) return std::optional<bool>();
  QD_ASSIGN_OR_RETURN(const bool value, GetBool(object, key, false, kConfig));
  return std::optional<bool>(value);
}

// A token is its text, or an object that says its flags too.
absl::StatusOr<AddedToken> ParseNamed(const Json& value, std::string_view place) {
  AddedToken token;
  if (value.is_string()) {
    token.content = value.get<std::string>();
  } else if (value.is_object()) {
    QD_ASSIGN_OR_RETURN(token, ParseAddedToken(value, place));
    QD_ASSIGN_OR_RETURN(token.normalized, GetBool(value, "normalized", false, place));
  } else {
    return absl::DataLossError(absl::StrCat(ToAbsl(place), " is ", Excerpt(value), ", expected a text or an object"));
  }
  token.special = true;
  return token;
}

// The named tokens of one file, laid over those of the one before.
class NamedTokens {
 public:
  absl::Status Read(const Json& object, std::string_view file) {
    for (const char* key : kNames) {
      const Json* value = FindMember(object, key);
      if (value == nullptr) continue;
      QD_ASSIGN_OR_RETURN(AddedToken token, ParseNamed(*value, absl::StrCat(ToAbsl(file), ": ", key)));
      Set(key, std::move(token), file);
    }
    for (const char* key : kLists) {
      const Json* list = FindMember(object, key);
      if (list == nullptr) continue;
      const std::string place = absl::StrCat(ToAbsl(file), ": ", key);
      if (list->is_object()) {
        for (const auto& [name, value] : list->items()) {
          const std::string of = absl::StrCat(key, ".", Printable(name, kQuotedBytes));
          QD_ASSIGN_OR_RETURN(AddedToken token, ParseNamed(value, absl::StrCat(ToAbsl(file), ": ", of)));
          Set(of, std::move(token), file);
        }
        continue;
      }
      if (!list->is_array()) {
        return absl::DataLossError(absl::StrCat(place, " is ", Excerpt(*list), ", expected a list"));
      }
      QD_RETURN_IF_ERROR(CheckCount(list->size(), place));
      for (size_t i = 0; i < list->size(); ++i) {
        const std::string name = absl::StrCat(key, "[", i, "]");
        QD_ASSIGN_OR_RETURN(AddedToken token, ParseNamed((*list)[i], absl::StrCat(ToAbsl(file), ": ", name)));
        Set(name, std::move(token), file);
      }
    }
    return absl::OkStatus();
  }

  std::vector<NamedToken> Take() {
    std::erase_if(tokens_, [](const NamedToken& named) { return named.token.content.empty(); });
    return std::move(tokens_);
  }

 private:
  void Set(std::string_view key, AddedToken token, std::string_view file) {
    if (token.content.empty()) {
      LogWarning(absl::StrCat(ToAbsl(file), ": ", ToAbsl(key), " is an empty text: it names no token"));
    }
    const auto same_key = [&](const NamedToken& named) { return named.key == key; };
    if (const auto it = std::ranges::find_if(tokens_, same_key); it != tokens_.end()) {
      it->token = std::move(token);
    } else {
      tokens_.push_back({std::string(key), std::move(token)});
    }
  }

  std::vector<NamedToken> tokens_;
};

absl::StatusOr<std::vector<AddedToken>> ParseAddedTokensDecoder(const Json& decoder) {
  const std::string list = absl::StrCat(ToAbsl(kConfig), ": added_tokens_decoder");
  if (!decoder.is_object()) {
    return absl::DataLossError(absl::StrCat(list, " is ", Excerpt(decoder), ", expected an object"));
  }
  QD_RETURN_IF_ERROR(CheckCount(decoder.size(), list));
  std::vector<AddedToken> tokens;
  for (const auto& [key, value] : decoder.items()) {
    const std::string place = absl::StrCat(list, "[", Printable(key, 20), "]");
    int32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size()) {
      return absl::DataLossError(absl::StrCat(place, ": the key is no token id"));
    }
    QD_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(value, place));
    token.id = id;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// {"<|im_end|>": 32000, …}. The file does not say which of them are special: those are that another file names. The
// others are printed, but only trusted text makes them: most are marks of a chat.
absl::StatusOr<std::vector<AddedToken>> ParseAddedTokensJson(const Json& json, const std::vector<NamedToken>& named) {
  QD_RETURN_IF_ERROR(CheckCount(json.size(), kAdded));
  std::vector<AddedToken> tokens;
  for (const auto& [text, value] : json.items()) {
    const std::optional<int64_t> id = AsInt(value);
    if (!id || *id < 0 || *id >= kMaxVocab) {
      return absl::DataLossError(absl::StrCat(ToAbsl(kAdded), ": '", Printable(text, kQuotedBytes), "' is ",
                                              Excerpt(value), ", expected an id from 0 to ", kMaxVocab - 1));
    }
    const auto is_named = [&content = text](const NamedToken& n) { return n.token.content == content; };
    const bool special = std::ranges::any_of(named, is_named);
    tokens.push_back({.content = text,
                      .id = static_cast<int32_t>(*id),
                      .special = special,
                      .trusted_only = true,
                      .normalized = !special});
  }
  return tokens;
}

// The class and the flags.
absl::Status ReadFlags(const Json& json, TokenizerConfig& config) {
  QD_ASSIGN_OR_RETURN(config.tokenizer_class, GetString(json, "tokenizer_class", "", kConfig));
  if (config.tokenizer_class.ends_with("Fast")) config.tokenizer_class.resize(config.tokenizer_class.size() - 4);
  QD_ASSIGN_OR_RETURN(config.add_bos_token, OptionalBool(json, "add_bos_token"));
  QD_ASSIGN_OR_RETURN(config.add_eos_token, OptionalBool(json, "add_eos_token"));
  QD_ASSIGN_OR_RETURN(config.legacy, OptionalBool(json, "legacy"));
  QD_ASSIGN_OR_RETURN(config.add_prefix_space, OptionalBool(json, "add_prefix_space"));
  return absl::OkStatus();
}

std::optional<std::string> TextOf(std::string_view key, const std::vector<NamedToken>& named) {
  for (const NamedToken& n : named) {
    if (n.key == key) return n.token.content;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<TokenizerConfig> ParseTokenizerConfig(const TokenizerCompanions& files, ConfigFlags flags) {
  TokenizerConfig config;
  QD_ASSIGN_OR_RETURN(const JsonDocument document, ParseObject(files.config, kConfig));
  const Json& json = *document;
  if (const absl::Status status = ReadFlags(json, config); !status.ok()) {
    if (flags == ConfigFlags::kRead) return status;
    LogWarning(absl::StrCat(status.message(), "; it is not read beside a tokenizer.json"));
  }
  if (const Json* split = FindMember(json, "split_special_tokens"); split != nullptr && *split == true) {
    LogWarning(
        absl::StrCat(ToAbsl(kConfig),
                     ": split_special_tokens is not read: parse_special of a request says whether special tokens "
                     "of its text are recognised"));
  }
  NamedTokens named;
  QD_RETURN_IF_ERROR(named.Read(json, kConfig));
  if (const Json* decoder = FindMember(json, "added_tokens_decoder")) {
    QD_ASSIGN_OR_RETURN(config.added_tokens, ParseAddedTokensDecoder(*decoder));
    config.named_tokens = named.Take();
  } else {
    QD_ASSIGN_OR_RETURN(const JsonDocument map, ParseObject(files.special_tokens_map, kMap));
    QD_RETURN_IF_ERROR(named.Read(*map, kMap));
    config.named_tokens = named.Take();
    QD_ASSIGN_OR_RETURN(const JsonDocument added, ParseObject(files.added_tokens, kAdded));
    QD_ASSIGN_OR_RETURN(config.added_tokens, ParseAddedTokensJson(*added, config.named_tokens));
  }
  std::ranges::sort(config.added_tokens, {}, &AddedToken::id);
  config.bos_token = TextOf("bos_token", config.named_tokens);
  config.eos_token = TextOf("eos_token", config.named_tokens);
  return config;
}

absl::Status AddConfigTokens(const TokenizerConfig& config, AddedTokenList::OtherText other_text, VocabTable& vocab,
                             AddedTokenList& added, TokenizerSpec& spec) {
  for (const AddedToken& token : config.added_tokens) {
    const absl::Status status = added.Add(token, other_text, vocab);
    if (!status.ok()) return absl::DataLossError(absl::StrCat(ToAbsl(kConfig), ": ", status.message()));
  }
  for (const NamedToken& named : config.named_tokens) {
    const bool is_new = !vocab.Find(named.token.content);
    AddedToken token = named.token;
    token.stays_text = named.key == "pad_token" || named.key == "unk_token";  // no mark that a model goes by
    const absl::StatusOr<int32_t> id = added.AddNamed(std::move(token), vocab);
    if (!id.ok())
      return absl::DataLossError(absl::StrCat(ToAbsl(kConfig), ": ", named.key, ": ", id.status().message()));
    if (is_new) {
      LogWarning(absl::StrCat(ToAbsl(kConfig), ": ", named.key, " '", Printable(named.token.content, kQuotedBytes),
                              "' is no token of the vocabulary: it gets the id ", *id));
    }
    if (named.key == "bos_token") spec.bos_id = *id;
    if (named.key == "eos_token") spec.eos_id = *id;
  }
  return absl::OkStatus();
}

void SetAffixes(const TokenizerConfig& config, bool add_bos_by_default, TokenizerSpec& spec) {
  if (config.add_bos_token.value_or(add_bos_by_default) && spec.bos_id) spec.prefix_ids = {*spec.bos_id};
  if (config.add_eos_token.value_or(false) && spec.eos_id) spec.suffix_ids = {*spec.eos_id};
}

}  // namespace quantd
