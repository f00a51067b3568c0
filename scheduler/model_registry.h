// Name → model: plan, admit, load, drain. Owns the workers (one thread a device) and the loader thread. Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/statusor.h>

#include "base/clock.h"
#include "kernels/backend.h"
#include "runtime/model_loader.h"
#include "scheduler/engine_handle.h"
#include "scheduler/observer.h"

namespace quantd {

enum class ModelState : uint8_t { kLoading, kReady, kDraining, kFailed };
inline constexpr std::string_view Name(ModelState s) {
  constexpr std::string_view kNames[] = {"loading", "ready", "draining", "failed"};
  return kNames[static_cast<int>(s)];
}

struct ModelInfo {
  std::string name;
  ModelId id = 0;
  ModelState state = ModelState::kLoading;
  LoadSpec spec;
  QueueLimits queue;
  std::string device;  // "cpu"
  std::string revision;
  LoadProgress progress;  // while loading
  MemoryUsage memory;     // by the tags, now
  int64_t peak_bytes = 0;
  int64_t kv_bytes_per_token = 0, parameters = 0;
  int64_t kv_resident_bytes = 0;    // of the KV cache's memory, what has been used at least once
  std::optional<LlmLimits> limits;  // once ready
  std::vector<LayerReport> layers;  // once ready
  Duration load_time{};
  absl::Status failure;
};

struct RegistryOptions {
  std::string backend = "cpu";  // "cpu" or "reference"
  BackendOptions backend_options;
  int64_t memory_budget_bytes = 0;  // 0 = 90 % of what the machine or cgroup allows
};

class ModelRegistry {
 public:
  // `make_observer` gives each model its observer, called when the load begins. `on_change` hears of every change of a
  // model's state, on an unspecified thread, with no lock held.
  struct Hooks {
    std::function<std::shared_ptr<EngineObserver>(const std::string& model)> make_observer;
    std::function<void(const ModelInfo&)> on_change;
  };
  static absl::StatusOr<std::unique_ptr<ModelRegistry>> Create(const RegistryOptions& options, Hooks hooks);
  virtual ~ModelRegistry() = default;  // drains nothing: cancels what runs, joins its threads

  // Begins to load on the loader thread and returns. AlreadyExists: the name is taken; ResourceExhausted MEMORY_BUDGET:
  // it would not fit (found by the plan, on the loader thread: then the model's state is kFailed).
  virtual absl::Status Load(const std::string& name, const LoadSpec& spec, const QueueLimits& queue) = 0;
  // Blocks until no model is loading; the first failure, if any.
  virtual absl::Status WaitUntilLoaded() = 0;

  // An empty name finds the one model there is. NotFound MODEL_NOT_FOUND; Unavailable MODEL_LOADING (with a retry
  // delay) or DRAINING; FailedPrecondition MODEL_NOT_LOADED: its load failed.
  virtual absl::StatusOr<std::shared_ptr<LlmHandle>> Find(std::string_view name) = 0;
  virtual absl::StatusOr<ModelInfo> Get(std::string_view name) const = 0;
  virtual std::vector<ModelInfo> List() const = 0;
  // Opens the checkpoint, on the calling thread, and fails where a load would. Of a folder without weights it plans
  // what config.json says. The ways to fit are in the budget less `taken_bytes`.
  virtual absl::StatusOr<MemoryPlan> Plan(const LoadSpec& spec, int64_t taken_bytes) const = 0;
  virtual int64_t memory_budget_bytes() const = 0;
  virtual DeviceInfo device() const = 0;
  virtual Duration last_step_age(
      const std::string& model) const = 0;  // since its last step while work waits; else zero

  // New requests are refused with DRAINING. Returns when nothing runs or at the deadline, whatever runs then being
  // ended with Unavailable DRAINING.
  virtual void Drain(TimePoint deadline) = 0;
};

}  // namespace quantd
