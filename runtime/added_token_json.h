// An added token as JSON writes it, in tokenizer.json and in tokenizer_config.json.
#pragma once

#include <string_view>

#include <absl/status/statusor.h>
#include <nlohmann/json_fwd.hpp>

#include "runtime/added_tokens.h"

namespace quantd {

// All but the id. DataLoss: no object, or a member of another kind; `place` is what messages call it.
absl::StatusOr<AddedToken> ParseAddedToken(const nlohmann::json& json, std::string_view place);

}  // namespace quantd
