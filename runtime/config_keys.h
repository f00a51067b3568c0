// The keys of a config.json beside those that LlamaConfig reads: which are without effect, which are not supported.
#pragma once

#include <string>
#include <vector>

#include <absl/status/status.h>
#include <nlohmann/json_fwd.hpp>

namespace quantd {

// Unimplemented: a key that changes what the model computes in the families that have it (named, with its value),
// unless the value is the one that does nothing. A warning names the keys that nobody knows.
absl::Status CheckConfigKeys(const nlohmann::json& config, int64_t head_dim, std::vector<std::string>& warnings);

}  // namespace quantd
