// The daemon: registry, services, listeners and their orderly end. A process has one; tests start it on port 0.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <absl/status/statusor.h>

#include "scheduler/model_registry.h"
#include "server/options.h"

namespace quantd {

class Daemon {
 public:
  // Listens, answers health and metrics at once (not ready), and begins to load the models. Unavailable BIND_FAILED;
  // errors of the registry. The second form takes a registry made by `make` instead of ModelRegistry::Create, for
  // tests.
  using MakeRegistry =
      std::function<absl::StatusOr<std::unique_ptr<ModelRegistry>>(const RegistryOptions&, ModelRegistry::Hooks)>;
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const ServerOptions& options);
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const ServerOptions& options, const MakeRegistry& make);
  virtual ~Daemon() = default;  // stops at once where Drain was not called

  // Blocks until no model is loading, then serves: health says so and the ready file is written. OK where at least one
  // model is ready; else the first failure.
  virtual absl::Status WaitUntilReady() = 0;
  // Not ready from now on; requests in flight may finish until the timeout. Returns when all have ended and the
  // listeners are closed. Another thread may call StopNow meanwhile.
  virtual void Drain(Duration timeout) = 0;
  // Cuts a running Drain short, or the time until one.
  virtual void StopNow() = 0;

  virtual ModelRegistry& registry() = 0;
  virtual const HostPort& grpc_address() const = 0;  // with the port that it became
  virtual int grpc_port() const = 0;
  virtual int metrics_port() const = 0;
};

// Log lines on what a model became: memory by component, schemes, fallbacks.
void LogModel(const ModelInfo& info);

}  // namespace quantd
