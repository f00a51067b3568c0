// The architecture a config.json names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>
#include <nlohmann/json_fwd.hpp>

namespace quantd {

// What "architectures" names: a list, or one text; an item that is no text as "". Empty where it names nothing, which
// then model_type does.
std::vector<std::string> ArchitectureNames(const nlohmann::json& config);

// The first of "architectures"; where that names none what model_type stands for, as transformers' AutoModelForCausalLM
// has it. DataLoss: no JSON. InvalidArgument: neither names one.
absl::StatusOr<std::string> ReadArchitecture(std::string_view config_json);

}  // namespace quantd
