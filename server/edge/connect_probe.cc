#include "server/edge/connect_probe.h"

#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <span>
#include <string>
#include <utility>

#include "server/edge/http2_frame.h"

namespace quantd {
namespace {

bool WaitFor(int fd, short events, TimePoint deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Now()).count();
    if (left <= 0) return false;
    pollfd p{fd, events, 0};
    const int n = poll(&p, 1, static_cast<int>(left));
    if (n > 0) return (p.revents & events) != 0;
    if (n < 0 && errno != EINTR) return false;
  }
}

// Binds to any port of the machine's choice and returns it, 0 where there is none.
int BindToAnyPort(int fd, sa_family_t family) {
  if (family != AF_INET && family != AF_INET6) return 0;
  sockaddr_storage any{};
  any.ss_family = family;
  socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&any), size) != 0) return 0;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&any), &size) != 0) return 0;
  return ntohs(family == AF_INET ? reinterpret_cast<const sockaddr_in&>(any).sin_port
                                 : reinterpret_cast<const sockaddr_in6&>(any).sin6_port);
}

// The first frame of a server must be SETTINGS.
bool IsAnswered(int fd, TimePoint deadline) {
  const std::string hello = std::string(kHttp2Preface) + EmptySettingsFrame();
  if (send(fd, hello.data(), hello.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(hello.size())) return false;
  uint8_t header[kFrameHeaderBytes];
  size_t have = 0;
  while (have < sizeof header) {
    if (!WaitFor(fd, POLLIN, deadline)) return false;
    const ssize_t n = recv(fd, header + have, sizeof header - have, MSG_DONTWAIT);
    if (n <= 0) return false;
    have += static_cast<size_t>(n);
  }
  const FrameHeader frame = ParseFrameHeader(header);
  // The edge's own refusal begins with empty SETTINGS; gRPC's have values.
  return frame.type == kSettings && frame.length > 0;
}

}  // namespace

ConnectProbe::ConnectProbe(const sockaddr_storage& address, socklen_t size, std::function<void(int port)> announce)
    : address_(address), size_(size), announce_(std::move(announce)) {
  if (address_.ss_family == AF_INET) {
    in_addr& ip = reinterpret_cast<sockaddr_in&>(address_).sin_addr;
    if (ip.s_addr == htonl(INADDR_ANY)) ip.s_addr = htonl(INADDR_LOOPBACK);
  } else if (address_.ss_family == AF_INET6) {
    in6_addr& ip = reinterpret_cast<sockaddr_in6&>(address_).sin6_addr;
    if (IN6_IS_ADDR_UNSPECIFIED(&ip)) ip = in6addr_loopback;
  }
}

bool ConnectProbe::Answers() {
  {
    MutexLock lock(mutex_);
    if (trying_ || (answered_at_.has_value() && Now() - *answered_at_ < kKeep)) return answer_;
    trying_ = true;
  }
  const bool answer = Try();
  MutexLock lock(mutex_);
  trying_ = false;
  answer_ = answer;
  answered_at_ = Now();
  return answer;
}

bool ConnectProbe::Try() const {
  const TimePoint deadline = Now() + kTimeout;
  const int fd = socket(address_.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return false;  // out of descriptors: nobody can be served either
  announce_(BindToAnyPort(fd, address_.ss_family));
  bool connected = connect(fd, reinterpret_cast<const sockaddr*>(&address_), size_) == 0;
  if (!connected && errno == EINPROGRESS && WaitFor(fd, POLLOUT, deadline)) {
    int error = 0;
    socklen_t size = sizeof error;
    connected = getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
  }
  const bool answered = connected && IsAnswered(fd, deadline);
  close(fd);
  return answered;
}

}  // namespace quantd
