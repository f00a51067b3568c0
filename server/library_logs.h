// What gRPC and protobuf would print on standard error themselves.
#pragma once

namespace quantd {

// Makes debug lines of the log (base/log.h) of it; gRPC keeps its own printing where GRPC_VERBOSITY asks for it. Call
// once, before either library is used.
void TakeLibraryLogs();

}  // namespace quantd
