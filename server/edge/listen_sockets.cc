#include "server/edge/listen_sockets.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace quantd {
namespace {

absl::Status BindFailed(const HostPort& address, std::string_view why) {
  return WithReason(absl::UnavailableError(absl::StrCat("cannot listen on ", ToString(address), ": ", ToAbsl(why))),
                    "BIND_FAILED");
}

int NewSocket(int family) { return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

sockaddr_un UnixAddress(const std::string& path, socklen_t& size) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  if (path.starts_with('@')) {
    address.sun_path[0] = '\0';
    --size;  // an abstract name has no end but its length
  }
  return address;
}

// Whether somebody listens on the Unix socket, which must exist.
bool IsAlive(const sockaddr_un& address, socklen_t size) {
  const int fd = NewSocket(AF_UNIX);
  if (fd < 0) return true;  // not known: it is not ours to remove
  const bool refused = connect(fd, reinterpret_cast<const sockaddr*>(&address), size) != 0 && errno == ECONNREFUSED;
  close(fd);
  return !refused;
}

int PortOf(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

void SetPort(sockaddr* address, int port) {
  const auto network = htons(static_cast<uint16_t>(port));
  if (address->sa_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(address)->sin6_port = network;
  } else {
    reinterpret_cast<sockaddr_in*>(address)->sin_port = network;
  }
}

// A socket that listens there, or -1 with errno.
int ListenOn(const addrinfo& a, int port) {
  const int fd = NewSocket(a.ai_family);
  if (fd < 0) return -1;
  const int on = 1, off = 0;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (a.ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  SetPort(a.ai_addr, port);
  if (bind(fd, a.ai_addr, a.ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

}  // namespace

absl::StatusOr<ListenSockets> ListenSockets::Bind(const HostPort& address) {
  ListenSockets sockets;
  sockets.address_ = address;
  QD_RETURN_IF_ERROR(address.unix_path.empty() ? sockets.BindTcp() : sockets.BindUnix());
  return sockets;
}

ListenSockets& ListenSockets::operator=(ListenSockets&& other) noexcept {
  Close();
  address_ = other.address_;
  fds_ = std::exchange(other.fds_, {});
  device_ = other.device_;
  inode_ = std::exchange(other.inode_, 0);
  return *this;
}

bool ListenSockets::GetAddress(sockaddr_storage& address, socklen_t& size) const {
  size = sizeof address;
  return !fds_.empty() && getsockname(fds_[0], reinterpret_cast<sockaddr*>(&address), &size) == 0;
}

void ListenSockets::Close() {
  for (int fd : fds_) close(fd);
  fds_.clear();
  struct stat now {};
  if (inode_ != 0 && lstat(address_.unix_path.c_str(), &now) == 0 && now.st_ino == inode_ && now.st_dev == device_) {
    unlink(address_.unix_path.c_str());
  }
  inode_ = 0;
}

absl::Status ListenSockets::BindUnix() {
  const std::string& path = address_.unix_path;
  if (path.size() >= sizeof(sockaddr_un::sun_path)) return BindFailed(address_, std::strerror(ENAMETOOLONG));
  socklen_t size = 0;
  const sockaddr_un address = UnixAddress(path, size);
  const bool is_file = path.starts_with('/');
  struct stat found {};
  if (is_file && lstat(path.c_str(), &found) == 0) {
    if (!S_ISSOCK(found.st_mode)) return BindFailed(address_, "what stands there is no socket");
    if (IsAlive(address, size)) return BindFailed(address_, std::strerror(EADDRINUSE));
    unlink(path.c_str());  // of a daemon that was killed; where this fails, so does bind
  }
  const int fd = NewSocket(AF_UNIX);
  if (fd < 0) return BindFailed(address_, std::strerror(errno));
  fds_.push_back(fd);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), size) != 0 || listen(fd, SOMAXCONN) != 0) {
    return BindFailed(address_, std::strerror(errno));
  }
  if (is_file && lstat(path.c_str(), &found) == 0) {
    device_ = found.st_dev;
    inode_ = found.st_ino;
  }
  return absl::OkStatus();
}

absl::Status ListenSockets::BindTcp() {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(address_.host.c_str(), std::to_string(address_.port).c_str(), &hints, &found);
  if (failed != 0) return BindFailed(address_, gai_strerror(failed));
  int error = 0;
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    const int fd = ListenOn(*a, address_.port);
    if (fd >= 0) {
      fds_.push_back(fd);
      address_.port = PortOf(fd);  // any becomes one, the same for all families
      continue;
    }
    error = errno;
    // A name may have addresses of a family that this machine has not.
    if (errno != EADDRNOTAVAIL && errno != EAFNOSUPPORT) break;
    if (!fds_.empty() || a->ai_next != nullptr) error = 0;
  }
  freeaddrinfo(found);
  if (error == 0 && !fds_.empty()) return absl::OkStatus();
  return BindFailed(address_, std::strerror(error != 0 ? error : EADDRNOTAVAIL));
}

}  // namespace quantd
