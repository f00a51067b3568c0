#include "server/edge/lingering_sockets.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>

namespace quantd {

void LingeringSockets::Add(int fd, TimePoint now) {
  shutdown(fd, SHUT_WR);
  if (leaving_.size() >= kMost) CloseOldest();
  leaving_.push_back({fd, now + kWait});
}

void LingeringSockets::CloseDue(TimePoint now) {
  while (!leaving_.empty() && leaving_.front().due <= now) CloseOldest();
}

bool LingeringSockets::CloseAll() {
  if (leaving_.empty()) return false;
  while (!leaving_.empty()) CloseOldest();
  return true;
}

void LingeringSockets::CloseOldest() {
  constexpr int kMostReads = 8;  // whoever goes on sending does not listen
  std::array<char, 16 * 1024> ignored;
  const int fd = leaving_.front().fd;
  for (int i = 0; i < kMostReads && recv(fd, ignored.data(), ignored.size(), MSG_DONTWAIT) > 0; ++i) {
  }
  close(fd);
  leaving_.erase(leaving_.begin());
}

}  // namespace quantd
