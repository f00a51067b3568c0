// One step of a normalizer, pre-tokenizer, decoder or post-processor in tokenizer.json, with its place for messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>
#include <nlohmann/json_fwd.hpp>

#include "base/strings.h"
#include "runtime/normalizer.h"

namespace quantd {

struct JsonStep {
  const nlohmann::json* json;
  std::string place;  // "tokenizer.json: normalizer.normalizers[2]"

  absl::StatusOr<std::string> Type() const { return Text("type"); }
  // Absent: empty, the fallback. DataLoss: a value of another kind.
  absl::StatusOr<std::string> Text(std::string_view key) const;
  absl::StatusOr<bool> Flag(std::string_view key, bool fallback) const;
  absl::StatusOr<int64_t> Int(std::string_view key, int64_t fallback) const;

  template <typename... Words>
  absl::Status Corrupt(const Words&... what) const {
    return absl::DataLossError(absl::StrCat(place, ": ", what...));
  }
  template <typename... Words>
  absl::Status NotBuilt(const Words&... what) const {
    return absl::UnimplementedError(absl::StrCat(place, ": ", what..., " is not supported"));
  }
  // `type` as this step has it.
  absl::Status NotBuiltType(std::string_view type) const;
};

// The steps of `root`, which may be null: its own, or those of a Sequence under `list_key`, nested ones too. DataLoss:
// more than any published file has, nested deeper.
absl::StatusOr<std::vector<JsonStep>> FlattenSteps(const nlohmann::json* root, const char* list_key, std::string place);

// How many times the bytes of a text its steps of fixed texts make of it, all together.
class Growth {
 public:
  // A step that makes up to `to` bytes of every `from` bytes. DataLoss: they may make more than kMaxTextGrowth times.
  absl::Status Add(size_t from, size_t to, const JsonStep& step);

 private:
  double factor_ = 1;
};

// Replace with a String pattern.
absl::StatusOr<ReplaceStep> ReadReplace(const JsonStep& step, Growth& growth);

}  // namespace quantd
