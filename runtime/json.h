// The one place that includes nlohmann: parsing with bounds, and lookups that never throw. For `.cc` files only.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <absl/status/statusor.h>
#include <nlohmann/json.hpp>

namespace quantd {

using Json = nlohmann::json;

// A tree of values. To destroy it takes no memory, where nlohmann's own destructor allocates a list of an object's or
// array's values and ends the process if that fails. So each that is not empty belongs to one of these, and is built in
// place, from Json::object() and Json::array(): a null that becomes an object is broken where that finds no memory, and
// lists in braces are arrays for a while.
class JsonDocument {
 public:
  JsonDocument() = default;
  explicit JsonDocument(Json root) : root_(std::move(root)) {}
  JsonDocument(JsonDocument&& other) noexcept { root_.swap(other.root_); }
  JsonDocument& operator=(JsonDocument&& other) noexcept {
    root_.swap(other.root_);
    return *this;
  }
  ~JsonDocument();

  Json& operator*() { return root_; }
  const Json& operator*() const { return root_; }
  Json* operator->() { return &root_; }
  const Json* operator->() const { return &root_; }

 private:
  Json root_;
};

struct JsonLimits {
  size_t bytes = 64 << 20;
  int depth = 64;
  size_t values = 4 << 20;  // the largest published tokenizer.json have two million, most of them merges
};
// `name` is what messages call the text. DataLoss: no JSON (with the byte; NaN and Infinity are none), beyond `limits`,
// or a key that occurs twice in an object, wherever that lies (named with its place): readers differ in which of the
// two they take. A byte order mark before the text is skipped.
absl::StatusOr<JsonDocument> ParseJson(std::string_view text, std::string_view name, JsonLimits limits = {});

// The member `key` of `object`; null where `object` is no object or has no such member, or the member is null.
const Json* FindMember(const Json& object, std::string_view key);

// A member's value, `fallback` where it is absent or null. DataLoss: a value of another kind ("name: key is 7, expected
// a string"). An integer must lie in the range of int64.
absl::StatusOr<bool> GetBool(const Json& object, std::string_view key, bool fallback, std::string_view name);
absl::StatusOr<int64_t> GetInt(const Json& object, std::string_view key, int64_t fallback, std::string_view name);
absl::StatusOr<double> GetDouble(const Json& object, std::string_view key, double fallback, std::string_view name);
absl::StatusOr<std::string> GetString(const Json& object, std::string_view key, std::string_view fallback,
                                      std::string_view name);

// A whole number of the JSON text, 7 or 7.0; nothing where it is another kind, or beyond int64 (beyond 2^53 with a
// point).
std::optional<int64_t> AsInt(const Json& value);

// Where a key that is not built does nothing: null, false, `neutral`, or what is empty.
bool HasNoEffect(const Json& value, double neutral);

// What a library exception says, without its prefix and cut to some 200 bytes: it quotes the last token whole.
std::string JsonProblem(const std::exception& error);

// `value` as text for a message, cut to some 60 bytes; an array or an object by its size alone.
std::string Excerpt(const Json& value);
// `value` as JSON in ASCII, cut to some 200 bytes.
std::string Dumped(const Json& value);

}  // namespace quantd
