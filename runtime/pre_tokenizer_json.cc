#include "runtime/pre_tokenizer_json.h"

#include <utility>

#include "base/status_macros.h"
#include "runtime/json.h"
#include "runtime/printable.h"
#include "runtime/regex_syntax.h"
#include "runtime/unicode_text.h"

namespace quantd {
namespace {

// ASCII's punctuation is more than Unicode's.
constexpr const char* kPunctuation = R"([\p{P}!-/:-@\[-`{-~])";

// \w+|[^\w\s]+ of Rust's regular expressions, whose words have the joiners.
constexpr const char* kWordsAndSigns = R"([\w\x{200C}\x{200D}]+|[^\w\s\x{200C}\x{200D}]+)";

absl::StatusOr<SplitBehavior> ReadBehavior(const JsonStep& step, std::string_view fallback) {
  QD_ASSIGN_OR_RETURN(std::string name, step.Text("behavior"));
  if (name.empty()) name = fallback;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return step.NotBuilt("behavior '", Printable(name, 60), "'");
}

class Reader {
 public:
  explicit Reader(Growth& growth) : growth_(growth) {}

  absl::Status Read(const JsonStep& step) {
    QD_ASSIGN_OR_RETURN(const std::string type, step.Type());
    if (type == "Split") return ReadSplit(step);
    if (type == "ByteLevel") return ReadByteLevel(step);
    if (type == "Metaspace") return ReadMetaspace(step);
    if (type == "Punctuation") {
      QD_ASSIGN_OR_RETURN(const SplitBehavior behavior, ReadBehavior(step, "Isolated"));
      return AddRule(step, {kPunctuation, behavior});
    }
    if (type == "Digits") {
      QD_ASSIGN_OR_RETURN(const bool individual, step.Flag("individual_digits", false));
      return AddRule(step, {individual ? "\\p{N}" : "\\p{N}+"});
    }
    if (type == "Whitespace") return AddRule(step, {kWordsAndSigns, SplitBehavior::kRemoved, /*invert=*/true});
    if (type == "WhitespaceSplit") return AddRule(step, {R"(\s)", SplitBehavior::kRemoved});
    if (type == "CharDelimiterSplit") return ReadDelimiter(step);
    if (type == "BertPreTokenizer") {
      QD_RETURN_IF_ERROR(AddRule(step, {R"(\s)", SplitBehavior::kRemoved}));
      return AddRule(step, {kPunctuation});
    }
    if (type == "FixedLength") {
      QD_ASSIGN_OR_RETURN(const int64_t length, step.Int("length", 5));
      if (length < 1 || length > 65535) return step.Corrupt("length ", length, ", expected 1 to 65535");
      return AddRule(step, {absl::StrCat("(?m:.{1,", length, "})")});
    }
    return step.NotBuiltType(type);
  }

  absl::StatusOr<ReadPreTokenizerResult> Finish() {
    if (place_.json != nullptr) QD_RETURN_IF_ERROR(CompileRules());
    return std::move(result_);
  }

 private:
  // Rules in a row are one step. After ByteLevel they see its alphabet.
  absl::Status AddRule(const JsonStep& step, SplitRule rule) {
    if (result_.byte_level && !result_.pre_tokenizer.to_alphabet()) {
      QD_RETURN_IF_ERROR(AddStep(step, AlphabetStep{}));
    }
    if (rules_.empty()) place_ = step;
    rules_.push_back(std::move(rule));
    return absl::OkStatus();
  }
  absl::Status AddStep(const JsonStep& step, PreTokenizeStep made) {
    if (place_.json == nullptr) place_ = step;
    QD_RETURN_IF_ERROR(CompileRules());
    result_.pre_tokenizer.Add(std::move(made));
    return absl::OkStatus();
  }
  absl::Status CompileRules() {
    if (rules_.empty()) return absl::OkStatus();
    absl::StatusOr<SplitPattern> split = SplitPattern::Compile(std::exchange(rules_, {}));
    if (!split.ok())
      return absl::Status(split.status().code(), absl::StrCat(place_.place, ": ", split.status().message()));
    result_.pre_tokenizer.Add(*std::move(split));
    return absl::OkStatus();
  }

  absl::Status ReadSplit(const JsonStep& step) {
    SplitRule rule;
    const Json* pattern = FindMember(*step.json, "pattern");
    if (pattern == nullptr) return step.Corrupt("Split without a pattern");
    QD_ASSIGN_OR_RETURN(rule.regex, GetString(*pattern, "Regex", "", step.place));
    if (FindMember(*pattern, "String") != nullptr) {
      QD_ASSIGN_OR_RETURN(const std::string literal, GetString(*pattern, "String", "", step.place));
      rule.regex = QuoteForRegex(literal);
    }
    if (rule.regex.empty()) return step.Corrupt("Split with an empty pattern");
    QD_ASSIGN_OR_RETURN(rule.invert, step.Flag("invert", false));
    QD_ASSIGN_OR_RETURN(rule.behavior, ReadBehavior(step, ""));
    return AddRule(step, std::move(rule));
  }

  absl::Status ReadByteLevel(const JsonStep& step) {
    if (result_.byte_level) return step.NotBuilt("'ByteLevel' after ByteLevel");
    QD_ASSIGN_OR_RETURN(const bool add_prefix_space, step.Flag("add_prefix_space", true));
    if (add_prefix_space) {
      QD_RETURN_IF_ERROR(growth_.Add(1, 2, step));
      QD_RETURN_IF_ERROR(AddStep(step, PrefixSpaceStep{}));
    }
    QD_ASSIGN_OR_RETURN(const bool use_regex, step.Flag("use_regex", true));
    if (use_regex) QD_RETURN_IF_ERROR(AddRule(step, {std::string(Gpt2Pattern())}));
    result_.byte_level = true;
    return absl::OkStatus();
  }

  absl::Status ReadDelimiter(const JsonStep& step) {
    QD_ASSIGN_OR_RETURN(const std::string delimiter, step.Text("delimiter"));
    if (!IsOneCharacter(delimiter)) {
      return step.Corrupt("the delimiter is no character");
    }
    return AddRule(step, {QuoteForRegex(delimiter), SplitBehavior::kRemoved});
  }

  absl::Status ReadMetaspace(const JsonStep& step) {
    if (result_.byte_level) return step.NotBuilt("'Metaspace' after ByteLevel");
    MetaspaceStep metaspace;
    QD_ASSIGN_OR_RETURN(std::string replacement, step.Text("replacement"));
    if (!IsOneCharacter(replacement)) {
      return step.Corrupt("Metaspace: the replacement is no character");
    }
    QD_RETURN_IF_ERROR(growth_.Add(1, 2 * replacement.size(), step));  // in place of a space, and before the text
    metaspace.replacement = std::move(replacement);
    QD_ASSIGN_OR_RETURN(std::string scheme, step.Text("prepend_scheme"));
    if (scheme.empty()) {  // older files
      QD_ASSIGN_OR_RETURN(const bool add_prefix_space, step.Flag("add_prefix_space", true));
      scheme = add_prefix_space ? "always" : "never";
    }
    if (scheme == "always") {
      metaspace.prepend = MetaspaceStep::Prepend::kAlways;
    } else if (scheme == "first") {
      metaspace.prepend = MetaspaceStep::Prepend::kFirst;
    } else if (scheme == "never") {
      metaspace.prepend = MetaspaceStep::Prepend::kNever;
    } else {
      return step.Corrupt("prepend_scheme '", Printable(scheme, 60), "'");
    }
    QD_ASSIGN_OR_RETURN(const bool split, step.Flag("split", true));
    SplitRule rule{QuoteForRegex(metaspace.replacement), SplitBehavior::kMergedWithNext};
    QD_RETURN_IF_ERROR(AddStep(step, std::move(metaspace)));
    return split ? AddRule(step, std::move(rule)) : absl::OkStatus();
  }

  Growth& growth_;
  std::vector<SplitRule> rules_;    // not yet compiled
  JsonStep place_ = {nullptr, ""};  // of the first of them
  ReadPreTokenizerResult result_;
};

}  // namespace

absl::StatusOr<ReadPreTokenizerResult> ReadPreTokenizer(const std::vector<JsonStep>& steps, Growth& growth) {
  Reader reader(growth);
  for (const JsonStep& step : steps) QD_RETURN_IF_ERROR(reader.Read(step));
  return reader.Finish();
}

}  // namespace quantd
