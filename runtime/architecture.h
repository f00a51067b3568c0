// The architecture a config.json names.
#pragma once

#include <string>
#include <string_view>

#include <absl/status/statusor.h>

namespace quantd {

// The first of "architectures"; without that member what model_type stands for, as transformers' AutoModelForCausalLM
// has it. DataLoss: no JSON. InvalidArgument: neither names one.
absl::StatusOr<std::string> ReadArchitecture(std::string_view config_json);

}  // namespace quantd
