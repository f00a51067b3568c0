#include "runtime/architecture.h"

#include "base/status_macros.h"
#include "runtime/json.h"

namespace quantd {

std::vector<std::string> ArchitectureNames(const Json& config) {
  const Json* names = FindMember(config, "architectures");
  if (names == nullptr) return {};
  if (names->is_string()) return {names->get<std::string>()};
  std::vector<std::string> texts;
  if (!names->is_array()) return texts;
  for (const Json& name : *names) texts.push_back(name.is_string() ? name.get<std::string>() : "");
  return texts;
}

absl::StatusOr<std::string> ReadArchitecture(std::string_view config_json) {
  QD_ASSIGN_OR_RETURN(const JsonDocument document, ParseJson(config_json, "config.json"));
  const Json& config = *document;
  const std::vector<std::string> names = ArchitectureNames(config);
  if (!names.empty() && !names.front().empty()) return names.front();
  if (names.empty()) {
    const Json* type = FindMember(config, "model_type");
    if (type != nullptr && *type == "llama") return std::string("LlamaForCausalLM");
    if (type != nullptr && *type == "mistral") return std::string("MistralForCausalLM");
  }
  return absl::InvalidArgumentError(
      "config.json: neither \"architectures\" with a name in it nor model_type \"llama\" or \"mistral\"");
}

}  // namespace quantd
