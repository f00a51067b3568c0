#include "server/request_reader.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/allocation_failure.h"
#include "base/check.h"

namespace quantd {

RequestReader::RequestReader(size_t max_connections, std::function<void(HttpConnection&&)> on_request)
    : max_connections_(max_connections),
      on_request_(std::move(on_request)),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  QD_CHECK(wake_fd_ >= 0);
  waiting_.reserve(max_connections + 1);
  polled_.reserve(max_connections + 1);
  thread_ = std::thread([this] { Run(); });
}

RequestReader::~RequestReader() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  eventfd_write(wake_fd_, 1);
  thread_.join();
  TakeArrivals();
  for (const HttpConnection& c : waiting_) close(c.fd);
  close(wake_fd_);
}

void RequestReader::Add(int fd, TimePoint deadline) {
  {
    MutexLock lock(mutex_);
    arrived_.push_back({fd, deadline, {}});
  }
  eventfd_write(wake_fd_, 1);
}

void RequestReader::TakeArrivals() {
  std::vector<HttpConnection> arrived;
  {
    MutexLock lock(mutex_);
    arrived.swap(arrived_);
  }
  for (HttpConnection& c : arrived) {
    waiting_.push_back(std::move(c));
    if (waiting_.size() <= max_connections_) continue;
    close(waiting_.front().fd);
    waiting_.erase(waiting_.begin());
  }
}

void RequestReader::Run() {
  for (;;) {
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
    }
    TakeArrivals();
    polled_.assign(1, {wake_fd_, POLLIN, 0});
    TimePoint first = TimePoint::max();
    for (const HttpConnection& c : waiting_) {
      polled_.push_back({c.fd, POLLIN, 0});
      first = std::min(first, c.deadline);
    }
    int timeout = -1;
    if (!waiting_.empty()) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(first - Now()).count();
      timeout = static_cast<int>(std::clamp<int64_t>(left, 0, 60'000));
    }
    poll(polled_.data(), polled_.size(), timeout);
    eventfd_t ignored;
    if (polled_[0].revents != 0) eventfd_read(wake_fd_, &ignored);

    size_t i = 0;  // each is asked once, in order
    std::erase_if(waiting_, [&](HttpConnection& c) { return !Advance(c, polled_[++i].revents != 0); });
  }
}

bool RequestReader::Advance(HttpConnection& c, bool readable) {
  State state = State::kUnusable;  // where there is no memory for its head
  IfMemoryAllows([&] { state = readable ? Read(c) : State::kIncomplete; });
  if (state == State::kIncomplete && c.deadline > Now()) return true;
  if (state == State::kWhole) {
    on_request_(std::move(c));
  } else {
    close(c.fd);
  }
  return false;
}

RequestReader::State RequestReader::Read(HttpConnection& connection) {
  char buffer[4096];
  for (;;) {
    const ssize_t n = recv(connection.fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return State::kIncomplete;
    if (n <= 0) return State::kUnusable;
    const size_t from = connection.head.size() < 3 ? 0 : connection.head.size() - 3;
    connection.head.append(buffer, static_cast<size_t>(n));
    if (connection.head.find("\r\n\r\n", from) != std::string::npos) return State::kWhole;
    if (connection.head.size() > kMaxHeadBytes) return State::kUnusable;
  }
}

}  // namespace quantd
