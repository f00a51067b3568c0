// grpc.health.v1 of our own: gRPC's default service has no List and no models. Names: "" is the whole server,
// each service by its full name, and "model:<name>".
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "base/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/message_gate.h"

namespace quantd {

class HealthService final : public grpc::health::v1::Health::CallbackService {
 public:
  explicit HealthService(MessageGate& gate);
  // Any thread. A name that was never set is unknown: NOT_FOUND on Check, SERVICE_UNKNOWN on Watch.
  void Set(const std::string& name, bool serving) QD_EXCLUDES(mutex_);
  // Every name is NOT_SERVING from now on; watchers hear it.
  void BeginShutdown() QD_EXCLUDES(mutex_);
  // Ends the Watch streams, which would otherwise hold the server until its shutdown deadline. New ones end at once.
  void CloseWatchers() QD_EXCLUDES(mutex_);

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const grpc::health::v1::HealthCheckRequest* request,
                                  grpc::health::v1::HealthCheckResponse* response) override;
  grpc::ServerWriteReactor<grpc::health::v1::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext* context, const grpc::health::v1::HealthCheckRequest* request) override;
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const grpc::health::v1::HealthListRequest* request,
                                 grpc::health::v1::HealthListResponse* response) override;

 private:
  using Status = grpc::health::v1::HealthCheckResponse::ServingStatus;
  class Watcher;
  Status Get(const std::string& name) const QD_REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::map<std::string, Status> statuses_ QD_GUARDED_BY(mutex_);
  std::set<Watcher*> watchers_ QD_GUARDED_BY(mutex_);  // each removes itself when its stream is done
  bool shutting_down_ QD_GUARDED_BY(mutex_) = false, closed_ QD_GUARDED_BY(mutex_) = false;
};

}  // namespace quantd
