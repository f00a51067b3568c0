#include "server/cli/cli.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <latch>
#include <span>
#include <system_error>
#include <thread>
#include <vector>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>

#include <CLI/CLI.hpp>

#include "base/allocation_failure.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/strings.h"
#include "runtime/printable.h"
#include "server/cli/environment.h"
#include "server/cli/standard_descriptors.h"
#include "server/cli/suggest.h"
#include "server/library_logs.h"
#include "server/status.h"
#include "server/version.h"

namespace quantd {
namespace {

// A line of a message as it may go to a terminal; a message may have several.
std::string Shown(std::string_view message) {
  constexpr size_t kMaxLine = 4096;
  std::string shown;
  while (true) {
    const size_t end = message.find('\n');
    shown += Printable(message.substr(0, end), kMaxLine);
    if (end == std::string_view::npos) return shown;
    shown += '\n';
    message.remove_prefix(end + 1);
  }
}

void PrintError(absl::StatusCode code, const std::string& reason, const std::string& message) {
  std::fprintf(stderr, "error: %s: %s\n", Shown(CodeAndReason(code, reason)).c_str(),
               message.empty() ? "(no message)" : Shown(message).c_str());
}

void PrintWriteError() { std::fprintf(stderr, "error: cannot write to standard output: %s\n", std::strerror(errno)); }

// Flags in groups as CLI11 has them, without its remarks on the environment and on what excludes what.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_size() == 0 ? "" : " " + option->get_type_name();
  }
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    std::string help = CLI::Formatter::make_help(app, std::move(name), mode);
    for (size_t at; (at = help.find("\n\n\n")) != std::string::npos;) help.erase(at, 1);
    return help;
  }
  std::string make_option_usage(const CLI::Option* option) const override {
    return "[" + option->get_name(/*positional=*/true, /*all_options=*/false) +
           (option->get_expected_max() > 1 ? "]..." : "]");
  }
};

// The words that begin the command line, but for the program's name.
std::string Word(int argc, char** argv, int i) { return argc > i ? argv[i] : ""; }

const CLI::App* FindCommand(const CLI::App& app, const std::string& name) {
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name() == name) return command;
  }
  return nullptr;
}

int UsageError(const std::string& message, const std::string& command) {
  std::fprintf(stderr, "error: %s\n`quantd %s--help` says more.\n", message.c_str(),
               command.empty() ? "" : (command + " ").c_str());
  return kExitUsage;
}

// `quantd help` and `quantd help COMMAND`.
int Help(const CLI::App& app, const std::string& name) {
  const CLI::App* command = FindCommand(app, name);
  if (!name.empty() && name[0] != '-' && command == nullptr) return UsageError(UnknownCommand(app, name), "");
  std::fputs((command == nullptr ? app.help() : command->help("quantd")).c_str(), stdout);
  return kExitOk;
}

int ParseFailure(const CLI::App& app, const CLI::App* command, const CLI::ParseError& e) {
  if (e.get_exit_code() == 0) return app.exit(e) == 0 ? kExitOk : kExitUsage;  // --help and --version
  std::string message = e.what();
  absl::StrReplaceAll({{": At Most 1 required but received ", " can be given once and is given "}}, &message);
  if (const std::vector<std::string> unexpected = app.remaining(/*recurse=*/true); !unexpected.empty()) {
    message = UnexpectedArguments(app, command == nullptr ? app : *command, unexpected);
  }
  return UsageError(message, command == nullptr ? "" : command->get_name());
}

// What left a command as an exception: no memory and no thread are the machine's, the rest is ours.
int ExceptionFailure(const absl::Status& status) {
  const bool ours = absl::IsInternal(status);
  bool said = false;
  IfMemoryAllows([&] {
    if (ours) {
      std::fprintf(stderr, "error: internal: %s\n", Shown(ToStd(status.message())).c_str());
    } else {
      quantd::PrintError(status);
    }
    said = true;
  });
  if (!said) std::fputs("error: RESOURCE_EXHAUSTED OUT_OF_MEMORY\n", stderr);
  return ours ? kExitInternal : kExitResources;
}

}  // namespace

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  const std::string reason = GetReason(status);
  if (reason == "BIND_FAILED") return kExitBind;
  for (const char* resource : {"MEMORY_BUDGET", "OUT_OF_MEMORY", "NO_DESCRIPTORS", "NO_THREADS"}) {
    if (reason == resource) return kExitResources;
  }
  if (!GetField(status).empty()) return kExitConfig;  // a setting of ours
  switch (status.code()) {
    case absl::StatusCode::kInternal:
      return kExitInternal;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kDeadlineExceeded:
      return kExitRuntime;
    default:
      return kExitModel;
  }
}

absl::Status CheckDescriptors(int count) {
  std::vector<int> opened;
  while (static_cast<int>(opened.size()) < count) {
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0) break;
    opened.push_back(fd);
  }
  for (const int fd : opened) close(fd);
  if (static_cast<int>(opened.size()) == count) return absl::OkStatus();
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return WithReason(absl::ResourceExhaustedError(absl::StrCat("this process can open ", opened.size(),
                                                              " more files and needs at least ", count,
                                                              "; its limit is ", limit.rlim_cur, " (ulimit -n)")),
                    "NO_DESCRIPTORS");
}

// Its timers, its executors and, by the cores, what polls and what runs callbacks.
int ThreadsOfGrpc() {
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return 8 + std::clamp(cores / 2, 2, 16) + std::clamp(cores, 2, 32);
}

absl::Status CheckThreads(int count) {
  std::vector<std::thread> started;
  started.reserve(static_cast<size_t>(count));
  std::latch all(1);
  try {
    while (static_cast<int>(started.size()) < count) started.emplace_back([&all] { all.wait(); });
  } catch (const std::system_error&) {  // counted below
  }
  all.count_down();
  for (std::thread& thread : started) thread.join();
  if (static_cast<int>(started.size()) == count) return absl::OkStatus();
  return WithReason(absl::ResourceExhaustedError(
                        absl::StrCat("this process can start ", started.size(), " more threads and needs at least ",
                                     count, " (ulimit -u, the cgroup's pids.max, ulimit -v for their stacks)")),
                    "NO_THREADS");
}

void PrintError(const absl::Status& status) {
  PrintError(status.code(), ReasonOf(status), std::string(status.message()));
}

void PrintUsageError(const absl::Status& status) {
  std::fprintf(stderr, "error: %s\n", Shown(ToStd(status.message())).c_str());
}

void PrintError(const grpc::Status& status, const std::string& address) {
  const ErrorDetails details = ReadDetails(status);
  PrintError(static_cast<absl::StatusCode>(status.error_code()), details.reason, status.error_message());
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && details.reason.empty()) {  // gRPC's own: nobody answered
    const bool http =
        absl::StrContains(status.error_message(), "http1") || absl::StrContains(status.error_message(), "HTTP/1");
    std::fprintf(stderr,
                 http ? "what answers at %s speaks no gRPC: is that the metrics port? gRPC is on 8001 by default\n"
                      : "is `quantd serve` running at %s?\n",
                 address.c_str());
  }
  if (details.retry_after.has_value()) std::fprintf(stderr, "try again in %.1f s\n", ToSeconds(*details.retry_after));
}

void WriteOut(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return;
  PrintWriteError();
  _exit(kExitRuntime);
}

namespace {
int RunCommand(int argc, char** argv) {
  CLI::App app{"quantd serves quantized language models over gRPC.", "quantd"};
  app.formatter(std::make_shared<HelpFormatter>());
  app.require_subcommand(1);
  app.set_version_flag("-V,--version", std::string(Version()));
  app.footer(
      "Examples:\n"
      "  quantd serve ./SmolLM2-135M-Instruct.Q4_1.gguf\n"
      "  quantd chat \"What is a KV cache?\"\n"
      "  quantd plan ./Llama-3.2-1B --quantize int8_weight_only\n\n"
      "`quantd help COMMAND` says more. A flag can come from the environment: --max-context from\n"
      "QUANTD_MAX_CONTEXT. Exit codes: 0 ok, 1 failed while running, 2 usage, 3 configuration, 4 model,\n"
      "5 memory, descriptors or threads, 6 cannot listen, 70 a bug of quantd, 130 interrupted.");
  int exit_code = kExitOk;
  AddServe(app, exit_code);
  AddPlan(app, exit_code);
  AddChat(app, exit_code);
  AddGenerate(app, exit_code);
  AddModels(app, exit_code);
  AddVersion(app, exit_code);
  const std::string word = Word(argc, argv, 1);
  if (word.empty()) {
    std::fputs(app.help().c_str(), stderr);
    return kExitUsage;
  }
  if (word == "help") return Help(app, Word(argc, argv, 2));
  const CLI::App* command = FindCommand(app, word);
  for (const char* client : {"chat", "generate", "models"}) {
    constexpr int kNeededDescriptors = 12;  // gRPC's pollers and one connection
    if (word != client) continue;
    absl::Status status = CheckDescriptors(kNeededDescriptors);
    if (status.ok()) status = CheckThreads(1 + ThreadsOfGrpc());  // and one that waits for Ctrl-C
    if (!status.ok()) {
      quantd::PrintError(status);
      return ExitCodeOf(status);
    }
  }
  if (command == nullptr && word[0] != '-') return UsageError(UnknownCommand(app, word), "");
  if (command != nullptr) {
    const std::span<char* const> arguments(argv + 2, static_cast<size_t>(argc - 2));
    if (const std::string foreign = ForeignShortFlag(app, *command, arguments); !foreign.empty()) {
      return UsageError(foreign, word);
    }
  }
  WarnOfUnknownEnvironment(app);
  if (command != nullptr) ReadEnvironment(*app.get_subcommand(word));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    exit_code = ParseFailure(app, command, e);
  }
  if (command != nullptr && exit_code == kExitUsage) {
    for (const std::string& entry : EnvironmentOf(*command)) {
      std::fprintf(stderr, "from the environment: %s\n", entry.c_str());
    }
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    PrintWriteError();
    return exit_code == kExitOk ? kExitRuntime : exit_code;
  }
  return exit_code;
}

// Each arena of glibc's allocator counts 64 MiB against `ulimit -v`, used or not: by the cores, more than all stacks.
void BoundArenas() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) mallopt(M_ARENA_MAX, 2);
}
}  // namespace

int Main(int argc, char** argv) {
  OpenStandardDescriptors();
  BoundArenas();
  // Whoever started this may ignore it. A closed pipe ends a client command, and with it what the daemon does for it.
  std::signal(SIGPIPE, SIG_DFL);
  try {
    TakeLibraryLogs();
    return RunCommand(argc, argv);
  } catch (...) {
    return ExceptionFailure(StatusOfCaughtException());
  }
}

}  // namespace quantd
