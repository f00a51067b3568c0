// The flags that say how a model is loaded, shared by serve and plan.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

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

// Fills `options` with what the file says ("" is none) and the flags over it. Gives an exit code, having said why on
// standard error where it is not kExitOk: a file with errors, a bad flag, no model.
int ReadModels(const std::string& config, const ModelFlags& flags, ServerOptions& options);

// Sets `field` to what `parse` makes of a flag's text, where it was given; names the flag in what `parse` complains of.
template <typename T, typename Parse>
absl::Status SetFrom(const std::optional<std::string>& text, const char* flag, Parse parse, T& field) {
  if (!text.has_value()) return absl::OkStatus();
  auto value = parse(std::string_view(*text));
  if (!value.ok()) return absl::InvalidArgumentError(absl::StrCat(flag, ": ", value.status().message()));
  field = *std::move(value);
  return absl::OkStatus();
}

}  // namespace quantd
