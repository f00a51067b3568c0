#include "runtime/normalizer_json.h"

#include <memory>
#include <utility>

#include <absl/strings/escaping.h>

#include "base/status_macros.h"
#include "runtime/json.h"

namespace quantd {
namespace {

absl::StatusOr<NormalizeStep> ReadReplaceStep(const JsonStep& step, Growth& growth) {
  const Json* pattern = FindMember(*step.json, "pattern");
  if (pattern == nullptr || FindMember(*pattern, "Regex") == nullptr) return ReadReplace(step, growth);
  ReplaceMatchesStep replace;
  SplitRule rule;
  QD_ASSIGN_OR_RETURN(rule.regex, GetString(*pattern, "Regex", "", step.place));
  if (rule.regex.empty()) return step.Corrupt("Replace of an empty pattern");
  QD_ASSIGN_OR_RETURN(replace.to, step.Text("content"));
  absl::StatusOr<SplitPattern> compiled = SplitPattern::Compile({std::move(rule)});
  if (!compiled.ok())
    return absl::Status(compiled.status().code(), absl::StrCat(step.place, ": ", compiled.status().message()));
  replace.pattern = std::make_shared<const SplitPattern>(*std::move(compiled));
  return replace;
}

absl::StatusOr<NormalizeStep> ReadPrecompiled(const JsonStep& step) {
  QD_ASSIGN_OR_RETURN(const std::string base64, step.Text("precompiled_charsmap"));
  std::string blob;
  if (!absl::Base64Unescape(base64, &blob)) return step.Corrupt("precompiled_charsmap is no base64");
  absl::StatusOr<Charsmap> map = Charsmap::Parse(blob);
  if (!map.ok()) return step.Corrupt(map.status().message());
  return CharsmapStep{std::make_shared<const Charsmap>(*std::move(map)), /*of_graphemes=*/true};
}

absl::StatusOr<NormalizeStep> ReadStep(const JsonStep& step, Growth& growth) {
  QD_ASSIGN_OR_RETURN(const std::string type, step.Type());
  if (type == "NFC") return FormStep{UnicodeForm::kNfc};
  if (type == "NFD") return FormStep{UnicodeForm::kNfd};
  if (type == "NFKC") return FormStep{UnicodeForm::kNfkc};
  if (type == "NFKD") return FormStep{UnicodeForm::kNfkd};
  if (type == "Lowercase") return LowercaseStep{};
  if (type == "StripAccents") return StripAccentsStep{};
  if (type == "Nmt") return NmtStep{};
  if (type == "Replace") return ReadReplaceStep(step, growth);
  if (type == "Precompiled") return ReadPrecompiled(step);
  if (type == "Strip") {
    StripStep strip;
    QD_ASSIGN_OR_RETURN(strip.left, step.Flag("strip_left", true));
    QD_ASSIGN_OR_RETURN(strip.right, step.Flag("strip_right", true));
    return strip;
  }
  if (type == "Prepend") {
    PrependStep prepend;
    QD_ASSIGN_OR_RETURN(prepend.text, step.Text("prepend"));
    QD_RETURN_IF_ERROR(growth.Add(1, 1 + prepend.text.size(), step));  // a text between two tokens may be one byte
    return prepend;
  }
  return step.NotBuiltType(type);
}

}  // namespace

absl::StatusOr<std::vector<NormalizeStep>> ReadNormalizer(const std::vector<JsonStep>& steps, Growth& growth) {
  std::vector<NormalizeStep> normalizer;
  for (const JsonStep& step : steps) {
    QD_ASSIGN_OR_RETURN(NormalizeStep read, ReadStep(step, growth));
    normalizer.push_back(std::move(read));
  }
  return normalizer;
}

}  // namespace quantd
