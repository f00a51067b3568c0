#include "server/cli/model_flags.h"

#include <cstdio>

#include <CLI/CLI.hpp>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/printable.h"
#include "server/cli/cli.h"
#include "server/config.h"

namespace quantd {

void ModelFlags::AddTo(CLI::App& app, bool for_serving) {
  app.add_option("model,-m,--model", models, "A GGUF file or a Hugging Face folder (repeatable)")
      ->type_name("[NAME=]PATH")
      ->group("Models");
  app.add_option("--quantize", quantize,
                 "Scheme of the weights (bf16, int8_weight_only, int4_weight_only[,group_size=64],\n"
                 "int8_dynamic_activation_int8_weight); default: as the checkpoint is")
      ->type_name("SCHEME")
      ->group("Models");
  app.add_option("--kv-cache-dtype", kv_cache_dtype, "f32, bf16 or int8; default bf16")
      ->type_name("DTYPE")
      ->group("Models");
  app.add_option("--kv-cache-bytes", kv_cache_bytes,
                 "Size of the KV cache (64MiB); default: max-sequences at max-context, at most 1GiB")
      ->type_name("SIZE")
      ->group("Models");
  app.add_option("--activations", activations, "f32 or bf16; default f32")->type_name("DTYPE")->group("Models");
  app.add_option("--max-context", max_context, "Tokens of prompt and output together, at least 2; default: the model's")
      ->type_name("TOKENS")
      ->group("Models");
  app.add_option("--max-sequences", max_sequences, "Sequences in one step; default 16")
      ->type_name("N")
      ->group("Models");
  app.add_option("--max-batch-tokens", max_batch_tokens, "Tokens of one step; default 512")
      ->type_name("N")
      ->group("Models");
  if (for_serving) {
    app.add_option("--max-waiting-requests", max_waiting_requests, "Queue bound; default 256")
        ->type_name("N")
        ->group("Models");
    app.add_option("--max-waiting-tokens", max_waiting_tokens, "Queue bound in prompt tokens; default 262144")
        ->type_name("N")
        ->group("Models");
  }
  app.add_option("--backend", backend, "cpu or reference; default cpu")->type_name("NAME")->group("Machine");
  app.add_option("-t,--threads", threads, "Default: as many as affinity and cgroup allow")
      ->type_name("N")
      ->group("Machine");
  app.add_option("--memory-budget", memory_budget, "Default: 90 % of what the machine or cgroup allows")
      ->type_name("SIZE")
      ->group("Machine");
}

namespace {

absl::Status SetInteger(const std::optional<int64_t>& given, const char* flag, int64_t low, int64_t high,
                        int64_t& field) {
  if (!given.has_value()) return absl::OkStatus();
  if (*given < low || *given > high) {
    return absl::InvalidArgumentError(absl::StrCat(flag, ": is ", *given, ", expected ", low, " to ", high));
  }
  field = *given;
  return absl::OkStatus();
}

absl::Status ApplyToModel(const ModelFlags& f, ModelOptions& model) {
  LoadSpec& spec = model.spec;
  if (f.quantize.has_value()) {
    QuantScheme checked;
    QD_RETURN_IF_ERROR(SetFrom(f.quantize, "--quantize", ParseQuantScheme, checked));
    spec.weights = *f.quantize;
  }
  QD_RETURN_IF_ERROR(SetFrom(f.kv_cache_dtype, "--kv-cache-dtype", ParseKvFormat, spec.keys));
  if (f.kv_cache_dtype.has_value()) spec.values = spec.keys;
  QD_RETURN_IF_ERROR(SetFrom(f.kv_cache_bytes, "--kv-cache-bytes", ParseBytes, spec.kv_cache_bytes));
  QD_RETURN_IF_ERROR(SetFrom(f.activations, "--activations", ParseActivations, spec.activations));
  QD_RETURN_IF_ERROR(SetInteger(f.max_context, "--max-context", kMinContext, kMaxContext, spec.max_context));
  QD_RETURN_IF_ERROR(SetInteger(f.max_sequences, "--max-sequences", 1, 4096, spec.max_sequences));
  QD_RETURN_IF_ERROR(SetInteger(f.max_batch_tokens, "--max-batch-tokens", 1, 65536, spec.max_batch_tokens));
  QD_RETURN_IF_ERROR(
      SetInteger(f.max_waiting_requests, "--max-waiting-requests", 1, 1 << 20, model.queue.max_waiting_requests));
  return SetInteger(f.max_waiting_tokens, "--max-waiting-tokens", 1, int64_t{1} << 40, model.queue.max_waiting_tokens);
}

}  // namespace

absl::Status ModelFlags::Apply(ServerOptions& options) const {
  for (const std::string& text : models) {
    // A '=' after a slash belongs to the path.
    const size_t equals = text.find('=');
    const bool named = equals != std::string::npos && equals < text.find('/');
    ModelOptions model;
    model.spec.path = named ? text.substr(equals + 1) : text;
    model.name = named ? text.substr(0, equals) : DefaultModelName(text);
    if (model.spec.path.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--model: \"", Printable(text), "\" names no path, expected PATH or NAME=PATH"));
    }
    QD_RETURN_IF_ERROR(CheckModelPath(model.spec.path));
    QD_RETURN_IF_ERROR(CheckModelName(model.name));
    for (const ModelOptions& other : options.models) {
      if (other.name == model.name) {
        return absl::InvalidArgumentError(
            absl::StrCat("--model: two models are named \"", model.name, "\"; NAME=PATH gives another name"));
      }
    }
    options.models.push_back(std::move(model));
  }
  for (ModelOptions& model : options.models) QD_RETURN_IF_ERROR(ApplyToModel(*this, model));
  QD_RETURN_IF_ERROR(SetFrom(backend, "--backend", ParseBackend, options.registry.backend));
  QD_RETURN_IF_ERROR(SetFrom(memory_budget, "--memory-budget", ParseBytes, options.registry.memory_budget_bytes));
  int64_t n = options.registry.backend_options.threads;
  QD_RETURN_IF_ERROR(SetInteger(threads, "--threads", 0, 1024, n));
  options.registry.backend_options.threads = static_cast<int>(n);
  return absl::OkStatus();
}

int ReadModels(const std::string& config, const ModelFlags& flags, ServerOptions& options) {
  if (!config.empty()) {
    const std::vector<std::string> errors = ReadConfig(config, options);
    for (const std::string& error : errors) std::fprintf(stderr, "error: %s\n", error.c_str());
    if (!errors.empty()) return kExitConfig;
  }
  if (absl::Status status = flags.Apply(options); !status.ok()) {
    PrintUsageError(status);
    return kExitUsage;
  }
  if (!options.models.empty()) return kExitOk;
  if (config.empty()) {
    std::fputs("error: no model: give the path of one, or --config FILE with models\n", stderr);
    return kExitUsage;
  }
  std::fprintf(stderr, "error: %s: names no models, and no path of one is given\n", config.c_str());
  return kExitConfig;
}

}  // namespace quantd
