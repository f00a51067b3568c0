// RequestReader: reads the request heads of many HTTP connections on one thread and hands over each that is whole. A
// connection that is not whole at its deadline, sends too much, or is one too many is closed.
#pragma once

#include <cstddef>
#include <deque>
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

  // `on_request` runs on the reader's thread and must not block.
  RequestReader(size_t max_connections, std::function<void(HttpConnection&&)> on_request);
  ~RequestReader();  // closes what is not handed over

  // Any thread. Takes the socket over.
  void Add(int fd, TimePoint deadline) QD_EXCLUDES(mutex_);

 private:
  enum class State { kIncomplete, kWhole, kUnusable };

  void Run();
  void TakeArrivals() QD_EXCLUDES(mutex_);
  static State Read(HttpConnection& connection);

  const size_t max_connections_;
  const std::function<void(HttpConnection&&)> on_request_;
  int wake_fd_;  // an eventfd
  Mutex mutex_;
  std::vector<HttpConnection> arrived_ QD_GUARDED_BY(mutex_);
  bool stopping_ QD_GUARDED_BY(mutex_) = false;
  std::deque<HttpConnection> waiting_;  // of the thread; oldest first
  std::thread thread_;
};

}  // namespace quantd
