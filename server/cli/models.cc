// `quantd models`: what a running daemon holds.
#include <cstdio>

#include <google/protobuf/util/json_util.h>
#include <CLI/CLI.hpp>

#include "base/strings.h"
#include "quantd/v1/models.grpc.pb.h"
#include "runtime/printable.h"
#include "server/cli/cli.h"
#include "server/cli/client.h"
#include "server/cli/table.h"
#include "server/options.h"

namespace quantd {
namespace {

struct ModelsFlags {
  ClientFlags client;
  std::string name, output = "text";
};

std::string State(const v1::Model& m) {
  switch (m.state()) {
    case v1::MODEL_STATE_LOADING:
      return m.progress().total_bytes() == 0
                 ? "loading"
                 : absl::StrCat("loading ", 100 * m.progress().done_bytes() / m.progress().total_bytes(), " %");
    case v1::MODEL_STATE_READY:
      return "ready";
    case v1::MODEL_STATE_DRAINING:
      return "draining";
    case v1::MODEL_STATE_FAILED:
      return "failed";
    default:
      return "?";
  }
}

void PrintTable(const v1::ListModelsResponse& response) {
  const auto bytes = [](uint64_t n) { return FormatBytes(static_cast<int64_t>(n)); };
  Table table({"NAME", "STATE", "SCHEME", "KV", "CONTEXT", "WEIGHTS", "KV CACHE", "WORKSPACE", "PEAK"});
  for (const v1::Model& m : response.models()) {
    const v1::QuantizationSpec& q = m.spec().quantization();
    table.Add({m.name(), State(m),
               !q.weights().empty()   ? q.weights()
               : !m.weights().empty() ? m.weights()
                                      : "as the checkpoint",
               q.kv_keys() == q.kv_values() ? q.kv_keys() : absl::StrCat(q.kv_keys(), "/", q.kv_values()),
               std::to_string(m.max_context()), bytes(m.memory().weights_bytes()), bytes(m.memory().kv_cache_bytes()),
               bytes(m.memory().workspace_bytes()), bytes(m.memory().peak_bytes())});
  }
  std::fputs(table.Text().c_str(), stdout);
  constexpr size_t kMaxText = 4096;
  for (const v1::Model& m : response.models()) {
    for (const std::string& fallback : m.fallbacks())
      std::printf("%s: fallback: %s\n", m.name().c_str(), Printable(fallback, kMaxText).c_str());
    if (!m.failure().empty()) std::printf("%s: %s\n", m.name().c_str(), Printable(m.failure(), kMaxText).c_str());
  }
}

int Run(const ModelsFlags& f) {
  auto stub = v1::Models::NewStub(f.client.Connect());
  v1::ListModelsResponse response;
  grpc::ClientContext context;
  grpc::Status status;
  if (f.name.empty()) {
    status = stub->ListModels(&context, v1::ListModelsRequest(), &response);
  } else {
    v1::GetModelRequest request;
    request.set_name(f.name);
    status = stub->GetModel(&context, request, response.add_models());
  }
  if (!status.ok()) {
    PrintError(status, f.client.address);
    return kExitRuntime;
  }
  if (f.output == "text") {
    PrintTable(response);
    return kExitOk;
  }
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(response, &json, options).ok()) return kExitInternal;
  WriteOut(json);
  return kExitOk;
}

}  // namespace

void AddModels(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("models", "List the models of a running daemon")->group("Ask a running daemon");
  auto f = std::make_shared<ModelsFlags>();
  f->client.AddAddressTo(*command);
  command->add_option("name", f->name, "One model; default: all")->type_name("NAME");
  command->add_option("-o,--output", f->output, "text or json")->check(CLI::IsMember({"text", "json"}));
  command->footer("Examples:\n  quantd models\n  quantd models llama -o json");
  command->callback([f, &exit_code] { exit_code = Run(*f); });
}

}  // namespace quantd
