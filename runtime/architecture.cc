#include "runtime/architecture.h"

#include <nlohmann/json.hpp>

namespace quantd {

absl::StatusOr<std::string> ReadArchitecture(std::string_view config_json) {
  nlohmann::json config = nlohmann::json::parse(config_json, nullptr, /*allow_exceptions=*/false);
  if (config.is_object()) {
    auto it = config.find("architectures");
    if (it != config.end() && it->is_array() && !it->empty() && it->front().is_string()) return it->front().get<std::string>();
  }
  return absl::InvalidArgumentError("config.json: no \"architectures\" with a name in it");
}

}  // namespace quantd
