// The sockets of one listening address: one a family that its host has, or one Unix socket.
#pragma once

#include <sys/socket.h>
#include <sys/stat.h>

#include <vector>

#include <absl/status/statusor.h>

#include "server/edge/address.h"

namespace quantd {

class ListenSockets {
 public:
  // Unavailable BIND_FAILED. Nobody else can listen there (no SO_REUSEPORT). A Unix socket that nobody listens on any
  // more is replaced; what is no socket is not. "[::]" takes IPv4 too.
  static absl::StatusOr<ListenSockets> Bind(const HostPort& address);
  ListenSockets() = default;
  ListenSockets(ListenSockets&& other) noexcept { *this = std::move(other); }
  ListenSockets& operator=(ListenSockets&& other) noexcept;
  ~ListenSockets() { Close(); }

  const std::vector<int>& fds() const { return fds_; }  // not blocking
  const HostPort& address() const { return address_; }  // with the port that it became
  // The socket address of the first; false where there is none.
  bool GetAddress(sockaddr_storage& address, socklen_t& size) const;
  void Close();  // removes the socket's file, if it still is this one's

 private:
  absl::Status BindUnix();
  absl::Status BindTcp();

  HostPort address_;
  std::vector<int> fds_;
  dev_t device_ = 0;  // of the socket's file, with inode_
  ino_t inode_ = 0;   // 0 = none
};

}  // namespace quantd
