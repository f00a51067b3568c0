#include "runtime/architecture.h"

#include "base/status_macros.h"
#include "runtime/json.h"

namespace quantd {

absl::StatusOr<std::string> ReadArchitecture(std::string_view config_json) {
  QD_ASSIGN_OR_RETURN(const Json config, ParseJson(config_json, "config.json"));
  if (const Json* names = FindMember(config, "architectures")) {
    if (names->is_array() && !names->empty() && names->front().is_string()) return names->front().get<std::string>();
  } else if (const Json* type = FindMember(config, "model_type"); type != nullptr && *type == "llama") {
    return std::string("LlamaForCausalLM");
  } else if (type != nullptr && *type == "mistral") {
    return std::string("MistralForCausalLM");
  }
  return absl::InvalidArgumentError(
      "config.json: neither \"architectures\" with a name in it nor model_type \"llama\" or \"mistral\"");
}

}  // namespace quantd
