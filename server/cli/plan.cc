// `quantd plan`: what a load would take, without loading: the real loader and the largest step in a dry run.
#include <algorithm>
#include <cstdio>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "server/cli/cli.h"
#include "server/cli/model_flags.h"
#include "server/cli/table.h"
#include "server/convert.h"

namespace quantd {
namespace {

struct PlanFlags {
  std::string config;
  ModelFlags model;
  std::string output = "text";
  bool verbose = false;
};

std::string Shape(const LayerReport& layer) { return absl::StrCat(layer.n, "x", layer.k); }

// "--kv-cache-bytes 512MiB"
std::string FlagOf(const WayToFit& way) {
  std::string flag = absl::StrCat("--", way.setting, " ", way.value);
  std::replace(flag.begin(), flag.begin() + static_cast<std::ptrdiff_t>(way.setting.size() + 2), '_', '-');
  return flag;
}

void PrintText(const ModelOptions& model, const MemoryPlan& plan, const v1::MemoryPlan& proto, int64_t taken,
               bool verbose) {
  std::printf("%s: %s\n", model.name.c_str(), model.spec.path.c_str());
  Table table({"COMPONENT", "BYTES", ""});
  for (int c = 0; c < kNumMemoryComponents; ++c) {
    const int64_t bytes = plan.use.bytes[static_cast<size_t>(c)];
    table.Add({std::string(Name(static_cast<MemoryComponent>(c))), std::to_string(bytes), FormatBytes(bytes)});
  }
  table.Add({"total", std::to_string(plan.use.total()), FormatBytes(plan.use.total())});
  table.Add({"budget", std::to_string(proto.budget_bytes()), FormatBytes(static_cast<int64_t>(proto.budget_bytes()))});
  if (taken > 0) table.Add({"taken by the models above", std::to_string(taken), FormatBytes(taken)});
  std::fputs(table.Text().c_str(), stdout);
  std::printf("%s; %lld parameters; %s of KV cache a token; %llu tokens cached at most, %u sequence%s at %lld tokens\n",
              proto.fits() ? "fits" : "DOES NOT FIT", static_cast<long long>(plan.parameters),
              FormatBytes(plan.kv_bytes_per_token).c_str(), static_cast<unsigned long long>(proto.max_cached_tokens()),
              proto.concurrent_at_max_context(), proto.concurrent_at_max_context() == 1 ? "" : "s",
              static_cast<long long>(plan.max_context));
  if (plan.max_context < plan.model_context) {
    std::printf("%s\n", ContextNote(plan.max_context, plan.model_context).c_str());
  }
  for (const std::string& line : Fallbacks(plan.layers)) std::printf("fallback: %s\n", line.c_str());
  for (const WayToFit& way : plan.ways_to_fit) {
    std::printf("would fit with %s: %s\n", FlagOf(way).c_str(), FormatBytes(way.total_bytes).c_str());
  }
  if (!proto.fits() && plan.ways_to_fit.empty()) {
    std::puts("no flag makes it fit; a larger --memory-budget or another machine does");
  }
  for (const std::string& line : plan.warnings) std::printf("warning: %s\n", line.c_str());
  if (!verbose) return;
  Table layers({"LAYER", "SHAPE", "SCHEME", "BYTES", "OF BF16", "KERNEL", "REASON"});
  for (const LayerReport& l : plan.layers) {
    const int64_t percent = l.bf16_bytes > 0 ? 100 * l.bytes / l.bf16_bytes : 0;
    layers.Add({l.name, Shape(l), l.scheme, std::to_string(l.bytes), absl::StrCat(percent, " %"), l.kernel, l.reason});
  }
  std::fputs(layers.Text().c_str(), stdout);
}

nlohmann::json ToJson(const ModelOptions& model, const MemoryPlan& plan, const v1::MemoryPlan& proto) {
  // 64-bit numbers are strings, as protobuf's JSON has them: many readers have doubles only.
  const auto wide = [](auto number) { return std::to_string(number); };
  nlohmann::json layers = nlohmann::json::array();
  for (const LayerReport& l : plan.layers) {
    layers.push_back({{"name", l.name},
                      {"shape", {wide(l.n), wide(l.k)}},
                      {"scheme", l.scheme},
                      {"bytes", wide(l.bytes)},
                      {"bf16_bytes", wide(l.bf16_bytes)},
                      {"kernel", l.kernel},
                      {"reason", l.reason}});
  }
  nlohmann::json use;
  for (int c = 0; c < kNumMemoryComponents; ++c) {
    use[std::string(Name(static_cast<MemoryComponent>(c)))] = wide(plan.use.bytes[static_cast<size_t>(c)]);
  }
  nlohmann::json ways = nlohmann::json::array();
  for (const WayToFit& way : plan.ways_to_fit) {
    ways.push_back({{"setting", way.setting}, {"value", way.value}, {"total_bytes", wide(way.total_bytes)}});
  }
  return {{"name", model.name},
          {"path", model.spec.path},
          {"fits", proto.fits()},
          {"bytes", use},
          {"total_bytes", wide(plan.use.total())},
          {"budget_bytes", wide(proto.budget_bytes())},
          {"kv_bytes_per_token", wide(plan.kv_bytes_per_token)},
          {"kv_blocks", wide(plan.kv_blocks)},
          {"max_context", plan.max_context},
          {"model_context", plan.model_context},
          {"max_cached_tokens", wide(proto.max_cached_tokens())},
          {"concurrent_at_max_context", proto.concurrent_at_max_context()},
          {"parameters", wide(plan.parameters)},
          {"fallbacks", Fallbacks(plan.layers)},
          {"warnings", plan.warnings},
          {"ways_to_fit", ways},
          {"layers", layers}};
}

int Run(const PlanFlags& f) {
  ServerOptions options;
  if (const int code = ReadModels(f.config, f.model, options); code != kExitOk) return code;
  ModelRegistry::Hooks hooks;
  hooks.make_observer = [](const std::string&) { return nullptr; };  // nothing is loaded
  hooks.on_change = [](const ModelInfo&) {};
  absl::StatusOr<std::unique_ptr<ModelRegistry>> registry = ModelRegistry::Create(options.registry, std::move(hooks));
  if (!registry.ok()) {
    PrintError(registry.status());
    return ExitCodeOf(registry.status());
  }
  nlohmann::json all = nlohmann::json::array();
  int64_t planned = 0;
  bool fits = true;
  for (const ModelOptions& model : options.models) {
    absl::StatusOr<MemoryPlan> plan = (*registry)->Plan(model.spec, planned);
    if (!plan.ok()) {
      if (options.models.size() > 1) std::fprintf(stderr, "model %s:\n", model.name.c_str());
      PrintError(plan.status());
      return ExitCodeOf(plan.status());
    }
    v1::MemoryPlan proto;
    FillMemoryPlan(*plan, (*registry)->memory_budget_bytes(), planned, proto);
    fits = fits && proto.fits();
    if (f.output == "json") {
      all.push_back(ToJson(model, *plan, proto));
    } else {
      PrintText(model, *plan, proto, planned, f.verbose);
    }
    planned += plan->use.total();
  }
  if (f.output == "json") {
    const nlohmann::json told = {{"fits", fits}, {"plans", all}};
    std::puts(told.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  }
  return fits ? kExitOk : kExitResources;
}

}  // namespace

void AddPlan(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("plan", "Say what a load would take, without loading")->group("Serve");
  auto f = std::make_shared<PlanFlags>();
  command->add_option("--config", f->config, "YAML file of quantd serve; flags override it")->type_name("FILE");
  f->model.AddTo(*command, /*for_serving=*/false);
  command->add_flag("-v,--verbose", f->verbose, "Every layer: scheme, bytes, kernel, reason");
  command->add_option("-o,--output", f->output, "text or json")->check(CLI::IsMember({"text", "json"}));
  command->footer(
      "Examples:\n"
      "  quantd plan ./Llama-3.2-1B --quantize int4_weight_only,group_size=64 --kv-cache-dtype int8\n"
      "  quantd plan ./SmolLM2-135M-Instruct.Q4_1.gguf --verbose\n"
      "  quantd plan --config quantd.yaml\n\n"
      "Exits 5 where it does not fit.");
  command->callback([f, &exit_code] { exit_code = Run(*f); });
}

}  // namespace quantd
