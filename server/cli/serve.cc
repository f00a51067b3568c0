// `quantd serve`: options, signals, progress; everything else is the daemon's.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <thread>

#include <absl/strings/ascii.h>

#include <CLI/CLI.hpp>

#include "base/allocation_failure.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/printable.h"
#include "server/cli/cli.h"
#include "server/cli/model_flags.h"
#include "server/daemon.h"
#include "server/library_logs.h"
#include "server/version.h"
#include "server/work_pool.h"

namespace quantd {
namespace {

struct ServeFlags {
  ModelFlags model;
  std::string config;
  std::optional<std::string> listen, metrics_listen, ready_file, drain_timeout, log_level;
  std::optional<std::string> receive_budget, receive_timeout, handshake_timeout;
  std::optional<int> max_connections, max_connections_per_peer;
  std::vector<std::string> model_roots;
  bool no_reflection = false;
};

absl::Status ApplyEdge(const ServeFlags& f, EdgeLimits& edge, int64_t max_receive_bytes) {
  QD_RETURN_IF_ERROR(SetFrom(f.receive_budget, "--receive-budget", ParseBytes, edge.receive_budget));
  QD_RETURN_IF_ERROR(SetFrom(f.receive_timeout, "--receive-timeout", ParseTimeout, edge.receive_timeout));
  QD_RETURN_IF_ERROR(SetFrom(f.handshake_timeout, "--handshake-timeout", ParseTimeout, edge.handshake_timeout));
  edge.max_connections = f.max_connections.value_or(edge.max_connections);
  edge.max_connections_per_peer = f.max_connections_per_peer.value_or(edge.max_connections_per_peer);
  if (edge.receive_budget >= max_receive_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--receive-budget: ", FormatBytes(edge.receive_budget),
                                                 " is less than one message, ", FormatBytes(max_receive_bytes)));
}

absl::Status Apply(const ServeFlags& f, ServerOptions& options) {
  QD_RETURN_IF_ERROR(ApplyEdge(f, options.edge, options.max_receive_bytes));
  QD_RETURN_IF_ERROR(SetFrom(f.listen, "--listen", ParseListenAddress, options.listen));
  QD_RETURN_IF_ERROR(SetFrom(f.metrics_listen, "--metrics-listen", ParseHostPort, options.metrics_listen));
  QD_RETURN_IF_ERROR(SetFrom(f.drain_timeout, "--drain-timeout", ParseDuration, options.drain_timeout));
  QD_RETURN_IF_ERROR(SetFrom(f.log_level, "--log-level", ParseLogLevel, options.log_level));
  if (f.ready_file.has_value()) options.ready_file = *f.ready_file;
  if (f.no_reflection) options.reflection = false;
  options.model_roots.insert(options.model_roots.end(), f.model_roots.begin(), f.model_roots.end());
  return absl::OkStatus();
}

// The file's and the flags': what is no folder now is a typing error, and PlanModel would never say so.
absl::Status CheckModelRoots(const std::vector<std::string>& roots) {
  for (const std::string& root : roots) {
    struct stat found = {};
    if (stat(root.c_str(), &found) != 0) {
      const int error = errno;  // before anything allocates, which may set it
      return absl::InvalidArgumentError(absl::StrCat("model root ", Printable(root), ": ", std::strerror(error)));
    }
    if (!S_ISDIR(found.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat("model root ", Printable(root), ": is no folder"));
    }
  }
  return absl::OkStatus();
}

// How far the load of the model is that loads now (one does at a time): on a terminal a line that is drawn anew, which
// a log line clears (base/log.h), else a log line a tenth.
class Progress {
 public:
  void Show(const std::vector<ModelInfo>& models) {
    const auto loading = std::find_if(models.begin(), models.end(), [](const ModelInfo& m) {
      return m.state == ModelState::kLoading && m.progress.total_bytes > 0;  // 0: it waits, or does not know yet
    });
    if (loading == models.end()) return;
    if (loading->name != name_) {
      name_ = loading->name;
      tenths_ = 0;
    }
    const int64_t done = loading->progress.done_bytes, total = loading->progress.total_bytes;
    const int percent = static_cast<int>(100 * done / total);
    const std::string bytes = absl::StrCat(FormatBytes(done), " of ", FormatBytes(total));
    if (terminal_) {
      constexpr int kWidth = 30;
      const auto filled = static_cast<size_t>(kWidth * percent / 100);
      DrawStatusLine(absl::StrCat("loading ", name_, " [", std::string(filled, '#'), std::string(kWidth - filled, '.'),
                                  "] ", absl::Dec(percent, absl::kSpacePad3), " %  ", bytes));
    } else if (percent / 10 > tenths_) {
      LogInfo(absl::StrCat("model ", name_, ": loading ", percent, " %: ", bytes));
    }
    tenths_ = percent / 10;
  }
  void End() { DrawStatusLine(""); }

 private:
  const bool terminal_ = isatty(2) != 0;
  std::string name_;
  int tenths_ = 0;
};

// The signal that came, or -1 where none did in time.
int WaitForSignal(const sigset_t& signals, Duration timeout) {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(timeout).count();
  const timespec t{static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
  return sigtimedwait(&signals, nullptr, &t);
}

// SIGHUP comes of a terminal that is gone, which ends the daemon, and from operators who expect a reload, which does
// not.
class Hangup {
 public:
  // True where `signal` asks for an end.
  bool Ends(int signal) const {
    if (signal != SIGHUP) return signal > 0;
    if (had_terminal_ && !HasTerminal()) return true;
    LogWarning("SIGHUP: reloading the configuration is not built, nothing changes; restart to change it");
    return false;
  }

 private:
  static bool HasTerminal() {
    const int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (fd >= 0) close(fd);
    return fd >= 0;
  }
  const bool had_terminal_ = HasTerminal();
};

// Requests in flight may finish until the timeout. A signal meanwhile ends them at once.
// `helper` has been started before: at the end the system may start no more threads.
void DrainUntilSignal(Daemon& daemon, WorkPool& helper, Duration timeout, const sigset_t& signals,
                      const Hangup& hangup) {
  LogInfo(absl::StrCat("draining for at most ", ToSeconds(timeout), " s; a second signal stops at once"));
  std::atomic<bool> drained{false};
  const auto drain = [&] {
    IfMemoryAllows([&] { daemon.Drain(timeout); });  // else it ends at once
    drained = true;
  };
  bool posted = false;
  IfMemoryAllows([&] { posted = helper.Post(drain); });
  if (!posted) drain();
  while (!drained) {
    if (hangup.Ends(WaitForSignal(signals, std::chrono::milliseconds(10)))) daemon.StopNow();
  }
  LogInfo("stopped");
}

// Each client is three descriptors.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Blocks the signals that end the daemon, before any thread starts, so that only WaitForSignal receives them.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  struct sigaction hangup = {};
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaddset(&signals, SIGHUP);  // nohup: it outlives its terminal
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

void WarnOfOpenListener(const char* what, const HostPort& address) {
  if (IsLoopback(address)) return;
  LogWarning(absl::StrCat(what, " on ", ToString(address),
                          " can be reached from other machines, without TLS and without authentication"));
}

void LogStart(Daemon& daemon, const ServerOptions& options) {
  const DeviceInfo device = daemon.registry().device();
  LogInfo(absl::StrCat("quantd ", ToAbsl(Version()), " (", ToAbsl(Commit()), "); device ", device.id, " ", device.name,
                       "; isa ", device.isa, "; threads ", device.threads, "; memory budget ",
                       FormatBytes(daemon.registry().memory_budget_bytes())));
  const HostPort& grpc = daemon.grpc_address();
  const HostPort metrics{options.metrics_listen.host, daemon.metrics_port()};
  LogInfo(absl::StrCat("listening: gRPC on ", ToString(grpc), ", metrics on ", ToString(metrics)));
  WarnOfOpenListener("gRPC", grpc);
  WarnOfOpenListener("metrics", metrics);
}

int StartFailure(const absl::Status& status) {
  PrintError(status);
  return ExitCodeOf(status);
}

// Of models of which none could be loaded. The log has said why, of each.
int LoadFailure(const absl::Status& first, const std::vector<ModelInfo>& models) {
  const bool none = std::ranges::all_of(models, [](const ModelInfo& m) { return m.state == ModelState::kFailed; });
  if (!none) return StartFailure(first);  // not a model's: the ready file's
  std::fputs("error: no model could be loaded\n", stderr);
  return ExitCodeOf(first);
}

// A daemon with what gRPC opens at its start and one client.
constexpr int kNeededDescriptors = 40;

// All that it ever starts; gRPC may start more of its own, and goes on without those.
int NeededThreads(const ServerOptions& options) {
  constexpr int kOwn = 13;  // worker, loader, edge, text pool (2), plans, heap, helpers (2), metrics (4)
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int asked = options.registry.backend_options.threads;
  return kOwn + options.codec_threads + (asked > 0 ? asked : cores) + ThreadsOfGrpc();
}

int Run(const ServerOptions& options) {
  SetLogLevel(options.log_level);
  RaiseDescriptorLimit();
  if (absl::Status status = CheckDescriptors(kNeededDescriptors); !status.ok()) return StartFailure(status);
  if (absl::Status status = CheckThreads(NeededThreads(options)); !status.ok()) {
    return StartFailure(status);
  }
  std::signal(SIGPIPE, SIG_IGN);  // a client that goes away is an error of its stream, not of the process
  const sigset_t signals = BlockSignals();
  const Hangup hangup;

  absl::StatusOr<std::unique_ptr<Daemon>> started = Daemon::Start(options);
  if (!started.ok()) {
    const int code = StartFailure(started.status());
    if (code == kExitResources) _exit(code);  // threads of what could be started may still run
    return code;
  }
  WarnOfGrpcErrors();
  Daemon& daemon = **started;
  LogStart(daemon, options);

  absl::Status loaded;
  std::atomic<bool> settled{false};
  WorkPool helper(/*threads=*/2, /*max_waiting=*/2);  // one may wait for the load while the other drains
  [[maybe_unused]] const bool posted = helper.Post([&] {
    loaded = CatchAllocationFailure([&] { return daemon.WaitUntilReady(); });
    settled = true;
  });
  Progress progress;
  bool stop = false;
  while (!settled && !stop) {
    stop = hangup.Ends(WaitForSignal(signals, std::chrono::milliseconds(20)));
    if (!stop) IfMemoryAllows([&] { progress.Show(daemon.registry().List()); });
  }
  progress.End();
  if (stop && !settled) {
    // A load has no point at which it must stop: what other models serve may finish, then the process just ends.
    LogInfo("stopping while a model loads");
    DrainUntilSignal(daemon, helper, options.drain_timeout, signals, hangup);
    _exit(kExitOk);
  }
  if (!loaded.ok()) return LoadFailure(loaded, daemon.registry().List());
  LogInfo("ready");
  while (!stop) stop = hangup.Ends(WaitForSignal(signals, std::chrono::hours(1)));
  DrainUntilSignal(daemon, helper, options.drain_timeout, signals, hangup);
  return kExitOk;
}

}  // namespace

void AddServe(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("serve", "Load models and serve them over gRPC")->group("Serve");
  auto f = std::make_shared<ServeFlags>();
  f->model.AddTo(*command, /*for_serving=*/true);
  command->add_option("--config", f->config, "YAML file; flags override it")->type_name("FILE")->group("Server");
  command->add_option("--listen", f->listen, "gRPC: HOST:PORT (port 0 = any) or unix:/PATH; default 127.0.0.1:8001")
      ->type_name("ADDRESS")
      ->group("Server");
  command->add_option("--metrics-listen", f->metrics_listen, "HTTP /metrics /livez /readyz; default 127.0.0.1:9464")
      ->type_name("HOST:PORT")
      ->group("Server");
  command->add_option("--model-root", f->model_roots, "Folder whose models PlanModel may read (repeatable)")
      ->type_name("DIR")
      ->allow_extra_args(false)
      ->group("Server");
  command
      ->add_option("--ready-file", f->ready_file,
                   "Written when the models are served: {\"grpc\", \"metrics\", \"pid\"}")
      ->type_name("FILE")
      ->group("Server");
  command->add_flag("--no-reflection", f->no_reflection, "No grpc.reflection")->group("Server");
  command->add_option("--max-connections", f->max_connections, "Of all clients; default 4096")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N")
      ->group("Server");
  command
      ->add_option("--max-connections-per-peer", f->max_connections_per_peer,
                   "Of one address; default half of --max-connections")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N")
      ->group("Server");
  command
      ->add_option("--receive-budget", f->receive_budget,
                   "For requests that are not whole yet, together; default 128MiB")
      ->type_name("BYTES")
      ->group("Server");
  command
      ->add_option("--receive-timeout", f->receive_timeout,
                   "For a request to become whole, and 1s for each 64KiB; default 30s")
      ->type_name("TIME")
      ->group("Server");
  command->add_option("--handshake-timeout", f->handshake_timeout, "For the first bytes of a connection; default 10s")
      ->type_name("TIME")
      ->group("Server");
  command->add_option("--drain-timeout", f->drain_timeout, "For requests in flight after SIGTERM; default 30s")
      ->type_name("TIME")
      ->group("Server");
  command->add_option("--log-level", f->log_level, "debug, info, warning or error; default info")
      ->type_name("LEVEL")
      ->group("Server");
  command->footer(
      "Examples:\n"
      "  quantd serve ./SmolLM2-135M-Instruct.Q4_1.gguf\n"
      "  quantd serve llama=./Llama-3.2-1B --quantize int4_weight_only,group_size=64 --kv-cache-dtype int8\n"
      "  quantd serve --config quantd.yaml --listen 0.0.0.0:8001");
  command->callback([f, &exit_code] {
    ServerOptions options;
    exit_code = ReadModels(f->config, f->model, options);
    if (exit_code != kExitOk) return;
    if (absl::Status status = Apply(*f, options); !status.ok()) {
      PrintUsageError(status);
      exit_code = kExitUsage;
      return;
    }
    if (absl::Status status = CheckModelRoots(options.model_roots); !status.ok()) {
      PrintUsageError(status);
      exit_code = f->model_roots.empty() ? kExitConfig : kExitUsage;
      return;
    }
    exit_code = Run(options);
  });
}

}  // namespace quantd
