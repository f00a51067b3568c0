#include "server/unbuilt_service.h"

#include <algorithm>
#include <string>

#include <absl/strings/escaping.h>

#include "base/error.h"
#include "base/strings.h"
#include "server/status.h"

namespace quantd {
namespace {

struct Unbuilt {
  std::string_view method, missing, meanwhile;
};

// A method leaves this list when its service takes it.
constexpr Unbuilt kUnbuilt[] = {
    {"quantd.v1.Generation/Score", "log-likelihoods of given text", ""},
    {"quantd.v1.Models/LoadModel", "loading a model while the daemon runs", "name it to `quantd serve`"},
    {"quantd.v1.Models/UnloadModel", "unloading a model while the daemon runs", "start `quantd serve` without it"},
    {"quantd.v1.Models/GetQuantization", "the report of every layer", "GetModel has the schemes and the fallbacks"},
    {"quantd.v1.Models/WatchModels", "a stream of the models' changes", "watch model:<name> of grpc.health.v1.Health"},
    {"quantd.v1.Diffusion/GenerateImage", "images", ""},
    {"quantd.v1.Diffusion/GenerateVideo", "videos", ""},
    {"quantd.v1.Control/GetServerInfo", "what the server is", "see the metric quantd_build_info"},
    {"quantd.v1.Control/GetLoad", "the load", "see the metrics quantd_requests_running and quantd_requests_waiting"},
    {"quantd.v1.Control/WatchLoad", "a stream of the load",
     "see the metrics quantd_requests_running and quantd_requests_waiting"},
    {"quantd.v1.Control/GetMemory", "the memory of all devices", "see Models.ListModels and quantd_memory_bytes"},
    {"quantd.v1.Control/ListRequests", "the list of requests in flight", "see the log, which has a line a request"},
    {"quantd.v1.Control/CancelRequest", "cancelling by id", "cancel the call"},
    {"quantd.v1.Control/Drain", "draining by a call", "send SIGTERM"},
    {"quantd.v1.Control/ResetPrefixCache", "emptying the prefix cache", "cache.bypass_prefix_cache leaves it out"},
};

// A path is any bytes of any length.
std::string Shown(std::string_view path) {
  constexpr size_t kMaxBytes = 200;
  return absl::StrCat(absl::CHexEscape(ToAbsl(path.substr(0, kMaxBytes))), path.size() > kMaxBytes ? "..." : "");
}

class Refusal final : public grpc::ServerGenericBidiReactor {
 public:
  explicit Refusal(const absl::Status& status) { Finish(ToGrpc(status)); }

 private:
  void OnDone() override { delete this; }
};

}  // namespace

absl::Status UnbuiltError(std::string_view path) {
  const std::string_view method = path.substr(path.starts_with("/") ? 1 : 0);
  const auto* found = std::find_if(std::begin(kUnbuilt), std::end(kUnbuilt),
                                   [&](const Unbuilt& unbuilt) { return unbuilt.method == method; });
  if (method.ends_with(".ServerReflection/ServerReflectionInfo")) {  // where it is on, its service takes it
    return WithReason(absl::UnimplementedError(absl::StrCat(Shown(method), ": reflection is off (--no-reflection)")),
                      "METHOD_UNKNOWN");
  }
  if (found == std::end(kUnbuilt)) {
    return WithReason(
        absl::UnimplementedError(absl::StrCat(
            Shown(method), ": no such method; the services of quantd are quantd.v1.Generation and quantd.v1.Models")),
        "METHOD_UNKNOWN");
  }
  const char* colon = found->meanwhile.empty() ? "" : "; meanwhile: ";
  return WithReason(absl::UnimplementedError(absl::StrCat(ToAbsl(found->method), ": not built yet: ",
                                                          ToAbsl(found->missing), colon, ToAbsl(found->meanwhile))),
                    "NOT_BUILT");
}

grpc::ServerGenericBidiReactor* UnbuiltService::CreateReactor(grpc::GenericCallbackServerContext* context) {
  return new Refusal(UnbuiltError(context->method()));
}

}  // namespace quantd
