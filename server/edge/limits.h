// What the edge of the network may take, as plain values: how much of the machine strangers can hold before a call of
// theirs reaches gRPC. docs/api.md lists them as configuration keys, docs/reliability.md has what they hold off.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace quantd {

struct EdgeLimits {
  int max_connections = 4096;
  int max_connections_per_peer = 0;  // 0 = half of max_connections
  // Streams of one connection that are open at once, as SETTINGS say to clients.
  int max_streams = 256;
  // Of all connections; one address may have half of them.
  int max_open_streams = 32 * 1024;
  // Bytes of request messages that are not whole yet, of all connections, and kStreamBytes for each that is awaited.
  int64_t receive_budget = 128 << 20;
  // Bytes of answers that the edge holds for clients that do not take them, of all connections. Beyond it gRPC is read
  // kScarceReadBytes at a time, so that no connection is cut for it.
  int64_t send_budget = 32 << 20;
  // A connection must say that it speaks HTTP/2 within this time, and each frame and header block must be whole.
  Duration handshake_timeout = std::chrono::seconds(10);
  // Calls that have not moved for so long, and are owed no first answer, hold no place that another needs.
  Duration quiet_time = std::chrono::seconds(10);
  // A request message must be whole within this time and a second for each kSlowestBytesPerSecond of it.
  Duration receive_timeout = std::chrono::seconds(30);
};

// 64 KiB/s: half a megabit, less than any client that is to be served has.
inline constexpr int64_t kSlowestBytesPerSecond = 64 * 1024;

// What gRPC spends on a call of which it has the headers alone.
inline constexpr int64_t kStreamBytes = 16 * 1024;

}  // namespace quantd
