#include "runtime/json_step.h"

#include "base/status_macros.h"
#include "runtime/json.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

constexpr size_t kMaxSteps = 32;  // all together: the longest published have 8
constexpr int kMaxNesting = 8;

absl::Status Flatten(const Json& step, const char* list_key, std::string place, int depth,
                     std::vector<JsonStep>& steps) {
  const JsonStep own{&step, std::move(place)};
  QD_ASSIGN_OR_RETURN(const std::string type, own.Type());
  if (type != "Sequence") {
    if (steps.size() == kMaxSteps) return own.Corrupt("more than ", kMaxSteps, " steps");
    steps.push_back(own);
    return absl::OkStatus();
  }
  const Json* list = FindMember(step, list_key);
  if (list == nullptr || !list->is_array()) return own.Corrupt("no list '", list_key, "'");
  if (list->size() > kMaxSteps) return own.Corrupt(list->size(), " steps, at most ", kMaxSteps);
  if (depth == kMaxNesting) return own.Corrupt("a Sequence nested deeper than ", kMaxNesting, " levels");
  for (size_t i = 0; i < list->size(); ++i) {
    QD_RETURN_IF_ERROR(
        Flatten((*list)[i], list_key, absl::StrCat(own.place, ".", list_key, "[", i, "]"), depth + 1, steps));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> JsonStep::Text(std::string_view key) const { return GetString(*json, key, "", place); }
absl::StatusOr<bool> JsonStep::Flag(std::string_view key, bool fallback) const {
  return GetBool(*json, key, fallback, place);
}
absl::StatusOr<int64_t> JsonStep::Int(std::string_view key, int64_t fallback) const {
  return GetInt(*json, key, fallback, place);
}

absl::Status JsonStep::NotBuiltType(std::string_view type) const {
  if (type.empty()) return Corrupt("no type");
  return NotBuilt("'", Printable(type, 60), "'");
}

absl::StatusOr<std::vector<JsonStep>> FlattenSteps(const Json* root, const char* list_key, std::string place) {
  std::vector<JsonStep> steps;
  if (root != nullptr) QD_RETURN_IF_ERROR(Flatten(*root, list_key, std::move(place), 0, steps));
  return steps;
}

absl::Status Growth::Add(size_t from, size_t to, const JsonStep& step) {
  if (to > from) factor_ *= static_cast<double>(to) / static_cast<double>(from);
  if (factor_ <= static_cast<double>(kMaxTextGrowth)) return absl::OkStatus();
  return step.Corrupt("the steps up to here grow a text ", factor_, " times, at most ", kMaxTextGrowth);
}

absl::StatusOr<ReplaceStep> ReadReplace(const JsonStep& step, Growth& growth) {
  const Json* pattern = FindMember(*step.json, "pattern");
  if (pattern == nullptr || FindMember(*pattern, "String") == nullptr) {
    return step.NotBuilt("Replace of a pattern that is no String");
  }
  ReplaceStep replace;
  QD_ASSIGN_OR_RETURN(replace.from, GetString(*pattern, "String", "", step.place));
  QD_ASSIGN_OR_RETURN(replace.to, step.Text("content"));
  if (replace.from.empty()) return step.Corrupt("Replace of an empty text");
  QD_RETURN_IF_ERROR(growth.Add(replace.from.size(), replace.to.size(), step));
  return replace;
}

}  // namespace quantd
