// `quantd version`: what this binary is and what it will run on here.
#include "server/version.h"

#include <cstdio>

#include <google/protobuf/stubs/common.h>
#include <grpcpp/grpcpp.h>
#include <httplib.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "kernels/backend.h"
#include "server/cli/cli.h"

namespace quantd {
namespace {

int Run(bool json) {
  // The instruction sets that the cpu backend has, in rising order; a machine lacks what cannot be created.
  nlohmann::json available = nlohmann::json::array();
  for (const char* isa : {"portable", "avx2", "avx512"}) {
    if (CreateBackend("cpu", {.threads = 1, .dry_run = true, .isa = isa}).ok()) available.push_back(isa);
  }
  BackendOptions dry;
  dry.dry_run = true;
  absl::StatusOr<std::unique_ptr<Backend>> backend = CreateBackend("cpu", dry);
  const DeviceInfo device = backend.ok() ? (*backend)->device() : DeviceInfo{};
  const nlohmann::json all = {
      {"version", std::string(Version())},
      {"commit", std::string(Commit())},
      {"compiler", QUANTD_COMPILER},
      {"cpu",
       {{"name", device.name}, {"isa_available", available}, {"isa_in_use", device.isa}, {"threads", device.threads}}},
      {"libraries",
       {{"grpc", grpc::Version()},
        {"protobuf", google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION)},
        {"cpp-httplib", CPPHTTPLIB_VERSION},
        {"CLI11", CLI11_VERSION}}}};
  if (json) std::puts(all.dump(2).c_str());
  if (!backend.ok()) {
    PrintError(backend.status());
    return ExitCodeOf(backend.status());
  }
  if (json) return kExitOk;
  std::printf("quantd %s (%s)\ncompiler: %s\ncpu: %s; isa in use %s, available",
              all["version"].get<std::string>().c_str(), all["commit"].get<std::string>().c_str(),
              all["compiler"].get<std::string>().c_str(), device.name.c_str(), device.isa.c_str());
  for (const auto& isa : available) std::printf(" %s", isa.get<std::string>().c_str());
  std::printf("; %d threads\nlibraries:", device.threads);
  for (const auto& [name, version] : all["libraries"].items()) {
    std::printf(" %s %s", name.c_str(), version.get<std::string>().c_str());
  }
  std::puts("");
  return kExitOk;
}

}  // namespace

void AddVersion(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("version", "Version, commit, compiler, instruction sets, libraries")->group("This program");
  auto output = std::make_shared<std::string>("text");
  command->add_option("-o,--output", *output, "text or json")->check(CLI::IsMember({"text", "json"}));
  command->footer("Examples:\n  quantd version\n  QUANTD_CPU_ISA=portable quantd version -o json");
  command->callback([output, &exit_code] { exit_code = Run(*output == "json"); });
}

}  // namespace quantd
