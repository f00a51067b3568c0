// Where a listener is: a host and a port, or a Unix socket.
#pragma once

#include <string>

namespace quantd {

struct HostPort {
  std::string host = "127.0.0.1";
  int port = 0;             // 0 = any
  std::string unix_path{};  // not empty: a Unix socket and no host; begins with '/', or with '@' for an abstract name
};

// "127.0.0.1:8001", "[::1]:8001", "unix:/run/quantd.sock", "unix-abstract:quantd": as gRPC's clients spell it.
std::string ToString(const HostPort& address);
// Nobody but this machine can reach it: "localhost", 127.0.0.0/8, ::1, Unix sockets.
bool IsLoopback(const HostPort& address);

}  // namespace quantd
