// tokenizer.json as a value, for readers of older files that mean the same.
#pragma once

#include <memory>
#include <string_view>

#include <absl/status/statusor.h>
#include <nlohmann/json_fwd.hpp>

#include "runtime/tokenizer.h"
#include "runtime/tokenizer_config.h"

namespace quantd {

// What around a text is: tokenizer.json says it itself, older files leave it to add_bos_token and add_eos_token.
enum class AroundText { kPostProcessor, kConfigFlags };

// `file` is what messages call it.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizerOfJson(const nlohmann::json& json, std::string_view file,
                                                               const TokenizerConfig& config, AroundText around);

}  // namespace quantd
