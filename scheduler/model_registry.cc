#include "scheduler/model_registry.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <thread>
#include <utility>

#include "base/allocation_failure.h"
#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/ways_to_fit.h"
#include "scheduler/llm_engine.h"
#include "scheduler/memory_budget.h"
#include "scheduler/worker.h"

namespace quantd {
namespace {

// The message of a model that does not fit, with the settings that would help, as they are in a configuration file.
absl::Status AdviseOnFit(absl::Status refused, const std::vector<WayToFit>& ways) {
  if (ways.empty()) return refused;
  std::string advice;
  for (const WayToFit& way : ways) {
    absl::StrAppend(&advice, advice.empty() ? "" : ", or ", way.setting, " ", way.value, " (", way.total_bytes, ")");
  }
  return WithReason(absl::ResourceExhaustedError(absl::StrCat(refused.message(), "; it fits with ", advice)),
                    GetReason(refused));
}

void LogWarnings(const std::string& model, const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) LogWarning(absl::StrCat("model=", model, " ", warning));
}

// A loaded model as its engine steps it; destroyed with the engine, on the worker's thread.
class LoadedRunner final : public StepRunner {
 public:
  explicit LoadedRunner(LoadedModel model) : model_(std::move(model)) {}
  absl::Status Step(const LlmStepInput& input, std::span<SampleResult> results) override {
    return model_.runner->Step(input, results);
  }

 private:
  LoadedModel model_;
};

class Registry final : public ModelRegistry {
 public:
  Registry(const RegistryOptions& options, Hooks hooks, std::unique_ptr<Worker> worker)
      : options_(options), hooks_(std::move(hooks)), worker_(std::move(worker)) {
    budget_ = options.memory_budget_bytes > 0 ? options.memory_budget_bytes : MachineMemoryLimit() / 10 * 9;
    loader_ = std::thread([this] { LoadAll(); });
  }
  ~Registry() override;

  absl::Status Load(const std::string& name, const LoadSpec& spec, const QueueLimits& queue) override;
  absl::Status WaitUntilLoaded() override;
  absl::StatusOr<std::shared_ptr<LlmHandle>> Find(std::string_view name) override;
  absl::StatusOr<ModelInfo> Get(std::string_view name) const override;
  std::vector<ModelInfo> List() const override;
  absl::StatusOr<MemoryPlan> Plan(const LoadSpec& spec, int64_t taken_bytes) const override;
  int64_t memory_budget_bytes() const override { return budget_; }
  DeviceInfo device() const override { return worker_->device(); }
  Duration last_step_age(const std::string& model) const override;
  void Drain(TimePoint deadline) override;

 private:
  struct Entry {
    ModelInfo info;
    std::shared_ptr<LlmPort> port;  // once ready
    int64_t planned_bytes = 0;      // what it holds of the budget
  };

  void LoadAll();
  void LoadOne(const std::string& name);
  absl::StatusOr<std::shared_ptr<LlmPort>> TryLoad(const std::string& name);
  absl::Status Admit(const std::string& name, const MemoryPlan& plan);
  int64_t Left() const;                  // of the budget
  void TellOf(const std::string& name);  // with no lock held
  ModelInfo Snapshot(const Entry& entry) const QD_REQUIRES(mutex_);
  absl::Status Unknown(std::string_view name) const QD_REQUIRES(mutex_);  // NotFound, with the names that are known

  const RegistryOptions options_;
  const Hooks hooks_;
  int64_t budget_ = 0;
  const std::unique_ptr<Worker> worker_;
  std::atomic<bool> stopping_{false};

  mutable Mutex mutex_;
  CondVar changed_;
  std::map<std::string, Entry, std::less<>> models_ QD_GUARDED_BY(mutex_);
  std::deque<std::string> to_load_ QD_GUARDED_BY(mutex_);
  int loading_ QD_GUARDED_BY(mutex_) = 0;
  bool draining_ QD_GUARDED_BY(mutex_) = false;
  ModelId last_id_ QD_GUARDED_BY(mutex_) = 0;
  std::thread loader_;
};

// The loader goes first: it waits for the worker, never the other way round.
Registry::~Registry() {
  stopping_ = true;
  {
    MutexLock lock(mutex_);
    changed_.NotifyAll();
  }
  loader_.join();
}

absl::Status Registry::Load(const std::string& name, const LoadSpec& spec, const QueueLimits& queue) {
  ModelInfo info;
  {
    MutexLock lock(mutex_);
    if (draining_) return WithReason(absl::UnavailableError("the daemon is draining"), "DRAINING");
    auto [it, fresh] = models_.try_emplace(name);
    if (!fresh) return absl::AlreadyExistsError(absl::StrCat("model ", name, " exists already"));
    Entry& entry = it->second;
    entry.info.name = name;
    entry.info.id = ++last_id_;
    entry.info.spec = spec;
    entry.info.queue = queue;
    entry.info.device = worker_->device().id;
    ++loading_;
    info = entry.info;
  }
  if (hooks_.on_change) hooks_.on_change(info);
  // Only now, so that nobody hears of a later state before this one.
  MutexLock lock(mutex_);
  to_load_.push_back(name);
  changed_.NotifyAll();
  return absl::OkStatus();
}

absl::Status Registry::WaitUntilLoaded() {
  MutexLock lock(mutex_);
  while (loading_ > 0) changed_.Wait(mutex_);
  for (const auto& [name, entry] : models_) {
    if (!entry.info.failure.ok()) return entry.info.failure;
  }
  return absl::OkStatus();
}

void Registry::LoadAll() {
  while (true) {
    std::string name;
    {
      MutexLock lock(mutex_);
      while (to_load_.empty() && !stopping_) changed_.Wait(mutex_);
      if (to_load_.empty()) return;
      name = std::move(to_load_.front());
      to_load_.pop_front();
    }
    LoadOne(name);
  }
}

void Registry::LoadOne(const std::string& name) {
  const TimePoint begin = Now();
  absl::StatusOr<std::shared_ptr<LlmPort>> port = absl::CancelledError();
  const absl::Status caught = CatchAllocationFailure([&] {
    if (stopping_) return absl::CancelledError("the daemon ends");
    port = TryLoad(name);
    return absl::OkStatus();
  });
  if (!caught.ok()) port = caught;
  malloc_trim(0);  // glibc keeps what the tensors on their way through the host took; it shows as unattributed
  {
    MutexLock lock(mutex_);
    Entry& entry = models_.find(name)->second;
    entry.info.load_time = Now() - begin;
    if (port.ok()) {
      entry.port = *port;
      entry.info.limits = entry.port->limits();
      entry.info.state = draining_ ? ModelState::kDraining : ModelState::kReady;
      if (draining_) entry.port->StartDraining();
    } else {
      entry.info.state = ModelState::kFailed;
      entry.info.failure = port.status();
      entry.planned_bytes = 0;
    }
  }
  IfMemoryAllows([&] { TellOf(name); });
  MutexLock lock(mutex_);
  --loading_;
  changed_.NotifyAll();
}

void Registry::TellOf(const std::string& name) {
  if (!hooks_.on_change) return;
  ModelInfo info;
  {
    MutexLock lock(mutex_);
    info = Snapshot(models_.find(name)->second);
  }
  hooks_.on_change(info);
}

absl::StatusOr<std::shared_ptr<LlmPort>> Registry::TryLoad(const std::string& name) {
  LoadSpec spec;
  QueueLimits queue;
  ModelId id = 0;
  {
    MutexLock lock(mutex_);
    const ModelInfo& info = models_.find(name)->second.info;
    spec = info.spec;
    queue = info.queue;
    id = info.id;
  }
  std::shared_ptr<EngineObserver> observer = hooks_.make_observer(name);
  QD_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenCheckpoint(spec.path));
  QD_ASSIGN_OR_RETURN(MemoryPlan plan, PlanModel(checkpoint, spec, options_.backend, options_.backend_options));
  if (absl::Status admitted = Admit(name, plan); !admitted.ok()) {
    return AdviseOnFit(std::move(admitted),
                       WaysToFit(checkpoint, spec, plan, options_.backend, options_.backend_options, Left()));
  }
  QD_ASSIGN_OR_RETURN(std::shared_ptr<const TextCodec> codec, TextCodec::Create(checkpoint));
  LogWarnings(name, plan.warnings);
  LogWarnings(name, codec->warnings());
  LoadHooks hooks;
  hooks.progress = [&](const LoadProgress& progress) {
    MutexLock lock(mutex_);
    models_.find(name)->second.info.progress = progress;
  };
  hooks.cancelled = [&] { return stopping_.load(); };
  hooks.on_device = [&](const std::function<void()>& work) {
    const bool ran = worker_->RunOnDevice(work);
    QD_CHECK(ran);  // the worker outlives the loader
  };
  QD_ASSIGN_OR_RETURN(LoadedModel model, LoadModel(checkpoint, spec, plan, worker_->backend(), id, hooks));
  const int64_t vocab_size = model.model->shape().vocab_size;
  {
    MutexLock lock(mutex_);
    ModelInfo& info = models_.find(name)->second.info;
    info.revision = checkpoint.revision;
    info.kv_bytes_per_token = plan.kv_bytes_per_token;
    info.parameters = model.parameters;
    info.layers = std::move(model.layers);
  }
  LlmEngineOptions options;
  options.port.name = name;
  options.port.revision = checkpoint.revision;
  options.port.codec = codec;
  options.port.observer = std::move(observer);
  options.port.mailbox = worker_->mailbox();
  options.port.limits = {.max_context = model.model->shape().max_context,
                         .vocab_size = vocab_size,
                         .kv_blocks = model.cache->config().blocks,
                         .kv_block_tokens = kKvBlockTokens,
                         .max_sequences = model.limits.max_sequences,
                         .max_batch_tokens = model.limits.max_tokens,
                         .queue = queue};
  options.tokenizer = &codec->tokenizer();
  options.eos_token_ids = codec->eos_token_ids();
  options.suppress_tokens = codec->defaults().suppress_tokens;
  options.begin_suppress_tokens = codec->defaults().begin_suppress_tokens;
  std::shared_ptr<LlmPort> port;
  worker_->RunOnDevice([&] {
    auto engine = std::make_unique<LlmEngine>(std::move(options), std::make_unique<LoadedRunner>(std::move(model)));
    port = engine->port();
    worker_->AddEngine(std::move(engine));
  });
  return port;
}

absl::Status Registry::Admit(const std::string& name, const MemoryPlan& plan) {
  MutexLock lock(mutex_);
  int64_t held = 0;
  for (const auto& [other, entry] : models_) held += entry.planned_bytes;
  if (plan.use.total() > budget_ - held) {
    return WithReason(absl::ResourceExhaustedError(absl::StrCat("model ", name, " needs ", plan.use.total(),
                                                                " bytes, the memory budget of ", budget_, " has ",
                                                                std::max<int64_t>(budget_ - held, 0), " left")),
                      "MEMORY_BUDGET");
  }
  models_.find(name)->second.planned_bytes = plan.use.total();
  return absl::OkStatus();
}

int64_t Registry::Left() const {
  MutexLock lock(mutex_);
  int64_t held = 0;
  for (const auto& [name, entry] : models_) held += entry.planned_bytes;
  return std::max<int64_t>(budget_ - held, 0);
}

absl::Status Registry::Unknown(std::string_view name) const {
  std::string known;
  for (const auto& [other, entry] : models_) absl::StrAppend(&known, known.empty() ? "" : ", ", other);
  return WithReason(absl::NotFoundError(absl::StrCat(name.empty() ? "no model named" : "no such model",
                                                     ToAbsl(name.empty() ? "" : " "), ToAbsl(name),
                                                     ", known: ", known.empty() ? "none" : known)),
                    "MODEL_NOT_FOUND");
}

absl::StatusOr<std::shared_ptr<LlmHandle>> Registry::Find(std::string_view name) {
  MutexLock lock(mutex_);
  auto it = models_.find(name);
  if (name.empty() && models_.size() == 1) it = models_.begin();
  if (it == models_.end()) return Unknown(name);
  const Entry& entry = it->second;
  const std::string& found = entry.info.name;
  switch (entry.info.state) {
    case ModelState::kReady:
    case ModelState::kDraining:  // its handle refuses, and counts
      return std::shared_ptr<LlmHandle>(entry.port);
    case ModelState::kLoading:
      return WithRetryAfter(
          WithReason(absl::UnavailableError(absl::StrCat("model ", found, " is loading")), "MODEL_LOADING"),
          std::chrono::seconds(1));
    case ModelState::kFailed:
      break;
  }
  return WithReason(
      absl::FailedPreconditionError(absl::StrCat("model ", found, " failed to load: ", entry.info.failure.message())),
      "MODEL_NOT_LOADED");
}

absl::StatusOr<ModelInfo> Registry::Get(std::string_view name) const {
  MutexLock lock(mutex_);
  const auto it = models_.find(name);
  if (it == models_.end()) return Unknown(name);
  return Snapshot(it->second);
}

std::vector<ModelInfo> Registry::List() const {
  MutexLock lock(mutex_);
  std::vector<ModelInfo> all;
  for (const auto& [name, entry] : models_) all.push_back(Snapshot(entry));
  return all;
}

ModelInfo Registry::Snapshot(const Entry& entry) const {
  ModelInfo info = entry.info;
  const MemorySnapshot memory = worker_->memory();
  if (const auto it = memory.models.find(info.id); it != memory.models.end()) info.memory = it->second;
  if (const auto it = memory.peak_bytes.find(info.id); it != memory.peak_bytes.end()) info.peak_bytes = it->second;
  if (entry.port != nullptr) {
    info.kv_resident_bytes = entry.port->load().blocks_touched * kKvBlockTokens * info.kv_bytes_per_token;
  }
  return info;
}

absl::StatusOr<MemoryPlan> Registry::Plan(const LoadSpec& spec, int64_t taken_bytes) const {
  QD_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenCheckpoint(spec.path, WeightFiles::kOptional));
  QD_ASSIGN_OR_RETURN(MemoryPlan plan, PlanModel(checkpoint, spec, options_.backend, options_.backend_options));
  plan.ways_to_fit = WaysToFit(checkpoint, spec, plan, options_.backend, options_.backend_options,
                               std::max<int64_t>(budget_ - taken_bytes, 0));
  const bool of_shapes_alone = checkpoint.weights->assumed().has_value();
  const absl::StatusOr<std::shared_ptr<const TextCodec>> codec = TextCodec::Create(checkpoint);
  if (codec.ok()) {
    plan.warnings.insert(plan.warnings.end(), (*codec)->warnings().begin(), (*codec)->warnings().end());
  } else if (of_shapes_alone && absl::IsNotFound(codec.status())) {
    plan.warnings.push_back(std::string(codec.status().message()));
  } else {
    return codec.status();
  }
  return plan;
}

Duration Registry::last_step_age(const std::string& model) const {
  std::shared_ptr<LlmPort> port;
  {
    MutexLock lock(mutex_);
    if (const auto it = models_.find(model); it != models_.end()) port = it->second.port;
  }
  return port == nullptr ? Duration::zero() : port->step_age();
}

void Registry::Drain(TimePoint deadline) {
  std::vector<ModelInfo> told;
  std::vector<std::shared_ptr<LlmPort>> ports;
  {
    MutexLock lock(mutex_);
    draining_ = true;
    for (auto& [name, entry] : models_) {
      if (entry.port == nullptr) continue;
      entry.port->StartDraining();
      entry.info.state = ModelState::kDraining;
      ports.push_back(entry.port);
      told.push_back(Snapshot(entry));
    }
  }
  if (hooks_.on_change) {
    for (const ModelInfo& info : told) hooks_.on_change(info);
  }
  for (const auto& port : ports) port->WaitUntilIdle(deadline);
  const absl::Status end = WithReason(absl::UnavailableError("the model is draining and its time is up"), "DRAINING");
  // More than once only for a submission that was under way when draining began.
  for (const auto& port : ports) {
    while (!port->WaitUntilIdle(Now())) worker_->RunOnDevice([&] { worker_->EndAll(end); });
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelRegistry>> ModelRegistry::Create(const RegistryOptions& options, Hooks hooks) {
  QD_CHECK(hooks.make_observer != nullptr);
  QD_ASSIGN_OR_RETURN(std::unique_ptr<Worker> worker, Worker::Start(options.backend, options.backend_options));
  return std::make_unique<Registry>(options, std::move(hooks), std::move(worker));
}

}  // namespace quantd
