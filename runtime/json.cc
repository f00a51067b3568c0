#include "runtime/json.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/printable.h"
#include "runtime/unsupported_checkpoint.h"

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

// Builds a document and stops at the first problem, so that what is no JSON or has a key twice is told by its place.
class DocumentReader : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return Put(nullptr); }
  bool boolean(bool value) override { return Put(value); }
  bool number_integer(number_integer_t value) override { return Put(value); }
  bool number_unsigned(number_unsigned_t value) override { return Put(value); }
  bool number_float(number_float_t value, const string_t&) override { return Put(value); }
  bool string(string_t& value) override { return Put(std::move(value)); }
  bool binary(binary_t&) override { return Put(nullptr); }  // not of JSON text
  bool start_object(size_t) override { return Open(Json::object()); }
  bool end_object() override { return open_.pop_back(), true; }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_array() override { return open_.pop_back(), true; }

  bool key(string_t& key) override {
    Level& level = open_.back();
    const auto [it, inserted] = level.value->get_ref<Json::object_t&>().emplace(key, nullptr);
    level.key = &it->first;
    member_ = &it->second;
    if (inserted) return true;
    open_.pop_back();  // the place is that of the object
    problem_ = absl::StrCat("key \"", Printable(key), "\" is there twice", Where());
    return false;
  }

  bool parse_error(size_t byte, const std::string&, const nlohmann::detail::exception& error) override {
    // A number beyond double is of JSON's form, and has no byte of its own.
    const bool form = dynamic_cast<const Json::parse_error*>(&error) != nullptr;
    problem_ = absl::StrCat(form ? absl::StrCat("no JSON at byte ", byte, ": ") : "", JsonProblem(error), Where());
    return false;
  }

  const std::string& problem() const { return problem_; }
  JsonDocument Take() { return std::move(document_); }

 private:
  struct Level {
    Json* value;                       // an object or an array
    const std::string* key = nullptr;  // of an object: the last one seen
  };

  Json* Attach(Json value) {
    if (open_.empty()) return &(*document_ = std::move(value));
    Json& parent = *open_.back().value;
    if (parent.is_object()) return &(*member_ = std::move(value));
    auto& items = parent.get_ref<Json::array_t&>();
    items.push_back(std::move(value));
    return &items.back();
  }
  bool Put(Json value) { return Attach(std::move(value)), true; }
  // What is open in an array stays where it is: the array grows again only once it is closed.
  bool Open(Json value) {
    Json* const attached = Attach(std::move(value));
    open_.push_back({attached});
    return true;
  }

  // " in model.vocab", empty at the top.
  std::string Where() const {
    std::string path;
    for (const Level& level : open_) {
      if (level.value->is_array()) {
        absl::StrAppend(&path, "[", std::max<size_t>(level.value->size(), 1) - 1, "]");
      } else if (level.key != nullptr) {
        absl::StrAppend(&path, path.empty() ? "" : ".", Printable(*level.key, 40));
      }
    }
    return path.empty() ? "" : absl::StrCat(" in ", path);
  }

  JsonDocument document_;
  std::vector<Level> open_;
  Json* member_ = nullptr;  // where the value of the last key goes
  std::string problem_;
};

// Empties what is nested, the deepest first. As deep as JsonLimits allow.
void Dissolve(Json& value) {
  if (auto* items = value.get_ptr<Json::array_t*>()) {
    for (Json& item : *items) Dissolve(item);
    items->clear();
  } else if (auto* members = value.get_ptr<Json::object_t*>()) {
    for (auto& [key, member] : *members) Dissolve(member);
    members->clear();
  }
}

std::string CutDump(const Json& value, size_t bytes) {
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > bytes) text = text.substr(0, bytes) + "...";
  return text;
}

absl::Status WrongKind(std::string_view name, std::string_view key, const Json& value, std::string_view expected) {
  return absl::DataLossError(
      absl::StrCat(ToAbsl(name), ": ", ToAbsl(key), " is ", Excerpt(value), ", expected ", ToAbsl(expected)));
}

}  // namespace

JsonDocument::~JsonDocument() { Dissolve(root_); }

absl::StatusOr<JsonDocument> ParseJson(std::string_view text, std::string_view name, JsonLimits limits) {
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
  DocumentReader reader;
  if (Json::sax_parse(text.begin(), text.end(), &reader)) return reader.Take();
  const std::string pointer = LfsPointerProblem(text);
  return absl::DataLossError(absl::StrCat(ToAbsl(name), ": ", pointer.empty() ? reader.problem() : pointer));
}

const Json* FindMember(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(std::string(key));
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

std::optional<int64_t> AsInt(const Json& value) {
  if (value.is_number_float()) {
    constexpr double kExact = 9007199254740992;  // 2^53
    const double number = value.get<double>();
    if (number != std::trunc(number) || std::abs(number) > kExact) return std::nullopt;
    return static_cast<int64_t>(number);
  }
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

bool HasNoEffect(const Json& value, double neutral) {
  if (value.is_null() || (value.is_boolean() && !value.get<bool>())) return true;
  if (value.is_number()) return value.get<double>() == neutral;
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  return (value.is_array() || value.is_object()) && value.empty();
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
  return CutDump(value, kBytes);
}

std::string Dumped(const Json& value) { return CutDump(value, 200); }

}  // namespace quantd
