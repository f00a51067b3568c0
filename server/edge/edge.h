// The edge of the network: owns the listening sockets and every connection, and stands between strangers and gRPC.
// Each connection that has said it speaks HTTP/2 becomes a socket pair, one end of which gRPC serves; what goes through
// it passes Http2Guard. One thread does it all. docs/decisions/0007-edge.md says why it is there.
//
// Where no place is left, a newcomer takes that of a connection without a call, or whose calls stand still
// (replacement.h); it is refused only where the server owes an answer, or gives one, on all of them. So nobody is
// locked out by connections that are silent, nor by those that keep a watch or half a request.
#pragma once

#include <functional>
#include <memory>

#include <absl/status/statusor.h>

#include "server/edge/address.h"
#include "server/edge/edge_stats.h"
#include "server/edge/limits.h"

namespace quantd {

class Edge {
 public:
  // Binds, and accepts nobody yet. Unavailable BIND_FAILED; ResourceExhausted where descriptors have run out.
  static absl::StatusOr<std::unique_ptr<Edge>> Listen(const HostPort& address, const EdgeLimits& limits);
  virtual ~Edge() = default;  // Stop(0)

  // `hand_over` takes the descriptor of a connection's other end over; on the edge's thread, it must not block.
  virtual void Start(std::function<void(int fd)> hand_over) = 0;
  // No new connections, and the address is free. Connections whose streams are all in the middle of an answer of which
  // they take nothing for `quiet` are cut from now on.
  virtual void StopAccepting(Duration quiet) = 0;
  // Returns when every client has what gRPC had sent to it, or takes nothing of it for `quiet`, and every connection is
  // closed; at most after `flush`.
  virtual void Stop(Duration flush) = 0;

  virtual const HostPort& address() const = 0;  // with the port that it became
  virtual const EdgeStats& stats() const = 0;
  virtual const EdgeLimits& limits() const = 0;
  // Whether somebody who connects now is served (ConnectProbe). Any thread, after Start. What it does is counted
  // nowhere, and no bound of a single address holds for it.
  virtual bool Answers() = 0;
};

}  // namespace quantd
