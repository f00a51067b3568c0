// What gRPC and protobuf would print on standard error themselves.
#pragma once

namespace quantd {

// Makes debug lines of the log (base/log.h) of it, error lines of what ends the process; gRPC keeps its own printing
// where GRPC_VERBOSITY asks for it. Call once, before either library is used.
void TakeLibraryLogs();
// From now on what gRPC calls an error is a warning, as a daemon's operator must know of it ("too many open files").
void WarnOfGrpcErrors();

}  // namespace quantd
