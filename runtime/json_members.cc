#include "runtime/json_members.h"

#include <optional>

#include "base/strings.h"
#include "runtime/json.h"

namespace quantd {
namespace {

// A member of the wrong kind is an argument like one out of range.
template <typename T>
T Take(absl::StatusOr<T> value, T fallback, absl::Status& first) {
  if (value.ok()) return *std::move(value);
  if (first.ok()) first = absl::InvalidArgumentError(value.status().message());
  return fallback;
}

}  // namespace

bool JsonMembers::Has(const char* key) const { return FindMember(object_, key) != nullptr; }

int64_t JsonMembers::Int(const char* key, int64_t fallback, int64_t min, int64_t max) {
  const int64_t value = Take(GetInt(object_, key, fallback, name_), fallback, status_);
  if (value < min || value > max) Fail(absl::StrCat(key, " is ", value, ", expected ", min, " to ", max));
  return value;
}

int64_t JsonMembers::RequiredInt(const char* key, int64_t min, int64_t max) {
  if (!Has(key)) return Fail(absl::StrCat(key, " is missing")), min;
  return Int(key, min, min, max);
}

bool JsonMembers::Bool(const char* key, bool fallback) {
  if (const Json* value = FindMember(object_, key); value != nullptr && (*value == 0 || *value == 1))
    return *value == 1;
  return Take(GetBool(object_, key, fallback, name_), fallback, status_);
}

std::string JsonMembers::String(const char* key, std::string_view fallback) {
  return Take(GetString(object_, key, fallback, name_), std::string(fallback), status_);
}

float JsonMembers::Float(const char* key, float fallback, float min, float max, bool above_min) {
  const double value = Take(GetDouble(object_, key, fallback, name_), static_cast<double>(fallback), status_);
  const float rounded = static_cast<float>(value);
  if (!(rounded >= min && rounded <= max) || (above_min && !(rounded > min))) {
    Fail(absl::StrCat(key, " is ", value, ", expected ", above_min ? "more than " : "", min, " to ", max));
    return fallback;
  }
  return rounded;
}

std::vector<int64_t> JsonMembers::Ids(const char* key, size_t most) {
  const Json* value = FindMember(object_, key);
  std::vector<int64_t> ids;
  if (value == nullptr) return ids;
  const auto add = [&](const Json& item) {
    const std::optional<int64_t> id = AsInt(item);
    if (!id.has_value()) Fail(absl::StrCat(key, " is ", Excerpt(*value), ", expected token ids"));
    ids.push_back(id.value_or(-1));
  };
  if (!value->is_array()) {
    add(*value);
  } else if (value->size() > most) {
    Fail(absl::StrCat(key, " has ", value->size(), " ids, at most ", most));
  } else {
    for (const Json& item : *value) add(item);
  }
  return ids;
}

void JsonMembers::Fail(std::string_view what) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat(name_, ": ", ToAbsl(what)));
}

}  // namespace quantd
