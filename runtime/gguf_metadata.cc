#include "runtime/gguf_metadata.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/log.h"
#include "base/strings.h"

namespace quantd {

void GgufMetadata::FailUnlessAbsent(std::string_view key, std::string_view expected) {
  const auto it = values_.find(key);
  if (it == values_.end()) return;
  Fail(absl::StrCat(ToAbsl(key), " is of kind ", ToAbsl(KindName(it->second)), ", expected ", ToAbsl(expected)));
}

std::string GgufMetadata::String(std::string_view key, std::string_view fallback) {
  const std::string* value = Find<std::string>(key, "string");
  return value == nullptr ? std::string(fallback) : *value;
}

std::optional<int64_t> GgufMetadata::Int(std::string_view key, int64_t min, int64_t max) {
  const auto* each = Peek<std::vector<int64_t>>(key);
  const bool alike = each != nullptr && !each->empty() && std::ranges::count(*each, each->front()) == std::ssize(*each);
  if (each != nullptr && !alike) Fail(absl::StrCat(ToAbsl(key), " differs between layers, which is not supported"));
  const int64_t* value = alike ? &each->front() : each != nullptr ? nullptr : Find<int64_t>(key, "integer");
  if (value == nullptr) return std::nullopt;
  if (*value < min || *value > max) {
    Fail(absl::StrCat(ToAbsl(key), " is ", *value, ", expected ", min, " to ", max));
    return std::nullopt;
  }
  return *value;
}

int64_t GgufMetadata::RequiredInt(std::string_view key, int64_t min, int64_t max) {
  if (!Has(key)) Fail(absl::StrCat(ToAbsl(key), " is missing"));
  return Int(key, min, max).value_or(min);
}

std::optional<double> GgufMetadata::Float(std::string_view key) {
  if (const int64_t* whole = Peek<int64_t>(key)) return static_cast<double>(*whole);
  const double* value = Find<double>(key, "float");
  if (value == nullptr) return std::nullopt;
  // In JSON it would become null, and null the default.
  if (!std::isfinite(*value)) Fail(absl::StrCat(ToAbsl(key), " is ", *value, ", expected a finite number"));
  return *value;
}

std::optional<bool> GgufMetadata::Bool(std::string_view key) {
  const bool* value = Find<bool>(key, "boolean");
  return value == nullptr ? std::nullopt : std::optional(*value);
}

std::optional<int32_t> GgufMetadata::TokenId(std::string_view key, size_t tokens) {
  const int64_t* id = Find<int64_t>(key, "integer");
  if (id == nullptr) return std::nullopt;
  if (*id >= 0 && static_cast<size_t>(*id) < tokens) return static_cast<int32_t>(*id);
  LogWarning(absl::StrCat(ToAbsl(key), " is ", *id, ", but there are ", tokens, " tokens: it names none"));
  return std::nullopt;
}

void GgufMetadata::Fail(std::string_view what) {
  if (status_.ok()) status_ = absl::DataLossError(ToAbsl(what));
}

}  // namespace quantd
