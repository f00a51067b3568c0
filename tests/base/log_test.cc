#include "base/log.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>

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
  EXPECT_THAT(log.Read(), MatchesRegex("....-..-..T..:..:......Z INFO a=1 b=2\n....-..-..T..:..:......Z WARN c\n"));
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

// It would hang where a write blocked.
TEST(LogTest, ATerminalThatNobodyReadsHoldsNobodyUp) {
  const int controller = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_GE(controller, 0);
  ASSERT_EQ(grantpt(controller) | unlockpt(controller), 0);
  const int terminal = open(ptsname(controller), O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_GE(terminal, 0);
  const int before = dup(2);
  dup2(terminal, 2);
  for (int i = 0; i < 2000; ++i) LogInfo(std::string(300, 'x'));
  const bool blocks = (fcntl(2, F_GETFL) & O_NONBLOCK) == 0;
  dup2(before, 2);
  for (int fd : {before, terminal, controller}) close(fd);
  EXPECT_TRUE(blocks) << "whoever shares the terminal finds it as it was";
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
