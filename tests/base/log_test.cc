#include "base/log.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <string>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace quantd {
namespace {
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

// Standard error as a pipe that the test reads when it likes.
class PipedStderr {
 public:
  PipedStderr() {
    EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0);
    before_ = dup(2);
    dup2(ends_[1], 2);
    fcntl(ends_[0], F_SETFL, O_NONBLOCK);
  }
  ~PipedStderr() {
    dup2(before_, 2);
    for (int fd : {before_, ends_[0], ends_[1]}) close(fd);
  }
  std::string Read() {
    std::string all;
    char buffer[4096];
    for (ssize_t n; (n = read(ends_[0], buffer, sizeof buffer)) > 0;) all.append(buffer, static_cast<size_t>(n));
    return all;
  }

 private:
  int ends_[2], before_ = -1;
};

TEST(LogTest, ALineIsTimeLevelAndMessage) {
  PipedStderr log;
  LogInfo("a=1\nb=2");
  LogWarning("c");
  EXPECT_THAT(log.Read(), MatchesRegex("....-..-..T..:..:......Z INFO a=1.nb=2\n....-..-..T..:..:......Z WARN c\n"));
}

TEST(LogTest, ALogThatNobodyReadsHoldsNobodyUpAndSaysWhatItLost) {
  PipedStderr log;
  constexpr int kLines = 5000;  // of over 100 bytes: more than a pipe holds
  for (int i = 0; i < kLines; ++i) LogInfo("line " + std::to_string(i) + std::string(100, '.'));
  const std::string first = log.Read();
  int read = 0;
  for (char c : first) read += c == '\n';
  EXPECT_GT(read, 0);
  EXPECT_LT(read, kLines);
  LogInfo("after");
  const std::string rest = log.Read();
  EXPECT_THAT(rest, HasSubstr("WARN " + std::to_string(kLines - read) + " log lines were dropped"));
  EXPECT_THAT(rest, EndsWith("after\n"));
}

// Standard error as a terminal that nobody reads, as one that was stopped with Ctrl-S.
class UnreadTerminal {
 public:
  UnreadTerminal() {
    controller_ = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    EXPECT_EQ(grantpt(controller_) | unlockpt(controller_), 0);
    terminal_ = open(ptsname(controller_), O_RDWR | O_NOCTTY | O_CLOEXEC);
    EXPECT_GE(terminal_, 0);
    before_ = dup(2);
    dup2(terminal_, 2);
  }
  ~UnreadTerminal() {
    dup2(before_, 2);
    for (int fd : {before_, terminal_, controller_}) close(fd);
  }
  // Forbids to open it anew, as another user's terminal does; root is made to be no longer root.
  bool TakeAway() {
    return fchmod(terminal_, 0) == 0 && (geteuid() != 0 || setuid(65534) == 0) &&
           open("/proc/self/fd/2", O_WRONLY | O_NOCTTY) < 0;
  }
  std::string ReadWhenThereIsSome() {
    pollfd p{controller_, POLLIN, 0};
    poll(&p, 1, 60'000);
    return Read();
  }
  // What has been written and can be read now.
  std::string Read() {
    fcntl(controller_, F_SETFL, O_NONBLOCK);
    std::string all;
    char buffer[4096];
    for (ssize_t n; (n = read(controller_, buffer, sizeof buffer)) > 0;) all.append(buffer, static_cast<size_t>(n));
    return all;
  }

 private:
  int controller_, terminal_, before_ = -1;
};

// It would hang where a write blocked.
TEST(LogTest, ATerminalThatNobodyReadsHoldsNobodyUpAndEveryLineIsWholeOrCounted) {
  UnreadTerminal terminal;
  int sent = 0;
  for (; sent < 2000; ++sent) LogInfo(std::string(300, 'x'));
  EXPECT_EQ(fcntl(2, F_GETFL) & O_NONBLOCK, 0) << "whoever shares the terminal finds it as it was";
  // The kernel hands on what was written in its own time, and makes room for more as it is read.
  std::string shown = terminal.Read();
  for (; shown.find("after\r\n") == std::string::npos; ++sent) {
    LogInfo("after");
    shown += terminal.ReadWhenThereIsSome();
  }
  int whole = 0, dropped = 0;
  std::istringstream lines(shown);
  for (std::string line; std::getline(lines, line);) {
    const std::string_view last = std::string_view(line).substr(line.rfind("\033[K") + 3);  // what was cut is cleared
    whole += last.find(" INFO ") != std::string_view::npos;
    if (const size_t warn = last.find(" WARN "); warn != std::string_view::npos) {
      dropped += std::atoi(last.data() + warn + 6);
    }
  }
  EXPECT_GT(dropped, 0);
  EXPECT_EQ(whole + dropped, sent);
}

TEST(LogTest, AStatusLineOnATerminalThatNobodyReadsHoldsNobodyUp) {
  UnreadTerminal terminal;
  DrawStatusLine("loading");
  EXPECT_EQ(terminal.ReadWhenThereIsSome(), "\r\033[Kloading");
  for (int i = 0; i < 2000; ++i) DrawStatusLine(std::string(300, 'x'));
}

// A process of its own: it may not become root again.
TEST(LogTest, AnotherUsersTerminalThatNobodyReadsHoldsNobodyUp) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // ends it where a write blocks
    UnreadTerminal terminal;
    if (!terminal.TakeAway()) _exit(2);
    for (int i = 0; i < 2000; ++i) LogInfo(std::string(300, 'x'));
    for (std::string shown; shown.find("log lines were dropped") == std::string::npos;) {
      shown += terminal.ReadWhenThereIsSome();
      LogInfo("after");
    }
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(LogTest, AStatusLineIsForTerminals) {
  PipedStderr log;
  DrawStatusLine("loading");
  EXPECT_EQ(log.Read(), "");
}

TEST(LogTest, ALineIsCutWhereOneWriteEnds) {
  PipedStderr log;
  LogInfo("what was dropped before is said now");
  log.Read();
  LogInfo(std::string(100'000, 'x'));
  EXPECT_EQ(log.Read().size(), 4096u);
}

}  // namespace
}  // namespace quantd
