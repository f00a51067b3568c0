// tokenizer.json of Hugging Face `tokenizers`: the BPE model, with the normalizers, pre-tokenizers, post-processors and
// decoders that language models of its kind use.

#include <array>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/added_token_json.h"
#include "runtime/byte_alphabet.h"
#include "runtime/byte_tokens.h"
#include "runtime/json.h"
#include "runtime/printable.h"
#include "runtime/text_tokenizer.h"
#include "runtime/tokenizer_json.h"
#include "runtime/vocab_table.h"

namespace quantd {
namespace {

constexpr std::string_view kFile = "tokenizer.json";
constexpr size_t kMaxSteps = 32;                // of a Sequence: the longest published have 6
constexpr size_t kMaxAffixIds = 16;             // tokens around a text
constexpr size_t kMaxAllTokenBytes = 64 << 20;  // of the decoded vocabulary; 256k published tokens have 2 MB

absl::Status Corrupt(std::string_view place, std::string_view what) {
  return absl::DataLossError(absl::StrCat(ToAbsl(kFile), ": ", ToAbsl(place), ": ", ToAbsl(what)));
}
absl::Status NotBuilt(std::string_view place, std::string_view what) {
  return absl::UnimplementedError(
      absl::StrCat(ToAbsl(kFile), ": ", ToAbsl(place), ": ", ToAbsl(what), " is not supported"));
}
absl::Status At(std::string_view place, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(ToAbsl(kFile), ": ", ToAbsl(place), ": ", status.message()));
}

// The steps of `root`: its own, or those of a Sequence under the key `list_key`, one level deep. `root` may be null.
absl::StatusOr<std::vector<const Json*>> Steps(const Json* root, const char* list_key, const std::string& place) {
  std::vector<const Json*> steps;
  if (root == nullptr) return steps;
  QD_ASSIGN_OR_RETURN(const std::string type, GetString(*root, "type", "", absl::StrCat(ToAbsl(kFile), ": ", place)));
  if (type != "Sequence") return std::vector<const Json*>{root};
  const Json* list = FindMember(*root, list_key);
  if (list == nullptr || !list->is_array()) return Corrupt(place, absl::StrCat("no list '", list_key, "'"));
  if (list->size() > kMaxSteps) return Corrupt(place, absl::StrCat(list->size(), " steps, at most ", kMaxSteps));
  for (const Json& step : *list) steps.push_back(&step);
  return steps;
}

// How many times the bytes of a text its steps make of it, all together.
class Growth {
 public:
  // A step that makes up to `to` bytes of every `from` bytes.
  absl::Status Add(size_t from, size_t to, std::string_view place) {
    if (to > from) factor_ *= static_cast<double>(to) / static_cast<double>(from);
    if (factor_ <= static_cast<double>(kMaxTextGrowth)) return absl::OkStatus();
    return Corrupt(place,
                   absl::StrCat("the steps up to here grow a text ", factor_, " times, at most ", kMaxTextGrowth));
  }

 private:
  double factor_ = 1;
};

class Reader {
 public:
  explicit Reader(const Json& json) : json_(json) {}

  absl::StatusOr<std::unique_ptr<Tokenizer>> Read(const TokenizerConfig& config, AroundText around) {
    QD_RETURN_IF_ERROR(ReadNormalizer());
    QD_RETURN_IF_ERROR(ReadPreTokenizer());
    QD_RETURN_IF_ERROR(ReadVocab());
    QD_RETURN_IF_ERROR(ReadAddedTokens());
    QD_RETURN_IF_ERROR(AddConfigTokens(config, AddedTokenList::OtherText::kRefuse, vocab_, added_, spec_));
    spec_.added = added_.Take();
    QD_RETURN_IF_ERROR(ReadModel());
    QD_RETURN_IF_ERROR(ReadDecoder());
    QD_RETURN_IF_ERROR(ReadPostProcessor());
    if (around == AroundText::kConfigFlags) SetAffixes(config, /*add_bos_by_default=*/false, spec_);
    return MakeTextTokenizer(std::move(spec_), kFile);
  }

 private:
  absl::StatusOr<std::string> Type(const Json& step, const std::string& place) const {
    return GetString(step, "type", "", absl::StrCat(ToAbsl(kFile), ": ", place));
  }
  absl::StatusOr<std::string> Text(const Json& object, std::string_view key, const std::string& place) const {
    return GetString(object, key, "", absl::StrCat(ToAbsl(kFile), ": ", place));
  }
  absl::StatusOr<bool> Flag(const Json& object, std::string_view key, bool fallback, const std::string& place) const {
    return GetBool(object, key, fallback, absl::StrCat(ToAbsl(kFile), ": ", place));
  }

  absl::Status ReadNormalizer() {
    const std::string place = "normalizer";
    QD_ASSIGN_OR_RETURN(const auto steps, Steps(FindMember(json_, "normalizer"), "normalizers", place));
    for (const Json* step : steps) {
      QD_ASSIGN_OR_RETURN(const std::string type, Type(*step, place));
      if (type == "Prepend") {
        QD_ASSIGN_OR_RETURN(std::string text, Text(*step, "prepend", place));
        QD_RETURN_IF_ERROR(
            growth_.Add(1, 1 + text.size(), place));  // the text between two added tokens may be one byte
        spec_.normalizer.push_back(PrependStep{std::move(text)});
      } else if (type == "Replace") {
        QD_ASSIGN_OR_RETURN(ReplaceStep replace, ReadReplace(*step, place, growth_));
        spec_.normalizer.push_back(std::move(replace));
      } else {
        return NotBuilt(place, absl::StrCat("'", Printable(type, 60), "'"));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ReplaceStep> ReadReplace(const Json& step, const std::string& place, Growth& growth) const {
    const Json* pattern = FindMember(step, "pattern");
    if (pattern == nullptr || FindMember(*pattern, "String") == nullptr) {
      return NotBuilt(place, "Replace of a pattern that is no String");
    }
    ReplaceStep replace;
    QD_ASSIGN_OR_RETURN(replace.from, Text(*pattern, "String", place));
    QD_ASSIGN_OR_RETURN(replace.to, Text(step, "content", place));
    if (replace.from.empty()) return Corrupt(place, "Replace of an empty text");
    QD_RETURN_IF_ERROR(growth.Add(replace.from.size(), replace.to.size(), place));
    return replace;
  }

  absl::Status ReadPreTokenizer() {
    const std::string place = "pre_tokenizer";
    QD_ASSIGN_OR_RETURN(const auto steps, Steps(FindMember(json_, "pre_tokenizer"), "pretokenizers", place));
    std::vector<SplitRule> rules;
    for (const Json* step : steps) {
      QD_ASSIGN_OR_RETURN(const std::string type, Type(*step, place));
      if (byte_level_) return NotBuilt(place, absl::StrCat("'", Printable(type, 60), "' after ByteLevel"));
      if (type == "Split") {
        QD_ASSIGN_OR_RETURN(SplitRule rule, ReadSplit(*step, place));
        rules.push_back(std::move(rule));
      } else if (type == "ByteLevel") {
        byte_level_ = true;
        QD_ASSIGN_OR_RETURN(const bool add_prefix_space, Flag(*step, "add_prefix_space", true, place));
        if (add_prefix_space) return NotBuilt(place, "ByteLevel with add_prefix_space");
        QD_ASSIGN_OR_RETURN(const bool use_regex, Flag(*step, "use_regex", true, place));
        if (use_regex) rules.push_back({std::string(Gpt2Pattern())});
      } else if (type == "Digits") {
        QD_ASSIGN_OR_RETURN(const bool individual, Flag(*step, "individual_digits", false, place));
        rules.push_back({individual ? "\\p{N}" : "\\p{N}+"});
      } else if (type == "Metaspace") {
        if (!rules.empty() || spec_.metaspace) return NotBuilt(place, "Metaspace after another step");
        QD_RETURN_IF_ERROR(ReadMetaspace(*step, place, rules));
      } else {
        return NotBuilt(place, absl::StrCat("'", Printable(type, 60), "'"));
      }
    }
    auto split = SplitPattern::Compile(rules);
    if (!split.ok()) return At(place, split.status());
    spec_.split = *std::move(split);
    return absl::OkStatus();
  }

  absl::StatusOr<SplitRule> ReadSplit(const Json& step, const std::string& place) const {
    SplitRule rule;
    const Json* pattern = FindMember(step, "pattern");
    if (pattern == nullptr) return Corrupt(place, "Split without a pattern");
    QD_ASSIGN_OR_RETURN(rule.regex, Text(*pattern, "Regex", place));
    if (FindMember(*pattern, "String") != nullptr) {
      QD_ASSIGN_OR_RETURN(const std::string literal, Text(*pattern, "String", place));
      if (literal.find("\\E") != std::string::npos) return NotBuilt(place, "Split at a text with \\E");
      rule.regex = "\\Q" + literal + "\\E";
    }
    if (rule.regex.empty()) return Corrupt(place, "Split with an empty pattern");
    QD_ASSIGN_OR_RETURN(rule.invert, Flag(step, "invert", false, place));
    QD_ASSIGN_OR_RETURN(const std::string behavior, Text(step, "behavior", place));
    if (behavior == "Isolated") {
      rule.behavior = SplitBehavior::kIsolated;
    } else if (behavior == "Removed") {
      rule.behavior = SplitBehavior::kRemoved;
    } else if (behavior == "MergedWithPrevious") {
      rule.behavior = SplitBehavior::kMergedWithPrevious;
    } else if (behavior == "MergedWithNext") {
      rule.behavior = SplitBehavior::kMergedWithNext;
    } else {
      return NotBuilt(place, absl::StrCat("Split behavior '", Printable(behavior, 60), "'"));
    }
    return rule;
  }

  absl::Status ReadMetaspace(const Json& step, const std::string& place, std::vector<SplitRule>& rules) {
    MetaspaceStep metaspace;
    QD_ASSIGN_OR_RETURN(std::string replacement, Text(step, "replacement", place));
    if (replacement.empty() || replacement.size() > 4)
      return Corrupt(place, "Metaspace: the replacement is no character");
    QD_RETURN_IF_ERROR(growth_.Add(1, 2 * replacement.size(), place));  // in place of a space, and before the text
    metaspace.replacement = std::move(replacement);
    QD_ASSIGN_OR_RETURN(std::string scheme, Text(step, "prepend_scheme", place));
    if (scheme.empty()) {  // older files
      QD_ASSIGN_OR_RETURN(const bool add_prefix_space, Flag(step, "add_prefix_space", true, place));
      scheme = add_prefix_space ? "always" : "never";
    }
    if (scheme == "always") {
      metaspace.prepend = MetaspaceStep::Prepend::kAlways;
    } else if (scheme == "first") {
      metaspace.prepend = MetaspaceStep::Prepend::kFirst;
    } else if (scheme == "never") {
      metaspace.prepend = MetaspaceStep::Prepend::kNever;
    } else {
      return Corrupt(place, absl::StrCat("prepend_scheme '", Printable(scheme, 60), "'"));
    }
    QD_ASSIGN_OR_RETURN(const bool split, Flag(step, "split", true, place));
    if (split) rules.push_back({"\\Q" + metaspace.replacement + "\\E", SplitBehavior::kMergedWithNext});
    spec_.metaspace = std::move(metaspace);
    return absl::OkStatus();
  }

  absl::Status ReadVocab() {
    model_ = FindMember(json_, "model");
    if (model_ == nullptr || !model_->is_object()) return Corrupt("model", "missing");
    QD_ASSIGN_OR_RETURN(const std::string type, Text(*model_, "type", "model"));
    if (!type.empty() && type != "BPE") return NotBuilt("model", absl::StrCat("'", Printable(type, 60), "'"));
    const Json* vocab = FindMember(*model_, "vocab");
    if (vocab == nullptr || !vocab->is_object()) return Corrupt("model.vocab", "missing, or no object");
    for (auto it = vocab->begin(); it != vocab->end(); ++it) {
      const std::optional<int64_t> id = AsInt(it.value());
      if (!id)
        return Corrupt("model.vocab", absl::StrCat("'", Printable(it.key(), 60), "' has the id ", Excerpt(it.value())));
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
      return Corrupt("added_tokens", absl::StrCat(list->size(), " entries, at most ", kMaxAddedTokens));
    }
    for (size_t i = 0; i < list->size(); ++i) {
      const Json& entry = (*list)[i];
      const std::string place = absl::StrCat("added_tokens[", i, "]");
      QD_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(entry, absl::StrCat(ToAbsl(kFile), ": ", place)));
      QD_ASSIGN_OR_RETURN(const int64_t id, GetInt(entry, "id", -1, absl::StrCat(ToAbsl(kFile), ": ", place)));
      if (id < 0 || id >= kMaxVocab) return Corrupt(place, absl::StrCat("id ", id, ", expected 0 to ", kMaxVocab - 1));
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
      if (!affix.empty()) return NotBuilt("model", absl::StrCat(key, " '", Printable(affix, 60), "'"));
    }
    QD_ASSIGN_OR_RETURN(const double dropout, GetDouble(*model_, "dropout", 0, absl::StrCat(ToAbsl(kFile), ": model")));
    if (dropout != 0) return NotBuilt("model", "dropout");
    BpeModel::Options options;
    options.byte_level = byte_level_;
    QD_ASSIGN_OR_RETURN(options.ignore_merges, Flag(*model_, "ignore_merges", false, "model"));
    QD_ASSIGN_OR_RETURN(options.fuse_unknown, Flag(*model_, "fuse_unk", false, "model"));
    QD_ASSIGN_OR_RETURN(const std::string unknown, Text(*model_, "unk_token", "model"));
    if (!unknown.empty()) {
      options.unknown_id = vocab_.Find(unknown);
      if (!options.unknown_id)
        return Corrupt("model", absl::StrCat("unk_token '", Printable(unknown, 60), "' is no token"));
    }
    spec_.model = BpeModel(options);
    const Json& vocab = *FindMember(*model_, "vocab");
    for (auto it = vocab.begin(); it != vocab.end(); ++it) {
      const std::optional<std::string> text = TextForMerges(it.key());
      if (!text || text->empty()) continue;
      const absl::Status status = spec_.model.AddToken(*text, it.value().get<int32_t>());
      if (!status.ok()) return At("model.vocab", status);
    }
    QD_ASSIGN_OR_RETURN(const bool byte_fallback, Flag(*model_, "byte_fallback", false, "model"));
    for (int byte = 0; byte < 256; ++byte) {
      const char as_char = static_cast<char>(byte);
      const std::optional<int32_t> id = byte_level_     ? spec_.model.Find(std::string_view(&as_char, 1))
                                        : byte_fallback ? vocab_.Find(ByteTokenText(static_cast<uint8_t>(byte)))
                                                        : std::nullopt;
      if (id) spec_.model.SetByte(static_cast<uint8_t>(byte), *id);
    }
    return ReadMerges();
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

  // Which bytes each token stands for, and whether a text loses its first space.
  absl::Status ReadDecoder() {
    const std::string place = "decoder";
    Growth growth;
    QD_ASSIGN_OR_RETURN(const auto steps, Steps(FindMember(json_, "decoder"), "decoders", place));
    bool byte_alphabet = byte_level_ && steps.empty();
    bool byte_tokens = false;
    std::vector<ReplaceStep> replaces;
    for (const Json* step : steps) {
      QD_ASSIGN_OR_RETURN(const std::string type, Type(*step, place));
      if (type == "ByteLevel") {
        byte_alphabet = true;
      } else if (type == "ByteFallback") {
        byte_tokens = true;
      } else if (type == "Replace") {
        QD_ASSIGN_OR_RETURN(ReplaceStep replace, ReadReplace(*step, place, growth));
        replaces.push_back(std::move(replace));
      } else if (type == "Metaspace") {
        QD_ASSIGN_OR_RETURN(const std::string replacement, Text(*step, "replacement", place));
        if (replacement.empty()) return Corrupt(place, "Metaspace: an empty replacement");
        replaces.push_back({replacement, " "});
        QD_ASSIGN_OR_RETURN(const std::string scheme, Text(*step, "prepend_scheme", place));
        QD_ASSIGN_OR_RETURN(const bool add_prefix_space, Flag(*step, "add_prefix_space", scheme != "never", place));
        spec_.strips_leading_space = add_prefix_space && scheme != "never";
      } else if (type == "Strip") {
        QD_RETURN_IF_ERROR(ReadStrip(*step, place));
      } else if (type != "Fuse") {
        return NotBuilt(place, absl::StrCat("'", Printable(type, 60), "'"));
      }
    }
    if (byte_alphabet != byte_level_) return NotBuilt(place, "another byte alphabet than the pre_tokenizer's");
    if (!byte_level_ && steps.empty()) return NotBuilt(place, "null");
    return WriteTokenBytes(byte_tokens, replaces);
  }

  absl::Status ReadStrip(const Json& step, const std::string& place) {
    const std::string name = absl::StrCat(ToAbsl(kFile), ": ", place);
    QD_ASSIGN_OR_RETURN(const std::string content, Text(step, "content", place));
    QD_ASSIGN_OR_RETURN(const int64_t start, GetInt(step, "start", 0, name));
    QD_ASSIGN_OR_RETURN(const int64_t stop, GetInt(step, "stop", 0, name));
    if (content != " " || start < 0 || start > 1 || stop != 0)
      return NotBuilt(place, "Strip of other than one leading space");
    spec_.strips_leading_space = start == 1;
    return absl::OkStatus();
  }

  absl::Status WriteTokenBytes(bool byte_tokens, const std::vector<ReplaceStep>& replaces) {
    spec_.token_bytes = vocab_.texts();
    std::vector<bool> is_added(spec_.token_bytes.size());
    for (const AddedToken& token : spec_.added) is_added[token.id] = true;
    size_t total = 0;
    for (size_t id = 0; id < spec_.token_bytes.size(); ++id) {
      std::string& text = spec_.token_bytes[id];
      if (is_added[id]) continue;
      if (byte_level_) {
        text = DecodeByteAlphabet(text).value_or(text);
        continue;
      }
      const std::optional<uint8_t> byte = byte_tokens ? ByteOfToken(text) : std::nullopt;
      if (byte) text.assign(1, static_cast<char>(*byte));
      for (const ReplaceStep& replace : replaces) {
        if (!byte) text = ReplaceAll(text, replace.from, replace.to);
      }
      total += text.size();
      if (total > kMaxAllTokenBytes)
        return Corrupt("decoder", absl::StrCat("the tokens stand for more than ", kMaxAllTokenBytes, " bytes"));
    }
    return absl::OkStatus();
  }

  absl::Status ReadPostProcessor() {
    const std::string place = "post_processor";
    QD_ASSIGN_OR_RETURN(const auto steps, Steps(FindMember(json_, "post_processor"), "processors", place));
    for (const Json* step : steps) {
      QD_ASSIGN_OR_RETURN(const std::string type, Type(*step, place));
      if (type == "TemplateProcessing") {
        QD_RETURN_IF_ERROR(ReadTemplate(*step, place));
      } else if (type != "ByteLevel") {  // ByteLevel here only moves offsets
        return NotBuilt(place, absl::StrCat("'", Printable(type, 60), "'"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadTemplate(const Json& step, const std::string& place) {
    const Json* single = FindMember(step, "single");
    if (single == nullptr || !single->is_array()) return Corrupt(place, "TemplateProcessing without a list 'single'");
    bool after_text = false;
    for (const Json& item : *single) {
      if (FindMember(item, "Sequence") != nullptr) {
        if (after_text) return Corrupt(place, "TemplateProcessing with two texts in 'single'");
        after_text = true;
        continue;
      }
      const Json* token = FindMember(item, "SpecialToken");
      if (token == nullptr)
        return Corrupt(place, "TemplateProcessing: an item that is neither Sequence nor SpecialToken");
      QD_ASSIGN_OR_RETURN(const std::string name, Text(*token, "id", place));
      std::vector<int32_t>& ids = after_text ? spec_.suffix_ids : spec_.prefix_ids;
      QD_RETURN_IF_ERROR(AppendTemplateToken(step, name, place, ids));
    }
    if (!after_text) return Corrupt(place, "TemplateProcessing without the text in 'single'");
    return absl::OkStatus();
  }

  absl::Status AppendTemplateToken(const Json& step, const std::string& name, const std::string& place,
                                   std::vector<int32_t>& ids) const {
    const Json* tokens = FindMember(step, "special_tokens");
    const Json* token = tokens == nullptr ? nullptr : FindMember(*tokens, name);
    const Json* list = token == nullptr ? nullptr : FindMember(*token, "ids");
    if (list == nullptr || !list->is_array()) {
      return Corrupt(place, absl::StrCat("special token '", Printable(name, 60), "' has no ids"));
    }
    for (const Json& value : *list) {
      const std::optional<int64_t> id = AsInt(value);
      if (!id || !vocab_.Has(*id)) {
        return Corrupt(
            place, absl::StrCat("special token '", Printable(name, 60), "': ", Excerpt(value), " is no token's id"));
      }
      if (ids.size() == kMaxAffixIds)
        return Corrupt(place, absl::StrCat("more than ", kMaxAffixIds, " tokens around a text"));
      ids.push_back(static_cast<int32_t>(*id));
    }
    return absl::OkStatus();
  }

  const Json& json_;
  const Json* model_ = nullptr;
  bool byte_level_ = false;
  Growth growth_;  // of the normalizer and of Metaspace
  VocabTable vocab_;
  AddedTokenList added_;
  TokenizerSpec spec_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizerOfJson(const Json& json, std::string_view file,
                                                               const TokenizerConfig& config, AroundText around) {
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Reader(json).Read(config, around);
  if (tokenizer.ok() || file == kFile) return tokenizer;
  std::string_view message = ToStd(tokenizer.status().message());
  if (message.starts_with(kFile)) message.remove_prefix(kFile.size());
  return absl::Status(tokenizer.status().code(), absl::StrCat(ToAbsl(file), ToAbsl(message)));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizerJson(std::string_view text,
                                                              const TokenizerCompanions& beside) {
  QD_ASSIGN_OR_RETURN(const TokenizerConfig config, ParseTokenizerConfig(beside));
  QD_ASSIGN_OR_RETURN(const Json json, ParseJson(text, kFile));
  return MakeTokenizerOfJson(json, kFile, config, AroundText::kPostProcessor);
}

}  // namespace quantd
