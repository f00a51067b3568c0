#include "server/models_service.h"

#include <utility>

#include "base/allocation_failure.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "server/answer_size.h"
#include "server/convert.h"
#include "server/model_paths.h"
#include "server/status.h"

namespace quantd {
ModelsService::ModelsService(ModelRegistry& registry, WorkPool& plan_pool, std::vector<std::string> roots,
                             MessageGate& gate)
    : registry_(registry), plan_pool_(plan_pool), roots_(std::move(roots)) {
  const auto& service = ServiceIn(v1::PlanModelRequest::descriptor(), "Models");
  const auto mark = [this](GatedMethod m) { MarkMethodCallback(m.index, m.handler); };
  mark(Gated(gate, *this, service, "ListModels", &ModelsService::ListModels));
  mark(Gated(gate, *this, service, "GetModel", &ModelsService::GetModel));
  mark(Gated(gate, *this, service, "PlanModel", &ModelsService::PlanModel));
}

grpc::ServerUnaryReactor* ModelsService::ListModels(grpc::CallbackServerContext* context,
                                                    const v1::ListModelsRequest* request,
                                                    v1::ListModelsResponse* response) {
  for (const ModelInfo& info : registry_.List()) {
    if (!request->loaded_only() || info.state == ModelState::kReady) Fill(info, *response->add_models());
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(CheckAnswerSize(*response, "GetModel gives one model at a time")));
  return reactor;
}

grpc::ServerUnaryReactor* ModelsService::GetModel(grpc::CallbackServerContext* context,
                                                  const v1::GetModelRequest* request, v1::Model* response) {
  absl::StatusOr<ModelInfo> info = registry_.Get(request->name());
  if (info.ok()) Fill(*info, *response);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(info.status()));
  return reactor;
}

grpc::ServerUnaryReactor* ModelsService::PlanModel(grpc::CallbackServerContext* context,
                                                   const v1::PlanModelRequest* request, v1::MemoryPlan* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto plan = [=, this] {
    reactor->Finish(ToGrpc(CatchAllocationFailure([&] { return Plan(*request, *response); })));
  };
  if (!plan_pool_.Post(plan)) {
    reactor->Finish(ToGrpc(WithReason(
        WithRetryAfter(absl::ResourceExhaustedError("too many plans wait"), std::chrono::seconds(5)), "QUEUE_FULL")));
  }
  return reactor;
}

void ModelsService::Fill(const ModelInfo& info, v1::Model& proto) const {
  FillModel(info, proto);
  if (info.state != ModelState::kReady) return;
  const absl::StatusOr<std::shared_ptr<LlmHandle>> handle = registry_.Find(info.name);
  if (handle.ok()) FillGenerationDefaults((*handle)->codec().defaults(), proto);
}

absl::Status ModelsService::Plan(const v1::PlanModelRequest& request, v1::MemoryPlan& response) const {
  LoadSpec spec;
  if (request.has_spec()) {
    QD_ASSIGN_OR_RETURN(spec, ParseLoadSpec(request.spec(), registry_.device().id));
    QD_ASSIGN_OR_RETURN(spec.path, Permitted(spec.path));
  } else {
    QD_ASSIGN_OR_RETURN(ModelInfo info, registry_.Get(request.name()));
    spec = info.spec;
  }
  int64_t used = 0;
  for (const ModelInfo& info : registry_.List()) {
    if (request.has_spec() || info.name != request.name()) used += info.memory.total();
  }
  QD_ASSIGN_OR_RETURN(MemoryPlan plan, registry_.Plan(spec, used));
  FillMemoryPlan(plan, registry_.memory_budget_bytes(), used, response);
  return absl::OkStatus();
}

// The same answer for a path that is there and one that is not: a client learns nothing of the rest of the disk.
absl::StatusOr<std::string> ModelsService::Permitted(const std::string& path) const {
  std::vector<std::string> roots = roots_;
  for (const ModelInfo& info : registry_.List()) roots.push_back(info.spec.path);
  if (std::optional<std::string> found = ResolveBelow(path, roots)) return *std::move(found);
  return WithReason(WithField(absl::InvalidArgumentError(
                                  absl::StrCat("spec.path: ", path, " is not below a model root of this server")),
                              "spec.path"),
                    "FIELD_INVALID");
}

}  // namespace quantd
