#include "server/library_logs.h"

#include <cstdlib>
#include <string>

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include "base/log.h"
#include "base/strings.h"

namespace quantd {

void TakeLibraryLogs() {
  google::protobuf::SetLogHandler([](google::protobuf::LogLevel, const char*, int, const std::string& message) {
    Log(LogLevel::kDebug, absl::StrCat("protobuf: ", message));
  });
  if (std::getenv("GRPC_VERBOSITY") == nullptr) {
    gpr_set_log_function([](gpr_log_func_args* args) { Log(LogLevel::kDebug, absl::StrCat("gRPC: ", args->message)); });
  }
}

}  // namespace quantd
