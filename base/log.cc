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

#include "base/escape.h"
#include "base/mutex.h"

namespace quantd {
namespace {

// The mutable globals: what a process may say, and to whom, are properties of the process.
std::atomic<LogLevel> g_level{LogLevel::kInfo};
Mutex g_write_mutex;
int64_t g_dropped = 0;  // lines, under g_write_mutex

constexpr std::string_view kClearLine = "\r\033[K";

bool OnTerminal() { return isatty(2) != 0; }

std::string Prefix(LogLevel level) {
  static constexpr const char* kNames[] = {"DEBUG", "INFO", "WARN", "ERROR"};
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm utc{};
  gmtime_r(&now.tv_sec, &utc);
  char stamp[64];
  const size_t n = std::strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(stamp + n, sizeof stamp - n, ".%03ldZ", now.tv_nsec / 1000000);
  return std::string(OnTerminal() ? kClearLine : "") + stamp + " " + kNames[static_cast<int>(level)] + " ";
}

bool HasRoom() {
  pollfd p{2, POLLOUT, 0};
  return poll(&p, 1, 0) > 0;
}

// A terminal that can be written to may have room for one byte only. It is opened anew, as a file that does not block
// without making the one that others share so; where that is not allowed (another user's terminal), byte after byte.
bool WriteToTerminal(std::string_view text) {
  const int terminal = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (terminal >= 0) {
    const ssize_t n = ::write(terminal, text.data(), text.size());
    close(terminal);
    return n == static_cast<ssize_t>(text.size());
  }
  for (const char& c : text) {
    if (!HasRoom() || ::write(2, &c, 1) != 1) return false;
  }
  return true;
}

// False where not all of `text`, at most PIPE_BUF bytes, was written. A pipe that can be written to has room for that.
bool WriteUnlessItBlocks(std::string_view text) QD_REQUIRES(g_write_mutex) {
  if (OnTerminal()) return WriteToTerminal(text);
  return HasRoom() && ::write(2, text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

bool WriteLine(std::string line) QD_REQUIRES(g_write_mutex) {
  line.resize(CutUtf8(line, PIPE_BUF - 1).size());
  line += '\n';
  return WriteUnlessItBlocks(line);
}

}  // namespace

void SetLogLevel(LogLevel level) { g_level = level; }

void Log(LogLevel level, std::string_view message) {
  if (level < g_level.load()) return;
  std::string line = Prefix(level) + Escape(message);
  MutexLock lock(g_write_mutex);
  if (g_dropped > 0) {
    const std::string gap = std::to_string(g_dropped) + " log lines were dropped: nobody read them";
    if (!WriteLine(Prefix(LogLevel::kWarning) + gap)) {
      ++g_dropped;
      return;
    }
    g_dropped = 0;
  }
  if (!WriteLine(std::move(line))) ++g_dropped;
}

void DrawStatusLine(std::string_view text) {
  if (!OnTerminal()) return;
  MutexLock lock(g_write_mutex);
  WriteUnlessItBlocks((std::string(kClearLine) + std::string(text)).substr(0, PIPE_BUF));
}

}  // namespace quantd
