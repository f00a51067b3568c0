#include "server/library_logs.h"

#include <atomic>
#include <cstdlib>
#include <string>
#include <string_view>

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include "base/log.h"
#include "base/strings.h"

namespace quantd {
namespace {

std::atomic<bool> g_warn_of_grpc_errors{false};  // gRPC's log function can reach nothing else

LogLevel LevelOf(const gpr_log_func_args& args) {
  if (std::string_view(args.message).starts_with("assertion failed")) return LogLevel::kError;
  const bool error = args.severity == GPR_LOG_SEVERITY_ERROR;
  return error && g_warn_of_grpc_errors ? LogLevel::kWarning : LogLevel::kDebug;
}

}  // namespace

void TakeLibraryLogs() {
  google::protobuf::SetLogHandler([](google::protobuf::LogLevel level, const char*, int, const std::string& message) {
    // Its errors are of messages that clients send: those are answered, and logged as requests.
    const bool fatal = level == google::protobuf::LOGLEVEL_FATAL;
    Log(fatal ? LogLevel::kError : LogLevel::kDebug, absl::StrCat("protobuf: ", message));
  });
  if (std::getenv("GRPC_VERBOSITY") == nullptr) {
    gpr_set_log_function([](gpr_log_func_args* args) { Log(LevelOf(*args), absl::StrCat("gRPC: ", args->message)); });
  }
}

void WarnOfGrpcErrors() { g_warn_of_grpc_errors = true; }

}  // namespace quantd
