#include "server/metrics.h"

#include <array>
#include <map>
#include <utility>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "base/allocation_failure.h"
#include "base/log_limit.h"
#include "base/mutex.h"
#include "base/strings.h"
#include "scheduler/memory_budget.h"
#include "server/convert.h"
#include "server/edge_metrics.h"
#include "server/process_memory.h"
#include "server/request_log.h"
#include "server/status.h"
#include "server/version.h"

namespace quantd {
namespace {
using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using Labels = std::map<std::string, std::string>;
using Buckets = Histogram::BucketBoundaries;

const Buckets kRequestSeconds = {.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800};
const Buckets kQueueSeconds = {.0001, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300};
const Buckets kFirstTokenSeconds = {.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300};
const Buckets kInterTokenSeconds = {.0005, .001, .002, .004, .006, .008, .01, .015, .02,
                                    .03,   .05,  .075, .1,   .15,  .25,  .5,  1,    2.5};
const Buckets kStepSeconds = {.00025, .0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60};
const Buckets kStepTokens = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192};

constexpr int kNumCodes = 17;  // gRPC's
// The reasons of serving.md's table that can occur, and one for whatever is new.
constexpr std::array<const char*, 6> kRejections = {"queue_full", "token_budget", "deadline",
                                                    "draining",   "too_large",    "other"};
constexpr std::array<const char*, 3> kPhases = {"prefill", "decode", "mixed"};
constexpr std::array<ModelState, 4> kStates = {ModelState::kLoading, ModelState::kReady, ModelState::kDraining,
                                               ModelState::kFailed};

// The scheme that holds most of the weights' bytes; what was asked for while nothing is loaded.
std::string MainScheme(const ModelInfo& info) {
  std::map<std::string, int64_t> bytes;
  std::string best = info.spec.weights.empty() ? "checkpoint" : info.spec.weights;
  for (const LayerReport& layer : info.layers) bytes[layer.scheme] += layer.bytes;
  int64_t most = 0;
  for (const auto& [scheme, n] : bytes) {
    if (n > most) {
      most = n;
      best = scheme;
    }
  }
  return best;
}

std::string GroupSize(const std::string& scheme) {
  absl::StatusOr<QuantScheme> parsed = ParseQuantScheme(scheme);
  return parsed.ok() ? std::to_string(parsed->group_k) : "0";
}
}  // namespace

struct Metrics::Families {
  explicit Families(const DeviceInfo& device) {
    AddBuildInfo(device);
    for (int code = 0; code < kNumCodes; ++code) requests.Add(RequestLabels("unknown", code));
  }

  static Labels RequestLabels(const std::string& model, int code) {
    return {{"model", model}, {"kind", "generate"}, {"code", CodeName(static_cast<absl::StatusCode>(code))}};
  }
  void AddBuildInfo(const DeviceInfo& device) {
    BuildGauge()
        .Name("quantd_build_info")
        .Help("Always 1; the labels say what runs.")
        .Register(registry)
        .Add({{"version", std::string(Version())},
              {"commit", std::string(Commit())},
              {"cuda", "none"},
              {"isa", device.isa}})
        .Set(1);
  }
  Family<Counter>& NewCounter(const char* name, const char* help) {
    return BuildCounter().Name(name).Help(help).Register(registry);
  }
  Family<Gauge>& NewGauge(const char* name, const char* help) {
    return BuildGauge().Name(name).Help(help).Register(registry);
  }
  Family<Histogram>& NewHistogram(const char* name, const char* help) {
    return BuildHistogram().Name(name).Help(help).Register(registry);
  }

  prometheus::Registry registry;  // first: the families live in it
  Family<Histogram>& duration =
      NewHistogram("quantd_request_duration_seconds", "From arrival to the end of a request.");
  Family<Histogram>& queue =
      NewHistogram("quantd_request_queue_seconds", "From arrival to the first step of a request.");
  Family<Histogram>& first_token =
      NewHistogram("quantd_time_to_first_token_seconds", "From arrival to the first token.");
  Family<Histogram>& inter_token =
      NewHistogram("quantd_inter_token_seconds", "Between two successive tokens of a request.");
  Family<Histogram>& step_seconds = NewHistogram("quantd_step_duration_seconds", "One step of the engine.");
  Family<Histogram>& step_tokens =
      NewHistogram("quantd_step_tokens", "Tokens of one step, prompt and output together.");
  Family<Counter>& requests = NewCounter("quantd_requests_total", "Ended requests by gRPC code.");
  Family<Counter>& rejected = NewCounter("quantd_requests_rejected_total", "Requests refused at the door, by reason.");
  Family<Counter>& finished =
      NewCounter("quantd_outputs_finished_total", "Outputs that ended well, by why they ended.");
  Family<Counter>& tokens =
      NewCounter("quantd_tokens_total",
                 "Tokens, step by step: of prompts computed, of prompts found in the prefix cache, generated.");
  Family<Counter>& preemptions = NewCounter("quantd_preemptions_total", "Sequences that lost their blocks to another.");
  Family<Counter>& preempted_tokens =
      NewCounter("quantd_preempted_tokens_total", "Computed tokens that preemptions threw away.");
  Family<Counter>& prefix_queried =
      NewCounter("quantd_prefix_cache_queried_tokens_total", "Prompt tokens looked up in the prefix cache.");
  Family<Counter>& prefix_hit = NewCounter("quantd_prefix_cache_hit_tokens_total", "Prompt tokens found there.");
  Family<Gauge>& running =
      NewGauge("quantd_requests_running", "Requests that hold KV blocks or wait for their reader.");
  Family<Gauge>& waiting =
      NewGauge("quantd_requests_waiting", "Requests in the engine's queue, preempted ones included.");
  Family<Gauge>& waiting_tokens = NewGauge("quantd_waiting_tokens", "Prompt tokens of waiting requests.");
  Family<Gauge>& oldest_waiting = NewGauge("quantd_oldest_waiting_seconds", "Age of the oldest waiting request.");
  Family<Gauge>& estimated_queue =
      NewGauge("quantd_estimated_queue_seconds", "How long a new request of priority batch would wait, estimated.");
  Family<Gauge>& kv_usage = NewGauge("quantd_kv_cache_usage_ratio", "Used KV blocks by all KV blocks.");
  Family<Gauge>& kv_blocks =
      NewGauge("quantd_kv_blocks", "KV blocks in use, kept for their prefix (reclaimable), and free.");
  Family<Gauge>& kv_block_tokens = NewGauge("quantd_kv_block_tokens", "Tokens a KV block.");
  Family<Gauge>& kv_token_bytes =
      NewGauge("quantd_kv_cache_token_bytes", "KV cache bytes a token, all layers, scales included.");
  Family<Gauge>& kv_resident =
      NewGauge("quantd_kv_cache_resident_bytes", "Of the KV cache's memory, what has been used at least once.");
  Family<Gauge>& memory = NewGauge("quantd_memory_bytes", "Device memory by what it is for.");
  Family<Gauge>& memory_peak = NewGauge("quantd_memory_peak_bytes", "The most a model's memory came to.");
  Family<Gauge>& device_total = NewGauge("quantd_device_memory_total_bytes",
                                         "Memory of the device; on a CPU the cgroup's limit or the machine's memory.");
  Family<Gauge>& device_used = NewGauge("quantd_device_memory_used_bytes",
                                        "Memory in use on the device; on a CPU the resident memory of the process.");
  Family<Gauge>& device_unattributed =
      NewGauge("quantd_device_memory_unattributed_bytes", "Used less all of quantd_memory_bytes that is resident.");
  Family<Gauge>& model_info = NewGauge("quantd_model_info", "Always 1; the labels say what the model is.");
  Family<Gauge>& load_seconds = NewGauge("quantd_model_load_seconds", "How long the load took; 0 until it is done.");
  Family<Gauge>& model_state = NewGauge("quantd_model_state", "1 for the state that the model is in.");
  Family<Gauge>& last_step_age =
      NewGauge("quantd_last_step_age_seconds", "Since the last step while work waits; else 0.");

  Histogram& unrouted_duration = duration.Add({{"model", "unknown"}, {"kind", "generate"}}, kRequestSeconds);
  LogLimiter unrouted_lines;  // the log's, of requests that reached no model
  EdgeMetrics edge{registry};
  Gauge& request_memory =
      NewGauge("quantd_request_memory_bytes", "Of requests in memory until they are encoded.").Add({});
  Gauge& request_memory_limit =
      NewGauge("quantd_request_memory_limit_bytes", "The most of them that there may be.").Add({});

  Mutex scrape_mutex;  // one scrape at a time sets the gauges and reads them
  std::map<std::string, Gauge*> infos QD_GUARDED_BY(scrape_mutex);  // model → its current quantd_model_info
};

// Of one model. Observations come from its worker thread; OnRejected and some OnEnded from the callers'.
class Metrics::Observer final : public EngineObserver {
 public:
  Observer(std::shared_ptr<Families> families, std::string model)
      : f_(std::move(families)),
        model_(std::move(model)),
        duration_(f_->duration.Add({{"model", model_}, {"kind", "generate"}}, kRequestSeconds)),
        first_token_(f_->first_token.Add({{"model", model_}}, kFirstTokenSeconds)),
        inter_token_(f_->inter_token.Add({{"model", model_}}, kInterTokenSeconds)),
        prompt_tokens_(f_->tokens.Add({{"model", model_}, {"type", "prompt"}})),
        cached_tokens_(f_->tokens.Add({{"model", model_}, {"type", "prompt_cached"}})),
        new_tokens_(f_->tokens.Add({{"model", model_}, {"type", "generated"}})),
        preemptions_(f_->preemptions.Add({{"model", model_}})),
        preempted_tokens_(f_->preempted_tokens.Add({{"model", model_}})),
        prefix_queried_(f_->prefix_queried.Add({{"model", model_}})),
        prefix_hit_(f_->prefix_hit.Add({{"model", model_}})),
        running_(f_->running.Add({{"model", model_}})),
        waiting_(f_->waiting.Add({{"model", model_}})),
        waiting_tokens_(f_->waiting_tokens.Add({{"model", model_}})),
        oldest_waiting_(f_->oldest_waiting.Add({{"model", model_}})),
        estimated_queue_(f_->estimated_queue.Add({{"model", model_}})),
        kv_usage_(f_->kv_usage.Add({{"model", model_}})),
        blocks_used_(f_->kv_blocks.Add({{"model", model_}, {"state", "used"}})),
        blocks_cached_(f_->kv_blocks.Add({{"model", model_}, {"state", "cached"}})),
        blocks_free_(f_->kv_blocks.Add({{"model", model_}, {"state", "free"}})) {
    for (int p = 0; p < kNumPriorities; ++p) {
      queue_[static_cast<size_t>(p)] =
          &f_->queue.Add({{"model", model_}, {"priority", std::string(Name(static_cast<Priority>(p)))}}, kQueueSeconds);
    }
    for (size_t i = 0; i < kPhases.size(); ++i) {
      const Labels labels{{"model", model_}, {"phase", kPhases[i]}};
      step_seconds_[i] = &f_->step_seconds.Add(labels, kStepSeconds);
      step_tokens_[i] = &f_->step_tokens.Add(labels, kStepTokens);
    }
    for (int code = 0; code < kNumCodes; ++code) {
      requests_[static_cast<size_t>(code)] = &f_->requests.Add(Families::RequestLabels(model_, code));
    }
    for (size_t i = 0; i < kNumFinishReasons; ++i) {
      const std::string reason(Name(static_cast<FinishReason>(i)));
      finished_[reason] = &f_->finished.Add({{"model", model_}, {"reason", reason}});
    }
    for (const char* reason : kRejections) {
      rejected_[reason] = &f_->rejected.Add({{"model", model_}, {"reason", reason}});
    }
  }

  void OnRejected(std::string_view reason) override {
    auto it = rejected_.find(reason);
    (it != rejected_.end() ? it : rejected_.find("other"))->second->Increment();
  }
  void OnStarted(Priority priority, Duration queued) override {
    queue_[static_cast<size_t>(priority)]->Observe(ToSeconds(queued));
  }
  void OnFirstToken(Duration since_arrival) override { first_token_.Observe(ToSeconds(since_arrival)); }
  void OnInterToken(Duration gap) override { inter_token_.Observe(ToSeconds(gap)); }
  void OnPrefixLookup(int64_t queried_tokens, int64_t hit_tokens) override {
    prefix_queried_.Increment(static_cast<double>(queried_tokens));
    prefix_hit_.Increment(static_cast<double>(hit_tokens));
  }
  void OnPreempted(int64_t lost_tokens) override {
    preemptions_.Increment();
    preempted_tokens_.Increment(static_cast<double>(lost_tokens));
  }
  void OnStep(StepPhase phase, int64_t tokens, int64_t /*sequences*/, Duration duration) override {
    step_seconds_[static_cast<size_t>(phase)]->Observe(ToSeconds(duration));
    step_tokens_[static_cast<size_t>(phase)]->Observe(static_cast<double>(tokens));
  }
  void OnTokens(const StepTokens& tokens) override {
    prompt_tokens_.Increment(static_cast<double>(tokens.prompt));
    cached_tokens_.Increment(static_cast<double>(tokens.prompt_cached));
    new_tokens_.Increment(static_cast<double>(tokens.generated));
  }
  void OnEnded(const RequestRecord& record) override {
    const auto code = static_cast<size_t>(record.code);
    requests_[code < kNumCodes ? code : static_cast<size_t>(absl::StatusCode::kUnknown)]->Increment();
    duration_.Observe(ToSeconds(record.timing.total));
    if (const auto it = finished_.find(record.reason); record.code == absl::StatusCode::kOk && it != finished_.end()) {
      it->second->Increment();
    }
    IfMemoryAllows([&] { LogRequest(model_, record); });
  }
  void OnGauges(const EngineGauges& g) override {
    const auto set = [](Gauge& gauge, int64_t value) { gauge.Set(static_cast<double>(value)); };
    set(running_, g.running);
    set(waiting_, g.waiting);
    set(waiting_tokens_, g.waiting_tokens);
    oldest_waiting_.Set(g.oldest_waiting_seconds);
    estimated_queue_.Set(g.estimated_queue_seconds);
    set(blocks_used_, g.blocks_used);
    set(blocks_cached_, g.blocks_cached);
    set(blocks_free_, g.blocks_free);
    const int64_t all = g.blocks_used + g.blocks_cached + g.blocks_free;
    kv_usage_.Set(all > 0 ? static_cast<double>(g.blocks_used) / static_cast<double>(all) : 0);
  }

 private:
  const std::shared_ptr<Families> f_;
  const std::string model_;
  Histogram &duration_, &first_token_, &inter_token_;
  Counter &prompt_tokens_, &cached_tokens_, &new_tokens_, &preemptions_, &preempted_tokens_, &prefix_queried_,
      &prefix_hit_;
  Gauge &running_, &waiting_, &waiting_tokens_, &oldest_waiting_, &estimated_queue_, &kv_usage_, &blocks_used_,
      &blocks_cached_, &blocks_free_;
  std::array<Histogram*, kNumPriorities> queue_{};
  std::array<Histogram*, kPhases.size()> step_seconds_{}, step_tokens_{};
  std::array<Counter*, kNumCodes> requests_{};
  std::map<std::string, Counter*, std::less<>> rejected_, finished_;  // by reason
};

Metrics::Metrics(const DeviceInfo& device) : families_(std::make_shared<Families>(device)), device_id_(device.id) {}
Metrics::~Metrics() = default;

std::shared_ptr<EngineObserver> Metrics::MakeObserver(const std::string& model) {
  return std::make_shared<Observer>(families_, model);
}

void Metrics::OnUnrouted(const LlmRequest& request, const absl::Status& status) {
  families_->requests.Add(Families::RequestLabels("unknown", static_cast<int>(status.code()))).Increment();
  families_->unrouted_duration.Observe(ToSeconds(Now() - request.arrival));
  const std::string reason = ReasonOf(status);
  RequestRecord record;
  record.id = request.id;
  record.priority = request.priority;
  record.code = status.code();
  record.reason = reason;
  record.timing.total = Now() - request.arrival;
  // One a second and code: a stranger can send any number of them.
  const std::optional<int64_t> left_out = families_->unrouted_lines.Admit(CodeName(record.code), Now());
  if (left_out.has_value()) LogRequest("unknown", record, LeftOut(*left_out));
}

std::string Metrics::Scrape(const ModelRegistry& registry, const Edge& edge, const MessageGate& gate) {
  Families& f = *families_;
  MutexLock lock(f.scrape_mutex);
  int64_t attributed = 0;
  for (const ModelInfo& info : registry.List()) {
    const Labels model{{"model", info.name}};
    const auto with = [&](std::initializer_list<std::pair<const std::string, std::string>> more) {
      Labels labels = model;
      labels.insert(more.begin(), more.end());
      return labels;
    };
    const int64_t kv = info.memory.bytes[static_cast<size_t>(MemoryComponent::kKvCache)];
    attributed += info.memory.total() - kv + info.kv_resident_bytes;
    f.kv_resident.Add(model).Set(static_cast<double>(info.kv_resident_bytes));
    for (int c = 0; c < kNumMemoryComponents; ++c) {
      const std::string component(Name(static_cast<MemoryComponent>(c)));
      f.memory.Add(with({{"device", device_id_}, {"component", component}}))
          .Set(static_cast<double>(info.memory.bytes[static_cast<size_t>(c)]));
    }
    f.memory_peak.Add(with({{"device", device_id_}})).Set(static_cast<double>(info.peak_bytes));
    f.load_seconds.Add(model).Set(ToSeconds(info.load_time));
    for (ModelState state : kStates) {
      f.model_state.Add(with({{"state", std::string(Name(state))}})).Set(info.state == state ? 1 : 0);
    }
    f.last_step_age.Add(model).Set(ToSeconds(registry.last_step_age(info.name)));
    f.kv_block_tokens.Add(model).Set(kKvBlockTokens);
    f.kv_token_bytes.Add(with({{"format", KvName(info.spec)}})).Set(static_cast<double>(info.kv_bytes_per_token));
    // The labels are known for good only once it is loaded: the old set goes when they change.
    const std::string scheme = MainScheme(info);
    Gauge& now = f.model_info.Add(with({{"kind", "generate"},
                                        {"weights", scheme},
                                        {"group_size", GroupSize(scheme)},
                                        {"kv", KvName(info.spec)},
                                        {"device", device_id_}}));
    now.Set(1);
    Gauge*& known = f.infos[info.name];
    if (known != nullptr && known != &now) f.model_info.Remove(known);
    known = &now;
  }
  const Labels device{{"device", device_id_}, {"device_uuid", ""}};
  const int64_t used = ResidentBytes();
  f.device_total.Add(device).Set(static_cast<double>(MachineMemoryLimit()));
  f.device_used.Add(device).Set(static_cast<double>(used));
  f.device_unattributed.Add(device).Set(static_cast<double>(used - attributed));
  f.edge.Set(edge);
  f.request_memory.Set(static_cast<double>(gate.open_bytes()));
  f.request_memory_limit.Set(static_cast<double>(gate.limits().max_total_bytes));
  return prometheus::TextSerializer().Serialize(f.registry.Collect());
}

}  // namespace quantd
