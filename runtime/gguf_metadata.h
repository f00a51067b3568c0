// The metadata of a GGUF file, by key and kind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include <absl/status/status.h>

#include "runtime/gguf.h"

namespace quantd {

// The first value of a wrong kind or out of range is kept in `status`, a DataLoss that names the key, and lookups then
// return their fallback. `file` must outlive it.
class GgufMetadata {
 public:
  explicit GgufMetadata(const GgufFile& file) : values_(file.metadata) {}

  const absl::Status& status() const { return status_; }
  bool Has(std::string_view key) const { return values_.find(key) != values_.end(); }
  const std::map<std::string, GgufValue, std::less<>>& values() const { return values_; }

  // The value of `key`, null where there is none; `expected` is its kind for a message.
  template <typename T>
  const T* Find(std::string_view key, std::string_view expected) {
    const T* value = Peek<T>(key);
    if (value == nullptr) FailUnlessAbsent(key, expected);
    return value;
  }
  std::string String(std::string_view key, std::string_view fallback = "");
  // One number, or one for each layer where they are all the same.
  std::optional<int64_t> Int(std::string_view key, int64_t min, int64_t max);
  int64_t RequiredInt(std::string_view key, int64_t min, int64_t max);
  // Finite; a whole number too.
  std::optional<double> Float(std::string_view key);
  std::optional<bool> Bool(std::string_view key);
  // Published files say 4294967295 or the size of the vocabulary where there is no such token: a warning in the log.
  std::optional<int32_t> TokenId(std::string_view key, size_t tokens);
  void Fail(std::string_view what);

 private:
  template <typename T>
  const T* Peek(std::string_view key) const {
    const auto it = values_.find(key);
    return it == values_.end() ? nullptr : std::get_if<T>(&it->second.value);
  }
  void FailUnlessAbsent(std::string_view key, std::string_view expected);

  const std::map<std::string, GgufValue, std::less<>>& values_;
  absl::Status status_;
};

}  // namespace quantd
