// tokenizer.json of Hugging Face `tokenizers`: the BPE model and its vocabulary. Its other sections have readers of
// their own.

#include <string>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/added_token_json.h"
#include "runtime/byte_alphabet.h"
#include "runtime/byte_tokens.h"
#include "runtime/decoder_json.h"
#include "runtime/json.h"
#include "runtime/normalizer_json.h"
#include "runtime/post_processor_json.h"
#include "runtime/pre_tokenizer_json.h"
#include "runtime/printable.h"
#include "runtime/text_tokenizer.h"
#include "runtime/tokenizer_json.h"
#include "runtime/vocab_table.h"

namespace quantd {
namespace {

constexpr std::string_view kFile = "tokenizer.json";

class Reader {
 public:
  Reader(const Json& json, std::string_view file) : json_(json), file_(file) {}

  absl::StatusOr<std::unique_ptr<Tokenizer>> Read(const TokenizerConfig& config, AroundText around) {
    QD_RETURN_IF_ERROR(ReadSteps());
    QD_RETURN_IF_ERROR(ReadVocab());
    QD_RETURN_IF_ERROR(ReadAddedTokens());
    QD_RETURN_IF_ERROR(AddConfigTokens(config, AddedTokenList::OtherText::kRefuse, vocab_, added_, spec_));
    spec_.added = added_.Take();
    QD_RETURN_IF_ERROR(ReadModel());
    QD_RETURN_IF_ERROR(ReadDecoderSteps());
    QD_ASSIGN_OR_RETURN(const auto processors, Section("post_processor", "processors"));
    QD_ASSIGN_OR_RETURN(AroundIds ids, ReadPostProcessor(processors, vocab_));
    spec_.prefix_ids = std::move(ids.prefix);
    spec_.suffix_ids = std::move(ids.suffix);
    if (around == AroundText::kConfigFlags) SetAffixes(config, /*add_bos_by_default=*/false, spec_);
    WarnOfIgnored();
    return MakeTextTokenizer(std::move(spec_), file_);
  }

 private:
  std::string Place(std::string_view section) const { return absl::StrCat(ToAbsl(file_), ": ", ToAbsl(section)); }
  template <typename... Words>
  absl::Status Corrupt(std::string_view place, const Words&... what) const {
    return absl::DataLossError(absl::StrCat(Place(place), ": ", what...));
  }
  template <typename... Words>
  absl::Status NotBuilt(std::string_view place, const Words&... what) const {
    return absl::UnimplementedError(absl::StrCat(Place(place), ": ", what..., " is not supported"));
  }
  absl::Status At(std::string_view place, const absl::Status& status) const {
    return absl::Status(status.code(), absl::StrCat(Place(place), ": ", status.message()));
  }
  absl::StatusOr<std::string> Text(const Json& object, std::string_view key, std::string_view place) const {
    return GetString(object, key, "", Place(place));
  }
  absl::StatusOr<bool> Flag(const Json& object, std::string_view key, std::string_view place) const {
    return GetBool(object, key, false, Place(place));
  }
  absl::StatusOr<std::vector<JsonStep>> Section(const char* name, const char* list_key) const {
    return FlattenSteps(FindMember(json_, name), list_key, Place(name));
  }

  absl::Status ReadSteps() {
    Growth growth;  // of both sections together
    QD_ASSIGN_OR_RETURN(const auto normalizers, Section("normalizer", "normalizers"));
    QD_ASSIGN_OR_RETURN(spec_.normalizer, ReadNormalizer(normalizers, growth));
    QD_ASSIGN_OR_RETURN(const auto pre_tokenizers, Section("pre_tokenizer", "pretokenizers"));
    QD_ASSIGN_OR_RETURN(ReadPreTokenizerResult read, ReadPreTokenizer(pre_tokenizers, growth));
    spec_.pre_tokenizer = std::move(read.pre_tokenizer);
    byte_level_ = read.byte_level;
    return absl::OkStatus();
  }

  absl::Status ReadDecoderSteps() {
    QD_ASSIGN_OR_RETURN(const auto decoders, Section("decoder", "decoders"));
    QD_ASSIGN_OR_RETURN(DecodedVocab decoded,
                        ReadDecoder(decoders, byte_level_, vocab_.texts(), spec_.added, Place("decoder")));
    spec_.token_bytes = std::move(decoded.token_bytes);
    spec_.strips_leading_space = decoded.strips_leading_space;
    return absl::OkStatus();
  }

  // A caller of `tokenizers` gets them; one of transformers, unless it asks, does not.
  void WarnOfIgnored() const {
    for (const char* section : {"truncation", "padding"}) {
      if (FindMember(json_, section) == nullptr) continue;
      LogWarning(absl::StrCat(Place(section), " is not applied: a text is encoded as a whole, and nothing more"));
    }
  }

  absl::Status ReadVocab() {
    model_ = FindMember(json_, "model");
    if (model_ == nullptr || !model_->is_object()) return Corrupt("model", "missing");
    QD_ASSIGN_OR_RETURN(const std::string type, Text(*model_, "type", "model"));
    if (!type.empty() && type != "BPE") return NotBuilt("model", "'", Printable(type, 60), "'");
    const Json* vocab = FindMember(*model_, "vocab");
    if (type.empty() && vocab != nullptr && vocab->is_array()) return NotBuilt("model", "'Unigram'");
    if (vocab == nullptr || !vocab->is_object()) return Corrupt("model.vocab", "missing, or no object");
    for (auto it = vocab->begin(); it != vocab->end(); ++it) {
      const std::optional<int64_t> id = AsInt(it.value());
      if (!id) return Corrupt("model.vocab", "'", Printable(it.key(), 60), "' has the id ", Excerpt(it.value()));
      const absl::Status status = vocab_.Add(it.key(), *id);
      if (!status.ok()) return At("model.vocab", status);
    }
    return absl::OkStatus();
  }

  absl::Status ReadAddedTokens() {
    const Json* list = FindMember(json_, "added_tokens");
    if (list == nullptr) return absl::OkStatus();
    if (!list->is_array()) return Corrupt("added_tokens", "no list");
    if (list->size() > kMaxAddedTokens) {
      return Corrupt("added_tokens", list->size(), " entries, at most ", kMaxAddedTokens);
    }
    for (size_t i = 0; i < list->size(); ++i) {
      const Json& entry = (*list)[i];
      const std::string place = absl::StrCat("added_tokens[", i, "]");
      QD_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(entry, Place(place)));
      QD_ASSIGN_OR_RETURN(const int64_t id, GetInt(entry, "id", -1, Place(place)));
      if (id < 0 || id >= kMaxVocab) return Corrupt(place, "id ", id, ", expected 0 to ", kMaxVocab - 1);
      token.id = static_cast<int32_t>(id);
      const absl::Status status = added_.Add(token, AddedTokenList::OtherText::kRefuse, vocab_);
      if (!status.ok()) return At(place, status);
    }
    return absl::OkStatus();
  }

  // Options, tokens and merges of the model. An added token's text is not for merges to reach unless the vocabulary has
  // it.
  absl::Status ReadModel() {
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      QD_ASSIGN_OR_RETURN(const std::string affix, Text(*model_, key, "model"));
      if (!affix.empty()) return NotBuilt("model", key, " '", Printable(affix, 60), "'");
    }
    QD_ASSIGN_OR_RETURN(const double dropout, GetDouble(*model_, "dropout", 0, Place("model")));
    if (dropout != 0) return NotBuilt("model", "dropout");
    BpeModel::Options options;
    options.byte_level = byte_level_;
    QD_ASSIGN_OR_RETURN(options.ignore_merges, Flag(*model_, "ignore_merges", "model"));
    QD_ASSIGN_OR_RETURN(options.fuse_unknown, Flag(*model_, "fuse_unk", "model"));
    QD_ASSIGN_OR_RETURN(const std::string unknown, Text(*model_, "unk_token", "model"));
    if (!unknown.empty()) options.unknown_id = vocab_.Find(unknown);
    spec_.model = BpeModel(options);
    const Json& vocab = *FindMember(*model_, "vocab");
    for (auto it = vocab.begin(); it != vocab.end(); ++it) {
      const std::optional<std::string> text = TextForMerges(it.key());
      if (!text || text->empty()) continue;
      const absl::Status status = spec_.model.AddToken(*text, it.value().get<int32_t>());
      if (!status.ok()) return At("model.vocab", status);
    }
    QD_ASSIGN_OR_RETURN(const bool byte_fallback, Flag(*model_, "byte_fallback", "model"));
    std::string missing;  // bytes that UTF-8 uses and nothing here stands for
    for (int byte = 0; byte < 256; ++byte) {
      const char as_char = static_cast<char>(byte);
      const std::optional<int32_t> id = byte_level_     ? spec_.model.Find(std::string_view(&as_char, 1))
                                        : byte_fallback ? vocab_.Find(ByteTokenText(static_cast<uint8_t>(byte)))
                                                        : std::nullopt;
      const bool in_utf8 = byte < 0xC0 || (byte > 0xC1 && byte < 0xF5);
      if (id) {
        spec_.model.SetByte(static_cast<uint8_t>(byte), *id);
      } else if (in_utf8) {
        missing += as_char;
      }
    }
    QD_RETURN_IF_ERROR(CheckUnknown(unknown, options.unknown_id.has_value(), missing));
    return ReadMerges();
  }

  // Text that no token stands for becomes unk_token, and without one is dropped, as Hugging Face `tokenizers` does.
  absl::Status CheckUnknown(const std::string& unknown, bool is_token, const std::string& missing) const {
    if (is_token || missing.empty()) return absl::OkStatus();
    if (!unknown.empty()) return Corrupt("model", "unk_token '", Printable(unknown, 60), "' is no token");
    if (byte_level_) {
      LogWarning(absl::StrCat(Place("model.vocab"), ": has no token for ", missing.size(), " of the bytes of UTF-8 (",
                              Printable(missing, 16), ") and no unk_token: text that has them loses them"));
    }
    return absl::OkStatus();
  }

  // What a vocabulary text is to the model: for byte-level models bytes; nothing where it holds a character that stands
  // for none, and so is never reached from text.
  std::optional<std::string> TextForMerges(const std::string& text) const {
    return byte_level_ ? DecodeByteAlphabet(text) : std::optional(text);
  }

  absl::Status ReadMerges() {
    const Json* merges = FindMember(*model_, "merges");
    if (merges == nullptr || !merges->is_array()) return Corrupt("model.merges", "missing, or no list");
    for (size_t i = 0; i < merges->size(); ++i) {
      const Json& merge = (*merges)[i];
      const std::string* left = nullptr;
      const std::string* right = nullptr;
      std::string first, second;
      if (merge.is_string()) {
        const std::string& line = merge.get_ref<const std::string&>();
        if (line.starts_with("#version")) continue;
        const size_t space = line.find(' ');
        if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos) {
          return Corrupt(absl::StrCat("model.merges[", i, "]"), "expected two tokens with a space between");
        }
        first = line.substr(0, space);
        second = line.substr(space + 1);
        left = &first;
        right = &second;
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        left = merge[0].get_ptr<const std::string*>();
        right = merge[1].get_ptr<const std::string*>();
      } else {
        return Corrupt(absl::StrCat("model.merges[", i, "]"), "expected two tokens");
      }
      const absl::Status status = AddMerge(*left, *right);
      if (!status.ok()) return At(absl::StrCat("model.merges[", i, "]"), status);
    }
    return absl::OkStatus();
  }

  absl::Status AddMerge(const std::string& left, const std::string& right) {
    if (!byte_level_) return spec_.model.AddMerge(left, right);
    const std::optional<std::string> left_bytes = DecodeByteAlphabet(left);
    const std::optional<std::string> right_bytes = DecodeByteAlphabet(right);
    if (!left_bytes || !right_bytes) return absl::DataLossError("a character that stands for no byte");
    return spec_.model.AddMerge(*left_bytes, *right_bytes);
  }

  const Json& json_;
  const std::string file_;
  const Json* model_ = nullptr;
  bool byte_level_ = false;
  VocabTable vocab_;
  AddedTokenList added_;
  TokenizerSpec spec_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizerOfJson(const Json& json, std::string_view file,
                                                               const TokenizerConfig& config, AroundText around) {
  return Reader(json, file).Read(config, around);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizerJson(std::string_view text,
                                                              const TokenizerCompanions& beside) {
  QD_ASSIGN_OR_RETURN(const TokenizerConfig config, ParseTokenizerConfig(beside, ConfigFlags::kNotRead));
  QD_ASSIGN_OR_RETURN(const JsonDocument document, ParseJson(text, kFile));
  const Json& json = *document;
  return MakeTokenizerOfJson(json, kFile, config, AroundText::kPostProcessor);
}

}  // namespace quantd
