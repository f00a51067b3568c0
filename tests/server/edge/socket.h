// Ends of connections, for tests of the edge.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include <gtest/gtest.h>

#include "server/edge/http2_frame.h"
#include "tests/server/edge/http2_client.h"

namespace quantd::testing {

// A socket that blocks, but never for ever: a read that takes a minute fails the test.
class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {
    if (fd < 0) return;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    const timeval minute{60, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof minute);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &minute, sizeof minute);
  }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket() { Close(); }

  int fd() const { return fd_; }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  void Send(std::string_view bytes) const {
    ASSERT_EQ(send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }
  // Exactly so many bytes, fewer where the other side closes first.
  std::string Read(size_t bytes) const {
    std::string out(bytes, '\0');
    size_t have = 0;
    while (have < bytes) {
      const ssize_t n = recv(fd_, out.data() + have, bytes - have, 0);
      if (n <= 0) break;
      have += static_cast<size_t>(n);
    }
    out.resize(have);
    return out;
  }
  std::string ReadFrame() const {
    const std::string header = Read(kFrameHeaderBytes);
    if (header.size() < kFrameHeaderBytes) return header;
    return header + Read(ParseFrameHeader(Bytes(header)).length);
  }
  // To the end, which the other side makes.
  std::string ReadAll() const {
    std::string out;
    const ssize_t n = ReadWhileThereIs(out);
    EXPECT_FALSE(n < 0 && errno == EAGAIN) << "no end within a minute";
    return out;
  }
  // The same, where a reset of the connection is a failure.
  std::string ReadToCleanEnd() const {
    std::string out;
    EXPECT_EQ(ReadWhileThereIs(out), 0) << std::strerror(errno);
    return out;
  }
  // What is there now.
  std::string ReadNow() const {
    std::string out(1 << 20, '\0');
    const ssize_t n = recv(fd_, out.data(), out.size(), MSG_DONTWAIT);
    out.resize(static_cast<size_t>(std::max<ssize_t>(n, 0)));
    return out;
  }
  // Sends repetitions of `frame` until nothing more is taken, which `is_over` says after a refusal.
  std::string SendUntil(const std::string& frame, const std::function<bool()>& is_over) const {
    std::string sent;
    for (;;) {
      const size_t at = sent.size() % frame.size();
      const ssize_t n = send(fd_, frame.data() + at, frame.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n > 0) {
        sent.append(frame, at, static_cast<size_t>(n));
      } else if (is_over()) {
        return sent;
      }
    }
  }

 private:
  ssize_t ReadWhileThereIs(std::string& out) const {
    char buffer[4096];
    ssize_t n;
    while ((n = recv(fd_, buffer, sizeof buffer, 0)) > 0) out.append(buffer, static_cast<size_t>(n));
    return n;
  }

  int fd_;
};

}  // namespace quantd::testing
