#include "server/edge/peer_table.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>
#include <iterator>

#include <absl/hash/hash.h>

#include "base/strings.h"

namespace quantd {

PeerKey KeyOf(const sockaddr_storage& address) {
  PeerKey key{};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    key[10] = key[11] = 0xff;
    std::memcpy(&key[12], &v4.sin_addr, 4);
  } else if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    const bool mapped = IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr);
    std::memcpy(key.data(), &v6.sin6_addr, mapped ? 16 : 8);
  } else {
    key[15] = 1;  // no prefix of an address of the others ends so
  }
  return key;
}

std::string DescribePeer(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    return absl::StrCat(text, ":", ntohs(v4.sin_port));
  }
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    return absl::StrCat("[", text, "]:", ntohs(v6.sin6_port));
  }
  return "unix";
}

size_t PeerTable::Hash::operator()(const PeerKey& key) const { return absl::Hash<PeerKey>()(key); }

Peer& PeerTable::Enter(const PeerKey& key, TimePoint now) {
  if (peers_.size() >= sweep_at_) Sweep(now);
  Peer& peer = peers_[key];
  ++peer.budget.connections;
  return peer;
}

void PeerTable::Leave(const PeerKey& key, TimePoint now) {
  const auto it = peers_.find(key);
  if (--it->second.budget.connections == 0 && it->second.budget.IsFull(now)) peers_.erase(it);
}

int PeerTable::connections(const PeerKey& key) const {
  const auto it = peers_.find(key);
  return it == peers_.end() ? 0 : it->second.budget.connections;
}

// Of those that are gone the recovered ones; all of them where that is not enough. Seldom: the work is spread over as
// many arrivals as peers are left.
void PeerTable::Sweep(TimePoint now) {
  for (auto it = peers_.begin(); it != peers_.end();) {
    const bool as_new = it->second.budget.connections == 0 && it->second.budget.IsFull(now);
    it = as_new ? peers_.erase(it) : std::next(it);
  }
  if (peers_.size() >= kMaxIdle) {
    std::erase_if(peers_, [](const auto& p) { return p.second.budget.connections == 0; });
  }
  sweep_at_ = kMaxIdle + 2 * peers_.size();
}

}  // namespace quantd
