// The addresses that have connections, or had them a moment ago. Of the edge's thread.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>

#include "base/clock.h"
#include "server/edge/peer_budget.h"

namespace quantd {

// IPv4: the address. IPv6: its first 64 bits, which is what one customer has. All of a Unix socket's clients are one.
using PeerKey = std::array<uint8_t, 16>;
PeerKey KeyOf(const sockaddr_storage& address);
// "127.0.0.1:50012", "[::1]:50012", "unix"; for logs.
std::string DescribePeer(const sockaddr_storage& address);

struct Peer {
  PeerBudget budget;
  int64_t streams = 0;  // that are open
};

class PeerTable {
 public:
  // Addresses without connections that are remembered for what they used up.
  static constexpr size_t kMaxIdle = 16 * 1024;

  // One connection more; the reference holds until Leave.
  Peer& Enter(const PeerKey& key, TimePoint now);
  void Leave(const PeerKey& key, TimePoint now);
  int connections(const PeerKey& key) const;
  size_t size() const { return peers_.size(); }

 private:
  struct Hash {
    size_t operator()(const PeerKey& key) const;
  };
  void Sweep(TimePoint now);

  std::unordered_map<PeerKey, Peer, Hash> peers_;
  size_t sweep_at_ = kMaxIdle;
};

}  // namespace quantd
