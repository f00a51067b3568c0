// RequestReader: reads the request heads of many HTTP connections on one thread and hands over each that is whole. A
// connection that is not whole at its deadline, sends too much, or is one too many is closed.
#pragma once

#include <poll.h>

#include <cstddef>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"

namespace quantd {

struct HttpConnection {
  int fd = -1;  // whoever has the connection closes it
  TimePoint deadline;
  std::string head;  // what was read: up to the empty line, and perhaps beyond
};

class RequestReader {
 public:
  static constexpr size_t kMaxHeadBytes = 16 * 1024;

  // `on_request` runs on the reader's thread and must not block. A connection whose head finds no memory is closed.
  RequestReader(size_t max_connections, std::function<void(HttpConnection&&)> on_request);
  ~RequestReader();  // closes what is not handed over

  // Any thread. Takes the socket over; where an allocation fails, it throws and does not.
  void Add(int fd, TimePoint deadline) QD_EXCLUDES(mutex_);

 private:
  enum class State { kIncomplete, kWhole, kUnusable };

  void Run();
  void TakeArrivals() QD_EXCLUDES(mutex_);
  bool Advance(HttpConnection& connection, bool readable);  // false where it waits no more
  static State Read(HttpConnection& connection);

  const size_t max_connections_;
  const std::function<void(HttpConnection&&)> on_request_;
  int wake_fd_;  // an eventfd
  Mutex mutex_;
  std::vector<HttpConnection> arrived_ QD_GUARDED_BY(mutex_);
  bool stopping_ QD_GUARDED_BY(mutex_) = false;
  std::vector<HttpConnection> waiting_;  // of the thread; oldest first, with room for all that may wait
  std::vector<pollfd> polled_;           // by the thread: the eventfd, then those; with room for all too
  std::thread thread_;
};

}  // namespace quantd
