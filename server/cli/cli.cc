#include "server/cli/cli.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>

#include <CLI/CLI.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "server/config.h"
#include "server/library_logs.h"
#include "server/status.h"
#include "server/version.h"

namespace quantd {
namespace {

void PrintError(const std::string& code, const std::string& reason, const std::string& message) {
  const bool repeats = reason.empty() || reason == code;
  std::fprintf(stderr, "error: %s%s%s: %s\n", code.c_str(), repeats ? "" : " ", repeats ? "" : reason.c_str(),
               message.empty() ? "(no message)" : message.c_str());
}

// Says where `word` is no command, with the one that was probably meant.
bool RefuseUnknownCommand(const CLI::App& app, const std::string& word) {
  if (word.empty() || word[0] == '-') return false;
  std::vector<std::string_view> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  if (std::find(names.begin(), names.end(), word) != names.end()) return false;
  const std::string near(Nearest(word, names));
  std::fprintf(stderr, "error: unknown command \"%s\"%s\nRun with --help for more information.\n", word.c_str(),
               near.empty() ? "" : ("; did you mean \"" + near + "\"?").c_str());
  return true;
}

void PrintWriteError() { std::fprintf(stderr, "error: cannot write to standard output: %s\n", std::strerror(errno)); }

}  // namespace

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  if (ReasonOf(status) == "BIND_FAILED") return kExitBind;
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
      return kExitResources;
    case absl::StatusCode::kInvalidArgument:  // a setting of ours, or a model that makes no sense
      return GetField(status).empty() ? kExitModel : kExitConfig;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kFailedPrecondition:
      return kExitModel;
    default:
      return kExitRuntime;
  }
}

void PrintError(const absl::Status& status) {
  PrintError(CodeName(status.code()), ReasonOf(status), std::string(status.message()));
}

void PrintUsageError(const absl::Status& status) {
  std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
}

void PrintError(const grpc::Status& status, const std::string& address) {
  const ErrorDetails details = ReadDetails(status);
  PrintError(CodeName(static_cast<absl::StatusCode>(status.error_code())), details.reason, status.error_message());
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && details.reason.empty()) {  // gRPC's own: nobody answered
    std::fprintf(stderr, "is `quantd serve` running at %s?\n", address.c_str());
  }
  if (details.retry_after.has_value()) std::fprintf(stderr, "try again in %.1f s\n", ToSeconds(*details.retry_after));
}

void WriteOut(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return;
  PrintWriteError();
  _exit(kExitRuntime);
}

int Main(int argc, char** argv) {
  // Whoever started this may ignore it. A closed pipe ends a client command, and with it what the daemon does for it.
  std::signal(SIGPIPE, SIG_DFL);
  TakeLibraryLogs();
  CLI::App app{"quantd serves quantized language models over gRPC.", "quantd"};
  app.require_subcommand(1);
  app.set_version_flag("-V,--version", std::string(Version()));
  app.footer(
      "Examples:\n"
      "  quantd serve --model ./SmolLM2-135M-Instruct.Q4_1.gguf\n"
      "  quantd chat \"What is a KV cache?\"\n"
      "  quantd plan --model ./Llama-3.2-1B --quantize int8_weight_only\n\n"
      "Exit codes: 0 ok, 1 failed while running, 2 usage, 3 configuration, 4 model invalid, 5 resources, 6 cannot "
      "listen, 130 interrupted.\n"
      "`quantd COMMAND --help` says more.");
  int exit_code = kExitOk;
  AddServe(app, exit_code);
  AddGenerate(app, exit_code);
  AddChat(app, exit_code);
  AddModels(app, exit_code);
  AddPlan(app, exit_code);
  AddVersion(app, exit_code);
  if (argc > 1 && RefuseUnknownCommand(app, argv[1])) return kExitUsage;
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {  // also what --help and --version throw
    exit_code = app.exit(e) == 0 ? kExitOk : kExitUsage;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return kExitRuntime;
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    PrintWriteError();
    return exit_code == kExitOk ? kExitRuntime : exit_code;
  }
  return exit_code;
}

}  // namespace quantd
