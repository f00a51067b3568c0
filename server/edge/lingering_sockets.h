// Sockets of clients that were told to go. They are closed a moment later, once what they had sent by then was read: a
// socket that is closed with unread bytes resets its connection, and the client loses what it was told.
#pragma once

#include <cstddef>
#include <vector>

#include "base/clock.h"

namespace quantd {

class LingeringSockets {
 public:
  static constexpr size_t kMost = 16;  // the oldest makes room
  static constexpr Duration kWait = std::chrono::milliseconds(500);

  LingeringSockets() { leaving_.reserve(kMost); }
  ~LingeringSockets() { CloseAll(); }

  // Takes the socket over, and no memory; nothing more is sent.
  void Add(int fd, TimePoint now);
  void CloseDue(TimePoint now);
  // False if there was none.
  bool CloseAll();
  bool empty() const { return leaving_.empty(); }

 private:
  struct Leaving {
    int fd;
    TimePoint due;
  };
  void CloseOldest();

  std::vector<Leaving> leaving_;  // the oldest first
};

}  // namespace quantd
