// Reading the members of one JSON object, all of them first and the outcome once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/status.h>
#include <nlohmann/json_fwd.hpp>

namespace quantd {

// The first problem is kept in `status`, an InvalidArgument that names the file and the key, and later reads return
// their fallback. `object` must outlive it.
class JsonMembers {
 public:
  JsonMembers(const nlohmann::json& object, std::string name) : object_(object), name_(std::move(name)) {}

  const absl::Status& status() const { return status_; }
  const std::string& name() const { return name_; }
  bool Has(const char* key) const;  // and it is not null

  int64_t Int(const char* key, int64_t fallback, int64_t min, int64_t max);  // 32.0 is one too
  int64_t RequiredInt(const char* key, int64_t min, int64_t max);
  bool Bool(const char* key, bool fallback);  // 0 and 1 too, as other writers have it
  std::string String(const char* key, std::string_view fallback);
  // Finite as f32, in [min, max]; `above_min` excludes min itself.
  float Float(const char* key, float fallback, float min, float max, bool above_min = false);
  // An id or a list of at most `most` ids, as they stand there: any integers.
  std::vector<int64_t> Ids(const char* key, size_t most);
  void Fail(std::string_view what);

 private:
  const nlohmann::json& object_;
  std::string name_;
  absl::Status status_;
};

}  // namespace quantd
