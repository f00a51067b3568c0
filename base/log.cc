#include "base/log.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <ctime>
#include <string>
#include <utility>

#include "base/mutex.h"

namespace quantd {
namespace {

// The mutable globals: what a process may say, and to whom, are properties of the process.
std::atomic<LogLevel> g_level{LogLevel::kInfo};
Mutex g_write_mutex;
int64_t g_dropped = 0;  // lines, under g_write_mutex

std::string Prefix(LogLevel level) {
  static constexpr const char* kNames[] = {"DEBUG", "INFO", "WARN", "ERROR"};
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm utc{};
  gmtime_r(&now.tv_sec, &utc);
  char stamp[64];
  const size_t n = std::strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(stamp + n, sizeof stamp - n, ".%03ldZ", now.tv_nsec / 1000000);
  // What stands on a terminal's line already, such as a progress bar, makes room.
  static const bool kTerminal = isatty(2) != 0;
  return std::string(kTerminal ? "\r\033[K" : "") + stamp + " " + kNames[static_cast<int>(level)] + " ";
}

// A pipe that can be written to has room for PIPE_BUF bytes. A terminal may have room for fewer: it is opened anew, as
// a file that does not block without making the one that others share so.
bool WriteUnlessItBlocks(std::string line) {
  if (line.size() >= PIPE_BUF) line.resize(PIPE_BUF - 1);
  line += '\n';
  const int terminal = isatty(2) != 0 ? open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
  if (terminal >= 0) {
    const ssize_t n = ::write(terminal, line.data(), line.size());
    close(terminal);
    return n > 0;
  }
  pollfd p{2, POLLOUT, 0};
  if (poll(&p, 1, 0) <= 0) return false;
  return ::write(2, line.data(), line.size()) > 0;
}

}  // namespace

void SetLogLevel(LogLevel level) { g_level = level; }

void Log(LogLevel level, std::string_view message) {
  if (level < g_level.load()) return;
  std::string line = Prefix(level);
  for (char c : message) line += (c == '\n' || c == '\r') ? ' ' : c;
  MutexLock lock(g_write_mutex);
  if (g_dropped > 0) {
    const std::string gap = std::to_string(g_dropped) + " log lines were dropped: nobody read them";
    if (!WriteUnlessItBlocks(Prefix(LogLevel::kWarning) + gap)) {
      ++g_dropped;
      return;
    }
    g_dropped = 0;
  }
  if (!WriteUnlessItBlocks(std::move(line))) ++g_dropped;
}

}  // namespace quantd
