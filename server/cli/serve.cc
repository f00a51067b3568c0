// `quantd serve`: options, signals, progress; everything else is the daemon's.
#include <unistd.h>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <thread>

#include <CLI/CLI.hpp>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "server/cli/cli.h"
#include "server/cli/model_flags.h"
#include "server/config.h"
#include "server/daemon.h"
#include "server/version.h"

namespace quantd {
namespace {

struct ServeFlags {
  ModelFlags model;
  std::string config;
  std::optional<std::string> listen, metrics_listen, ready_file, drain_timeout, log_level;
  std::vector<std::string> model_roots;
  bool no_reflection = false;
};

absl::Status Apply(const ServeFlags& f, ServerOptions& options) {
  QD_RETURN_IF_ERROR(f.model.Apply(options));
  if (f.listen.has_value()) {
    QD_ASSIGN_OR_RETURN(options.listen, ParseHostPort(*f.listen));
  }
  if (f.metrics_listen.has_value()) {
    QD_ASSIGN_OR_RETURN(options.metrics_listen, ParseHostPort(*f.metrics_listen));
  }
  if (f.drain_timeout.has_value()) {
    QD_ASSIGN_OR_RETURN(options.drain_timeout, ParseDuration(*f.drain_timeout));
  }
  if (f.log_level.has_value()) {
    QD_ASSIGN_OR_RETURN(options.log_level, ParseLogLevel(*f.log_level));
  }
  if (f.ready_file.has_value()) options.ready_file = *f.ready_file;
  if (f.no_reflection) options.reflection = false;
  options.model_roots.insert(options.model_roots.end(), f.model_roots.begin(), f.model_roots.end());
  if (options.models.empty())
    return absl::InvalidArgumentError("no model: give --model PATH or a --config with models");
  return absl::OkStatus();
}

// How far the load is: one line that redraws itself on a terminal, else a log line a tenth.
class Progress {
 public:
  void Show(const std::vector<ModelInfo>& models) {
    int64_t done = 0, total = 0;
    for (const ModelInfo& m : models) {
      if (m.state == ModelState::kLoading && m.progress.total_bytes == 0) return;  // it does not know yet
      done += m.progress.done_bytes;
      total += m.progress.total_bytes;
    }
    if (total == 0) return;
    const int percent = static_cast<int>(100 * done / total);
    if (terminal_) {
      constexpr int kWidth = 40;
      const int filled = kWidth * percent / 100;
      std::fprintf(stderr, "\rloading [%s%s] %3d %%  %s of %s ", std::string(static_cast<size_t>(filled), '#').c_str(),
                   std::string(static_cast<size_t>(kWidth - filled), '.').c_str(), percent, FormatBytes(done).c_str(),
                   FormatBytes(total).c_str());
      drawn_ = true;
    } else if (percent / 10 > last_ / 10) {
      LogInfo(absl::StrCat("loading ", percent, " %: ", FormatBytes(done), " of ", FormatBytes(total)));
    }
    last_ = percent;
  }
  void End() {
    if (drawn_) std::fprintf(stderr, "\r\033[K");
    drawn_ = false;
  }

 private:
  const bool terminal_ = isatty(2) != 0;
  bool drawn_ = false;
  int last_ = 0;
};

bool WaitForSignal(const sigset_t& signals, Duration timeout) {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(timeout).count();
  const timespec t{static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
  return sigtimedwait(&signals, nullptr, &t) > 0;
}

int Run(const ServerOptions& options) {
  SetLogLevel(options.log_level);
  // Blocked before any thread starts, so that only the waits below receive them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  absl::StatusOr<std::unique_ptr<Daemon>> started = Daemon::Start(options);
  if (!started.ok()) {
    PrintError(started.status());
    return ExitCodeOf(started.status());
  }
  Daemon& daemon = **started;
  const DeviceInfo device = daemon.registry().device();
  LogInfo(absl::StrCat("quantd ", ToAbsl(Version()), " (", ToAbsl(Commit()), "); device ", device.id, " ", device.name,
                       "; isa ", device.isa, "; threads ", device.threads, "; memory budget ",
                       FormatBytes(daemon.registry().memory_budget_bytes())));

  absl::Status loaded;
  std::atomic<bool> settled{false};
  std::thread loading([&] {
    loaded = daemon.WaitUntilReady();
    settled = true;
  });
  Progress progress;
  bool stop = false;
  while (!settled && !stop) {
    stop = WaitForSignal(signals, std::chrono::milliseconds(20));
    if (!stop) progress.Show(daemon.registry().List());
  }
  progress.End();
  if (stop && !settled) {
    // A load has no point at which it must stop: what other models serve may finish, then the process just ends.
    LogInfo("stopping while a model loads");
    daemon.Drain(options.drain_timeout);
    std::fflush(nullptr);
    _exit(kExitOk);
  }
  loading.join();
  if (!loaded.ok()) {
    PrintError(loaded);
    return ExitCodeOf(loaded);
  }
  LogInfo(absl::StrCat("serving gRPC on ", ToString({options.listen.host, daemon.grpc_port()}), ", metrics on ",
                       ToString({options.metrics_listen.host, daemon.metrics_port()})));
  while (!stop) stop = WaitForSignal(signals, std::chrono::hours(1));

  LogInfo(absl::StrCat("draining for at most ", ToSeconds(options.drain_timeout), " s; a second signal stops at once"));
  std::atomic<bool> drained{false};
  std::thread draining([&] {
    daemon.Drain(options.drain_timeout);
    drained = true;
  });
  while (!drained) {
    if (WaitForSignal(signals, std::chrono::milliseconds(10))) daemon.StopNow();
  }
  draining.join();
  LogInfo("stopped");
  return kExitOk;
}

}  // namespace

void AddServe(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("serve", "Load models and serve them over gRPC");
  auto f = std::make_shared<ServeFlags>();
  f->model.AddTo(*command, /*for_serving=*/true);
  command->add_option("--config", f->config, "YAML file; flags override it")->type_name("FILE");
  command->add_option("--listen", f->listen, "gRPC; default 127.0.0.1:8001 (port 0 = any)")->type_name("HOST:PORT");
  command->add_option("--metrics-listen", f->metrics_listen, "HTTP /metrics /livez /readyz; default 127.0.0.1:9464")
      ->type_name("HOST:PORT");
  command->add_option("--model-root", f->model_roots, "Folder whose models PlanModel may read (repeatable)")
      ->type_name("DIR");
  command
      ->add_option("--ready-file", f->ready_file,
                   "Written when the models are served: {\"grpc\", \"metrics\", \"pid\"}")
      ->type_name("FILE");
  command->add_flag("--no-reflection", f->no_reflection, "No grpc.reflection");
  command->add_option("--drain-timeout", f->drain_timeout, "For requests in flight after SIGTERM; default 30s")
      ->type_name("TIME");
  command->add_option("--log-level", f->log_level, "debug, info, warning or error; default info")->type_name("LEVEL");
  command->footer(
      "Examples:\n"
      "  quantd serve --model ./SmolLM2-135M-Instruct.Q4_1.gguf\n"
      "  quantd serve --model llama=./Llama-3.2-1B --quantize int4_weight_only,group_size=64 --kv-cache-dtype int8\n"
      "  quantd serve --config quantd.yaml --listen 0.0.0.0:8001");
  command->callback([f, &exit_code] {
    ServerOptions options;
    if (!f->config.empty()) {
      const std::vector<std::string> errors = ReadConfig(f->config, options);
      for (const std::string& error : errors) std::fprintf(stderr, "%s: %s\n", f->config.c_str(), error.c_str());
      if (!errors.empty()) {
        exit_code = kExitConfig;
        return;
      }
    }
    if (absl::Status status = Apply(*f, options); !status.ok()) {
      std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
      exit_code = kExitUsage;
      return;
    }
    exit_code = Run(options);
  });
}

}  // namespace quantd
