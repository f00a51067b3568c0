#include "server/library_logs.h"

#include <atomic>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include "base/allocation_failure.h"
#include "base/log.h"
#include "base/log_limit.h"
#include "base/strings.h"

namespace quantd {
namespace {

// gRPC's log function can reach nothing else.
std::atomic<bool> g_warn_of_grpc_errors{false};
LogLimiter& g_limiter = *new LogLimiter;  // never destroyed: gRPC has threads to the end of the process

LogLevel LevelOf(const gpr_log_func_args& args) {
  if (std::string_view(args.message).starts_with("assertion failed")) return LogLevel::kError;
  const bool error = args.severity == GPR_LOG_SEVERITY_ERROR;
  return error && g_warn_of_grpc_errors ? LogLevel::kWarning : LogLevel::kDebug;
}

// A client can cause most of them: one a second from each place in gRPC's source.
void LogOfGrpc(gpr_log_func_args* args) {
  IfMemoryAllows([&] {  // an exception must not reach gRPC
    const LogLevel level = LevelOf(*args);
    const std::optional<int64_t> left_out = g_limiter.Admit(absl::StrCat(args->file, ":", args->line), Now());
    if (left_out.has_value()) Log(level, absl::StrCat("gRPC: ", args->message, LeftOut(*left_out)));
  });
}

}  // namespace

void TakeLibraryLogs() {
  google::protobuf::SetLogHandler([](google::protobuf::LogLevel level, const char*, int, const std::string& message) {
    // Its errors are of messages that clients send: those are answered, and logged as requests.
    const bool fatal = level == google::protobuf::LOGLEVEL_FATAL;
    IfMemoryAllows([&] { Log(fatal ? LogLevel::kError : LogLevel::kDebug, absl::StrCat("protobuf: ", message)); });
  });
  if (std::getenv("GRPC_VERBOSITY") == nullptr) {
    gpr_set_log_function(LogOfGrpc);
  }
}

void WarnOfGrpcErrors() { g_warn_of_grpc_errors = true; }

}  // namespace quantd
