#include "server/daemon.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include <grpc/grpc.h>
#include <grpcpp/grpcpp.h>

#include "base/allocation_failure.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "quantd/v1/control.pb.h"
#include "quantd/v1/diffusion.pb.h"
#include "server/active_requests.h"
#include "server/convert.h"
#include "server/edge/descriptors.h"
#include "server/edge/edge.h"
#include "server/edge/heap_trim.h"
#include "server/generation_service.h"
#include "server/health_service.h"
#include "server/http_endpoint.h"
#include "server/message_gate.h"
#include "server/metrics.h"
#include "server/models_service.h"
#include "server/process_memory.h"
#include "server/reflection_service.h"
#include "server/status.h"
#include "server/unbuilt_service.h"
#include "server/work_pool.h"

namespace quantd {
namespace {

// Prompts are bounded by the queues of their models too. Texts to tokenize are bounded by their bytes (request_memory,
// kMaxTokenizeBytes each); of short ones as many may wait as sixteen clients have calls open.
constexpr size_t kMaxWaitingPrompts = 1024, kMaxWaitingTexts = 4096, kMaxWaitingPlans = 4;

// Of a connection that stands still, with answers on their way, once everything else has ended.
constexpr Duration kStalled = std::chrono::milliseconds(500);
// For what gRPC has written and clients have not read, once gRPC is gone; until the end of the drain where that is
// later.
constexpr Duration kFlush = std::chrono::milliseconds(500);

// The services, and what an Any of a status may hold: a client that shows error details asks for it by its type's name.
std::vector<const google::protobuf::FileDescriptor*> ReflectedFiles() {
  return {v1::GenerateRequest::descriptor()->file(),
          v1::Model::descriptor()->file(),
          v1::ImageRequest::descriptor()->file(),
          v1::ServerInfo::descriptor()->file(),
          grpc::health::v1::HealthCheckRequest::descriptor()->file(),
          grpc::reflection::v1::ServerReflectionRequest::descriptor()->file(),
          grpc::reflection::v1alpha::ServerReflectionRequest::descriptor()->file(),
          google::rpc::Status::descriptor()->file(),
          google::rpc::ErrorInfo::descriptor()->file()};
}

class DaemonImpl final : public Daemon {
 public:
  explicit DaemonImpl(const ServerOptions& options)
      : options_(options),
        trimmer_(ResidentBytes),
        codec_pool_(std::make_unique<WorkPool>(options.codec_threads, kMaxWaitingPrompts,
                                               std::max(1, options.codec_threads - 1))),
        text_pool_(std::make_unique<WorkPool>(2, kMaxWaitingTexts, 1)),
        plan_pool_(std::make_unique<WorkPool>(1, kMaxWaitingPlans)) {
    if (options.reflection) reflection_.emplace(ReflectedFiles(), gate_);
  }

  ~DaemonImpl() override {
    StopListening(std::chrono::system_clock::now());
    http_.reset();
    codec_pool_.reset();
    text_pool_.reset();
    plan_pool_.reset();
    registry_.reset();
  }

  absl::Status Begin(const MakeRegistry& make) {
    QD_ASSIGN_OR_RETURN(const DescriptorPlan descriptors,
                        PlanDescriptors(CountDescriptors().limit, options_.edge.max_connections,
                                        HttpEndpoint::Options().max_connections));
    ModelRegistry::Hooks hooks;
    hooks.make_observer = [this](const std::string& model) { return metrics_->MakeObserver(model); };
    hooks.on_change = [this](const ModelInfo& info) { OnModelChange(info); };
    QD_ASSIGN_OR_RETURN(registry_, make(options_.registry, std::move(hooks)));
    metrics_ = std::make_unique<Metrics>(registry_->device());
    QD_RETURN_IF_ERROR(Listen(descriptors));
    QD_RETURN_IF_ERROR(StartHttp(descriptors));
    QD_RETURN_IF_ERROR(StartGrpc());
    QD_RETURN_IF_ERROR(ClearReadyFile());
    for (const ModelOptions& model : options_.models) {
      health_.Set("model:" + model.name, /*serving=*/false);
      QD_RETURN_IF_ERROR(registry_->Load(model.name, model.spec, model.queue));
    }
    return absl::OkStatus();
  }

  absl::Status WaitUntilReady() override {
    const absl::Status first_failure = registry_->WaitUntilLoaded();
    const std::vector<ModelInfo> models = registry_->List();
    const bool any =
        std::any_of(models.begin(), models.end(), [](const ModelInfo& m) { return m.state == ModelState::kReady; });
    if (!any && !models.empty()) return first_failure;
    MutexLock lock(ready_mutex_);
    if (draining_) return absl::OkStatus();  // too late: nobody is to find it ready
    ready_ = true;
    for (const char* name : {"", "quantd.v1.Generation"}) health_.Set(name, /*serving=*/true);
    return WriteReadyFile();
  }

  void Drain(Duration timeout) override {
    const TimePoint deadline = Now() + timeout;
    BeginDraining();
    health_.BeginShutdown();
    registry_->Drain(deadline);
    generation_->streams().WaitUntilNone(deadline);  // whose engines are done but whose readers are not
    StopListening(std::chrono::system_clock::now() +
                  std::chrono::duration_cast<std::chrono::system_clock::duration>(options_.flush_time));
  }
  void StopNow() override {
    BeginDraining();
    generation_->streams().Stop();
    registry_->Drain(Now());
  }

  ModelRegistry& registry() override { return *registry_; }
  const HostPort& grpc_address() const override { return edge_->address(); }
  int grpc_port() const override { return edge_->address().port; }
  int metrics_port() const override { return http_->port(); }

 private:
  void OnModelChange(const ModelInfo& info) {
    health_.Set("model:" + info.name, info.state == ModelState::kReady);
    if (info.state == ModelState::kReady) LogModel(info);
    if (info.state == ModelState::kFailed) {
      LogError(absl::StrCat("model ", info.name, ": load failed: ",
                            CodeAndReason(info.failure.code(), ReasonOf(info.failure)), ": ", info.failure.message()));
    }
  }

  absl::Status Listen(const DescriptorPlan& descriptors) {
    EdgeLimits limits = options_.edge;
    limits.max_connections = descriptors.connections;
    if (limits.max_connections < options_.edge.max_connections) {
      LogWarning(absl::StrCat("max_connections is ", limits.max_connections, ", not ", options_.edge.max_connections,
                              ": the limit of open files (ulimit -n) is ", CountDescriptors().limit));
    }
    QD_ASSIGN_OR_RETURN(edge_, Edge::Listen(options_.listen, limits));
    return absl::OkStatus();
  }

  absl::Status StartHttp(const DescriptorPlan& descriptors) {
    HttpEndpoint::Options options;
    options.max_connections = static_cast<size_t>(descriptors.metrics_connections);
    options.host = options_.metrics_listen.host;
    options.port = options_.metrics_listen.port;
    QD_ASSIGN_OR_RETURN(
        http_, HttpEndpoint::Start(options, {.metrics = [this] { return metrics_->Scrape(*registry_, *edge_, gate_); },
                                             .ready = [this] { return ready_ && !draining_ && edge_->Answers(); }}));
    return absl::OkStatus();
  }

  absl::Status StartGrpc() {
    // gRPC's runtime stays until the process ends: to take it down joins a poller that looks up every 10 s only, when a
    // write was cut (gRPC 1.51, run_poller of tcp_posix.cc).
    [[maybe_unused]] static const bool kKept = (grpc_init(), true);
    generation_ = std::make_unique<GenerationService>(
        GenerateDeps{*registry_, *codec_pool_, active_,
                     [this](const LlmRequest& r, const absl::Status& s) { metrics_->OnUnrouted(r, s); }, gate_},
        *text_pool_, options_.outbox, gate_);
    models_ = std::make_unique<ModelsService>(*registry_, *plan_pool_, options_.model_roots, gate_);
    for (const char* name : {"", "quantd.v1.Generation", "quantd.v1.Diffusion", "quantd.v1.Control"}) {
      health_.Set(name, /*serving=*/false);
    }
    health_.Set("quantd.v1.Models", /*serving=*/true);

    grpc::ServerBuilder builder;
    using Builder = grpc::ServerBuilder::experimental_type;
    acceptor_ = builder.experimental().AddExternalConnectionAcceptor(Builder::ExternalConnectionType::FROM_FD,
                                                                     grpc::InsecureServerCredentials());
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options_.edge.max_streams);
    // Beyond this much metadata gRPC ends the whole connection; the edge bounds what comes before (http2_guard.h).
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, static_cast<int>(2 * Http2Guard::kMaxHeaderBlockBytes));
    // gRPC would measure the line by PINGs of its own and then take larger frames than the edge lets pass.
    builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
    builder.SetMaxReceiveMessageSize(options_.max_receive_bytes);
    builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);  // the gate's, which bounds it
    builder.RegisterService(generation_.get());
    builder.RegisterService(models_.get());
    builder.RegisterService(&health_);
    if (reflection_.has_value()) reflection_->RegisterWith(builder);
    builder.RegisterCallbackGenericService(&unbuilt_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) return absl::InternalError("gRPC's server does not start");
    edge_->Start([this](int fd) {
      grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
      connection.listener_fd = -1;
      connection.fd = fd;
      acceptor_->HandleNewConnection(&connection);
    });
    return absl::OkStatus();
  }

  // A request is counted and logged whatever becomes of it.
  void OnRefused(const std::string& method, const absl::Status& status) {
    if (!method.starts_with("/quantd.v1.Generation/Generate")) return;  // or GenerateStream
    LlmRequest request;
    request.id = NewRequestId();
    request.arrival = Now();
    metrics_->OnUnrouted(request, status);
  }

  // Waits until every call is done; those that still run at the deadline are cancelled, which their engines hear.
  void StopListening(std::chrono::system_clock::time_point deadline) {
    if (server_ == nullptr) return;
    health_.BeginShutdown();
    health_.CloseWatchers();
    if (reflection_.has_value()) reflection_->CloseStreams();
    edge_->StopAccepting(kStalled);
    server_->Shutdown(deadline);
    server_.reset();
    const auto left = std::chrono::duration_cast<Duration>(deadline - std::chrono::system_clock::now());
    edge_->Stop(std::max(kFlush, left));
  }

  void BeginDraining() {
    MutexLock lock(ready_mutex_);
    if (draining_.exchange(true) || !ready_ || options_.ready_file.empty()) return;
    std::stringstream found;
    found << std::ifstream(options_.ready_file).rdbuf();
    if (found.str() == ReadyText()) std::remove(options_.ready_file.c_str());  // else it is a successor's
  }
  std::string ReadyText() const {
    return absl::StrCat("{\"grpc\":\"", ToString(edge_->address()), "\",\"metrics\":\"",
                        ToString({options_.metrics_listen.host, http_->port()}), "\",\"pid\":", getpid(), "}\n");
  }

  std::string TemporaryReadyFile() const { return absl::StrCat(options_.ready_file, ".", getpid()); }
  absl::Status CannotWriteReadyFile(int error) const {
    return WithField(absl::InvalidArgumentError(
                         absl::StrCat("cannot write the ready file ", options_.ready_file, ": ", std::strerror(error))),
                     "ready_file");
  }

  // Each daemon has its own (docs/operations.md): what stands there was left by one before. That it cannot be written
  // is found before the models are loaded.
  absl::Status ClearReadyFile() {
    if (options_.ready_file.empty()) return absl::OkStatus();
    std::error_code ignored;
    const std::filesystem::file_status there = std::filesystem::status(options_.ready_file, ignored);
    if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there)) {
      return WithField(absl::InvalidArgumentError(absl::StrCat("the ready file ", options_.ready_file,
                                                               ": what stands there is no regular file")),
                       "ready_file");
    }
    if (!std::ofstream(TemporaryReadyFile())) return CannotWriteReadyFile(errno);
    std::remove(TemporaryReadyFile().c_str());
    std::remove(options_.ready_file.c_str());
    return absl::OkStatus();
  }

  // Whole or not at all, so that who waits for it never reads a half.
  absl::Status WriteReadyFile() {
    if (options_.ready_file.empty()) return absl::OkStatus();
    const std::string temporary = TemporaryReadyFile(), text = ReadyText();
    std::ofstream file(temporary);
    file << text;
    file.close();
    if (file && std::rename(temporary.c_str(), options_.ready_file.c_str()) == 0) return absl::OkStatus();
    const int error = errno;  // before anything allocates, which may set it
    std::remove(temporary.c_str());
    return CannotWriteReadyFile(error);
  }

  const ServerOptions options_;
  HeapTrimmer trimmer_;
  MessageGate gate_{
      {.max_bytes = options_.max_receive_bytes, .max_total_bytes = options_.request_memory_bytes, .wire = {}},
      [this](const std::string& method, const absl::Status& status) { OnRefused(method, status); }};
  HealthService health_{gate_};
  std::optional<ReflectionService> reflection_;
  UnbuiltService unbuilt_;
  ActiveRequests active_;
  std::unique_ptr<WorkPool> codec_pool_, text_pool_, plan_pool_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<ModelRegistry> registry_;
  std::unique_ptr<GenerationService> generation_;
  std::unique_ptr<ModelsService> models_;
  std::unique_ptr<HttpEndpoint> http_;
  std::unique_ptr<Edge> edge_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;  // into server_
  std::unique_ptr<grpc::Server> server_;
  Mutex ready_mutex_;  // of becoming ready and of beginning to drain
  std::atomic<bool> ready_{false}, draining_{false};
};

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const ServerOptions& options) {
  return Start(options, [](const RegistryOptions& registry, ModelRegistry::Hooks hooks) {
    return ModelRegistry::Create(registry, std::move(hooks));
  });
}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const ServerOptions& options, const MakeRegistry& make) {
  std::unique_ptr<DaemonImpl> daemon;
  const absl::Status begun = CatchAllocationFailure([&] {
    daemon = std::make_unique<DaemonImpl>(options);
    return daemon->Begin(make);
  });
  if (begun.ok()) return daemon;
  // Left as it is: where gRPC could not start its threads, its end would wait for them for ever (1.51,
  // TimerManager::Shutdown).
  if (const std::string reason = GetReason(begun); reason == "NO_THREADS" || reason == "OUT_OF_MEMORY") {
    static_cast<void>(daemon.release());
  }
  return begun;
}

void LogModel(const ModelInfo& info) {
  std::set<std::string> schemes;
  for (const LayerReport& layer : info.layers) schemes.insert(layer.scheme);
  std::string list;
  for (const std::string& scheme : schemes) absl::StrAppend(&list, list.empty() ? "" : "; ", scheme);
  const auto bytes = [&](MemoryComponent c) { return FormatBytes(info.memory.bytes[static_cast<size_t>(c)]); };
  LogInfo(absl::StrCat("model ", info.name, ": ready in ", ToSeconds(info.load_time), " s; device ", info.device,
                       "; schemes ", list, "; kv ", KvName(info.spec), "; weights ", bytes(MemoryComponent::kWeights),
                       ", kv_cache ", bytes(MemoryComponent::kKvCache),
                       " (reserved, resident as it is used), workspace ", bytes(MemoryComponent::kWorkspace),
                       "; max_context ", info.limits.has_value() ? info.limits->max_sequence_tokens() : 0));
  const std::string scarce = KvMemoryWarning(info.memory.bytes[static_cast<size_t>(MemoryComponent::kKvCache)],
                                             info.kv_resident_bytes, AvailableBytes());
  if (!scarce.empty()) LogWarning(absl::StrCat("model ", info.name, ": ", scarce));
  if (info.limits.has_value() && info.limits->max_sequence_tokens() < info.limits->max_context) {
    LogWarning(absl::StrCat("model ", info.name, ": ",
                            ContextNote(info.limits->max_sequence_tokens(), info.limits->max_context)));
  }
  for (const std::string& line : Fallbacks(info.layers))
    LogWarning(absl::StrCat("model ", info.name, ": fallback: ", line));
}

}  // namespace quantd
