#include "runtime/json.h"

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

// Checked before parsing: a value costs nlohmann some 80 bytes, which may be 40 for each byte of text, and a level of
// depth a frame of the stack. What is no JSON need not be counted right.
absl::Status CheckSize(std::string_view text, const JsonLimits& limits) {
  int depth = 0;
  size_t values = 1;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      ++values;
      if (++depth > limits.depth) {
        return absl::DataLossError(absl::StrCat("nested deeper than ", limits.depth, " levels"));
      }
    } else if (c == ']' || c == '}') {
      --depth;
    } else if (c == ',') {
      ++values;
    }
  }
  if (values <= limits.values) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(values, " values, at most ", limits.values));
}

absl::Status WrongKind(std::string_view name, std::string_view key, const Json& value, std::string_view expected) {
  return absl::DataLossError(
      absl::StrCat(ToAbsl(name), ": ", ToAbsl(key), " is ", Excerpt(value), ", expected ", ToAbsl(expected)));
}

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view text, std::string_view name, JsonLimits limits) {
  if (text.size() > limits.bytes) {
    return absl::DataLossError(absl::StrCat(ToAbsl(name), ": ", text.size(), " bytes of JSON, at most ", limits.bytes));
  }
  // nlohmann takes a NUL for the end of the text.
  if (const size_t nul = text.find('\0'); nul != text.npos) {
    return absl::DataLossError(absl::StrCat(ToAbsl(name), ": no JSON at byte ", nul + 1, ": a NUL"));
  }
  if (const absl::Status status = CheckSize(text, limits); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(ToAbsl(name), ": ", status.message()));
  }
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const Json::parse_error& error) {
    return absl::DataLossError(absl::StrCat(ToAbsl(name), ": no JSON at byte ", error.byte, ": ", JsonProblem(error)));
  } catch (const std::exception& error) {  // a number beyond double: out_of_range
    return absl::DataLossError(absl::StrCat(ToAbsl(name), ": ", JsonProblem(error)));
  }
}

const Json* FindMember(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(std::string(key));
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

std::optional<int64_t> AsInt(const Json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return value.get<int64_t>();
}

absl::StatusOr<bool> GetBool(const Json& object, std::string_view key, bool fallback, std::string_view name) {
  const Json* value = FindMember(object, key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return WrongKind(name, key, *value, "true or false");
  return value->get<bool>();
}

absl::StatusOr<int64_t> GetInt(const Json& object, std::string_view key, int64_t fallback, std::string_view name) {
  const Json* value = FindMember(object, key);
  if (value == nullptr) return fallback;
  const std::optional<int64_t> number = AsInt(*value);
  if (!number) return WrongKind(name, key, *value, "an integer");
  return *number;
}

absl::StatusOr<double> GetDouble(const Json& object, std::string_view key, double fallback, std::string_view name) {
  const Json* value = FindMember(object, key);
  if (value == nullptr) return fallback;
  if (!value->is_number()) return WrongKind(name, key, *value, "a number");
  return value->get<double>();
}

absl::StatusOr<std::string> GetString(const Json& object, std::string_view key, std::string_view fallback,
                                      std::string_view name) {
  const Json* value = FindMember(object, key);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string()) return WrongKind(name, key, *value, "a string");
  return value->get<std::string>();
}

std::string JsonProblem(const std::exception& error) {
  constexpr size_t kBytes = 200;
  std::string_view what = error.what();
  if (const size_t prefix = what.find("] "); what.starts_with("[json.exception.") && prefix != what.npos) {
    what.remove_prefix(prefix + 2);
  }
  return Printable(what, kBytes);
}

std::string Excerpt(const Json& value) {
  constexpr size_t kBytes = 60;
  if (value.is_array()) return absl::StrCat("an array of ", value.size());
  if (value.is_object()) return absl::StrCat("an object of ", value.size());
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > kBytes) text = text.substr(0, kBytes) + "...";
  return text;
}

}  // namespace quantd
