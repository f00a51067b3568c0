#include "server/cli/cli.h"

#include <csignal>
#include <cstdio>
#include <exception>

#include <CLI/CLI.hpp>

#include "base/clock.h"
#include "server/status.h"
#include "server/version.h"

namespace quantd {

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  if (ReasonOf(status) == "BIND_FAILED") return kExitBind;
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
      return kExitResources;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kFailedPrecondition:
      return kExitModel;
    default:
      return kExitRuntime;
  }
}

void PrintError(const absl::Status& status) {
  std::fprintf(stderr, "error: %s %s: %s\n", CodeName(status.code()).c_str(), ReasonOf(status).c_str(),
               std::string(status.message()).c_str());
}

void PrintError(const grpc::Status& status) {
  const ErrorDetails details = ReadDetails(status);
  const std::string code = CodeName(static_cast<absl::StatusCode>(status.error_code()));
  std::fprintf(stderr, "error: %s%s%s: %s\n", code.c_str(), details.reason.empty() ? "" : " ", details.reason.c_str(),
               status.error_message().empty() ? "(no message)" : status.error_message().c_str());
  if (details.retry_after.has_value()) std::fprintf(stderr, "try again in %.1f s\n", ToSeconds(*details.retry_after));
}

int Main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a client that goes away is an error of its stream, not of the process
  CLI::App app{"quantd serves quantized language models over gRPC.", "quantd"};
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string(Version()));
  app.footer(
      "Examples:\n"
      "  quantd serve --model ./SmolLM2-135M-Instruct.Q4_1.gguf\n"
      "  quantd chat \"What is a KV cache?\"\n"
      "  quantd plan --model ./Llama-3.2-1B --quantize int8_weight_only\n\n"
      "Exit codes: 0 ok, 1 failed while running, 2 usage, 3 configuration, 4 model invalid, 5 resources, 6 cannot "
      "listen.\n"
      "`quantd COMMAND --help` says more.");
  int exit_code = kExitOk;
  AddServe(app, exit_code);
  AddGenerate(app, exit_code);
  AddChat(app, exit_code);
  AddModels(app, exit_code);
  AddPlan(app, exit_code);
  AddVersion(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {  // also what --help and --version throw
    return app.exit(e) == 0 ? kExitOk : kExitUsage;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return kExitRuntime;
  }
  return exit_code;
}

}  // namespace quantd
