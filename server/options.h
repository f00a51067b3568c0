// What `quantd serve` can be told, as plain values. Filled from a YAML file (config.h) and from flags (cli/serve.cc).
#pragma once

#include <string>
#include <vector>

#include <absl/status/statusor.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/model_loader.h"
#include "scheduler/model_registry.h"
#include "server/edge/address.h"
#include "server/edge/limits.h"
#include "server/outbox.h"

namespace quantd {

struct ModelOptions {
  std::string name;
  LoadSpec spec;
  QueueLimits queue;
};

// The values of max_context that are taken: one token read and one written at least.
inline constexpr int64_t kMinContext = 2, kMaxContext = 1 << 24;

struct ServerOptions {
  std::vector<ModelOptions> models;
  std::vector<std::string> model_roots;  // PlanModel may read below them
  RegistryOptions registry;
  HostPort listen{"127.0.0.1", 8001}, metrics_listen{"127.0.0.1", 9464};
  bool reflection = true;
  EdgeLimits edge;
  int max_receive_bytes = 16 << 20;          // of one message
  int64_t request_memory_bytes = 256 << 20;  // of all messages that are being read
  int codec_threads = 2;
  Outbox::Limits outbox;
  Duration drain_timeout = std::chrono::seconds(30);
  Duration flush_time = std::chrono::seconds(2);  // after a drain, for what is still on its way to clients
  std::string ready_file;
  LogLevel log_level = LogLevel::kInfo;
};

// "127.0.0.1:8001", "[::1]:8001", "localhost:0". InvalidArgument.
absl::StatusOr<HostPort> ParseHostPort(std::string_view text);
// The same, or "unix:/run/quantd.sock", or "unix-abstract:NAME". InvalidArgument.
absl::StatusOr<HostPort> ParseListenAddress(std::string_view text);
// "64MiB", "1.5GB", "4096": bytes, at least 1. InvalidArgument.
absl::StatusOr<int64_t> ParseBytes(std::string_view text);
std::string FormatBytes(int64_t bytes);  // "97.3 MiB"
// "30s", "500ms", "2m", "1.5" (seconds). InvalidArgument.
absl::StatusOr<Duration> ParseDuration(std::string_view text);
// The same, more than 0.
absl::StatusOr<Duration> ParseTimeout(std::string_view text);
// "f32", "bf16". InvalidArgument.
absl::StatusOr<DType> ParseActivations(std::string_view text);
// "cpu", "reference". InvalidArgument.
absl::StatusOr<std::string> ParseBackend(std::string_view text);
absl::StatusOr<LogLevel> ParseLogLevel(std::string_view text);
// A model's name where none was given: the last part of its path, without ".gguf".
std::string DefaultModelName(const std::string& path);
// InvalidArgument: no UTF-8, which a message of the API cannot hold.
absl::Status CheckModelPath(std::string_view path);
// Letters, digits, '-', '_', '.', up to 64 of them: a name is part of a metric's label and of a health service's name.
absl::Status CheckModelName(std::string_view name);

}  // namespace quantd
