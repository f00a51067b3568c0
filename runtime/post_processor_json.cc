#include "runtime/post_processor_json.h"

#include <optional>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "runtime/json.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

constexpr size_t kMaxAffixIds = 16;  // tokens around a text

absl::Status AppendId(const JsonStep& step, std::string_view name, const Json& value, const VocabTable& vocab,
                      std::vector<int32_t>& ids) {
  const std::optional<int64_t> id = AsInt(value);
  if (!id || !vocab.Has(*id)) {
    return step.Corrupt("special token '", Printable(name, 60), "': ", Excerpt(value), " is no token's id");
  }
  if (ids.size() == kMaxAffixIds) return step.Corrupt("more than ", kMaxAffixIds, " tokens around a text");
  ids.push_back(static_cast<int32_t>(*id));
  return absl::OkStatus();
}

absl::Status AppendTemplateToken(const JsonStep& step, const std::string& name, const VocabTable& vocab,
                                 std::vector<int32_t>& ids) {
  const Json* tokens = FindMember(*step.json, "special_tokens");
  const Json* token = tokens == nullptr ? nullptr : FindMember(*tokens, name);
  const Json* list = token == nullptr ? nullptr : FindMember(*token, "ids");
  if (list == nullptr || !list->is_array()) {
    return step.Corrupt("special token '", Printable(name, 60), "' has no ids");
  }
  for (const Json& value : *list) QD_RETURN_IF_ERROR(AppendId(step, name, value, vocab, ids));
  return absl::OkStatus();
}

absl::StatusOr<AroundIds> ReadTemplate(const JsonStep& step, const VocabTable& vocab) {
  const Json* single = FindMember(*step.json, "single");
  if (single == nullptr || !single->is_array()) return step.Corrupt("TemplateProcessing without a list 'single'");
  AroundIds around;
  bool after_text = false;
  for (const Json& item : *single) {
    if (FindMember(item, "Sequence") != nullptr) {
      if (after_text) return step.Corrupt("TemplateProcessing with two texts in 'single'");
      after_text = true;
      continue;
    }
    const Json* token = FindMember(item, "SpecialToken");
    if (token == nullptr) {
      return step.Corrupt("TemplateProcessing: an item that is neither Sequence nor SpecialToken");
    }
    QD_ASSIGN_OR_RETURN(const std::string name, GetString(*token, "id", "", step.place));
    QD_RETURN_IF_ERROR(AppendTemplateToken(step, name, vocab, after_text ? around.suffix : around.prefix));
  }
  if (!after_text) return step.Corrupt("TemplateProcessing without the text in 'single'");
  return around;
}

// BertProcessing and RobertaProcessing: "cls": ["<s>", 0] before the text, "sep" behind it.
absl::StatusOr<AroundIds> ReadClsAndSep(const JsonStep& step, const VocabTable& vocab) {
  AroundIds around;
  for (const auto& [key, ids] : {std::pair("cls", &around.prefix), std::pair("sep", &around.suffix)}) {
    const Json* pair = FindMember(*step.json, key);
    if (pair == nullptr || !pair->is_array() || pair->size() != 2) return step.Corrupt("no pair '", key, "'");
    QD_RETURN_IF_ERROR(AppendId(step, key, (*pair)[1], vocab, *ids));
  }
  return around;
}

}  // namespace

absl::StatusOr<AroundIds> ReadPostProcessor(const std::vector<JsonStep>& steps, const VocabTable& vocab) {
  AroundIds all;
  for (const JsonStep& step : steps) {
    QD_ASSIGN_OR_RETURN(const std::string type, step.Type());
    AroundIds around;
    if (type == "TemplateProcessing") {
      QD_ASSIGN_OR_RETURN(around, ReadTemplate(step, vocab));
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      QD_ASSIGN_OR_RETURN(around, ReadClsAndSep(step, vocab));
    } else if (type != "ByteLevel") {  // which only moves offsets
      return step.NotBuiltType(type);
    }
    if (type == "ByteLevel") continue;
    // `tokenizers` takes the tokens of the one before for a text of their own, and the second for its pair.
    if (!all.prefix.empty() || !all.suffix.empty()) return step.NotBuilt("a second one that adds tokens");
    all = std::move(around);
  }
  return all;
}

}  // namespace quantd
