// The subcommands of the one binary. CLI11 is included by the files of this folder alone.
#pragma once

#include <string>
#include <string_view>

#include <absl/status/status.h>
#include <grpcpp/support/status.h>

namespace CLI {
class App;
}

namespace quantd {

// By what was at fault; docs/operations.md has the table.
enum ExitCode : int {
  kExitOk = 0,
  kExitRuntime = 1,
  kExitUsage = 2,
  kExitConfig = 3,
  kExitModel = 4,
  kExitResources = 5,  // memory, descriptors, threads
  kExitBind = 6,
  kExitInternal = 70,     // a bug of quantd; EX_SOFTWARE of sysexits.h
  kExitInterrupted = 130  // 128 + SIGINT, as a shell reports it
};

// Each adds its subcommand to `app` and stores what to return in `exit_code` when it has run.
void AddServe(CLI::App& app, int& exit_code);
void AddGenerate(CLI::App& app, int& exit_code);
void AddChat(CLI::App& app, int& exit_code);
void AddModels(CLI::App& app, int& exit_code);
void AddPlan(CLI::App& app, int& exit_code);
void AddVersion(CLI::App& app, int& exit_code);

// The exit code that tells a failure of loading, planning or listening, by its cause: what no other cause explains is
// the model's.
int ExitCodeOf(const absl::Status& status);
// "error: CODE REASON: message" and what else helps, on standard error; no reason where it only repeats the code. What
// a message has from a file or a server cannot drive the terminal.
void PrintError(const absl::Status& status);
void PrintUsageError(const absl::Status& status);                         // "error: message"
void PrintError(const grpc::Status& status, const std::string& address);  // of the daemon that was asked
// ResourceExhausted: this process cannot open `count` more files, without which gRPC ends it.
absl::Status CheckDescriptors(int count);
// ResourceExhausted: this process cannot start `count` more threads. gRPC does not say that it could not start one of
// its own (1.51): without them it answers nobody, and its end waits for them for ever.
absl::Status CheckThreads(int count);
int ThreadsOfGrpc();  // at most, at its start
// Writes to standard output at once. Ends the process where that fails: what nobody reads need not be computed, and the
// daemon cancels the request of a client that is gone.
void WriteOut(std::string_view text);

int Main(int argc, char** argv);

}  // namespace quantd
