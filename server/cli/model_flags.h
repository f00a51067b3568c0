// The flags that say how a model is loaded, shared by serve and plan.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <absl/status/status.h>

#include "server/options.h"

namespace CLI {
class App;
}

namespace quantd {

struct ModelFlags {
  std::vector<std::string> models;  // [NAME=]PATH
  std::optional<std::string> quantize, kv_cache_dtype, kv_cache_bytes, activations, backend, memory_budget;
  std::optional<int64_t> max_context, max_sequences, max_batch_tokens, max_waiting_requests, max_waiting_tokens,
      threads;

  void AddTo(CLI::App& app, bool for_serving);
  // Adds the models, then sets what was given on every model of `options`: flags override the file.
  absl::Status Apply(ServerOptions& options) const;
};

}  // namespace quantd
