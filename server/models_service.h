// The read side of quantd.v1.Models. LoadModel, UnloadModel, GetQuantization and WatchModels are not built yet and
// left to server/unbuilt_service.h.
#pragma once

#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <grpcpp/grpcpp.h>

#include "quantd/v1/models.grpc.pb.h"
#include "scheduler/model_registry.h"
#include "server/message_gate.h"
#include "server/work_pool.h"

namespace quantd {

// What is built of the proto.
using BuiltModels = v1::Models::WithGenericMethod_LoadModel<
    v1::Models::WithGenericMethod_UnloadModel<v1::Models::WithGenericMethod_GetQuantization<
        v1::Models::WithGenericMethod_WatchModels<v1::Models::CallbackService>>>>;

class ModelsService final : public BuiltModels {
 public:
  // PlanModel reads no path but those of the registry's models and what lies below `roots`.
  ModelsService(ModelRegistry& registry, WorkPool& plan_pool, std::vector<std::string> roots, MessageGate& gate);

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context, const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest* request,
                                     v1::Model* response) override;
  grpc::ServerUnaryReactor* PlanModel(grpc::CallbackServerContext* context, const v1::PlanModelRequest* request,
                                      v1::MemoryPlan* response) override;

 private:
  absl::Status Plan(const v1::PlanModelRequest& request, v1::MemoryPlan& response) const;
  void Fill(const ModelInfo& info, v1::Model& proto) const;
  // The path to read where a client names `path`. InvalidArgument: it is not its to name.
  absl::StatusOr<std::string> Permitted(const std::string& path) const;

  ModelRegistry& registry_;
  WorkPool& plan_pool_;
  const std::vector<std::string> roots_;
};

}  // namespace quantd
