// Whether somebody who connects to the data port now is served: the daemon tries it, as a client would.
#pragma once

#include <sys/socket.h>

#include <functional>
#include <optional>

#include "base/clock.h"
#include "base/mutex.h"

namespace quantd {

class ConnectProbe {
 public:
  static constexpr Duration kKeep = std::chrono::seconds(1);  // an answer stands for this long
  static constexpr Duration kTimeout = std::chrono::seconds(1);

  // Where it listens, as getsockname says; an unspecified address is tried over loopback. `announce` hears the port
  // that it connects from (0 for a Unix socket).
  ConnectProbe(const sockaddr_storage& address, socklen_t size, std::function<void(int port)> announce);

  // Any thread. Connects, says the preface of HTTP/2 and waits for the server's SETTINGS. One thread tries at a time;
  // the others get the last answer, false at first.
  bool Answers() QD_EXCLUDES(mutex_);

 private:
  bool Try() const;

  sockaddr_storage address_;
  const socklen_t size_;
  const std::function<void(int)> announce_;
  Mutex mutex_;
  bool trying_ QD_GUARDED_BY(mutex_) = false;
  bool answer_ QD_GUARDED_BY(mutex_) = false;
  std::optional<TimePoint> answered_at_ QD_GUARDED_BY(mutex_);
};

}  // namespace quantd
