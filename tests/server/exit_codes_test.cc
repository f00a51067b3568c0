// The exit codes of docs/operations.md that a shell cannot provoke: of bugs, and of memory that ends anywhere in a
// command. cli_test.py has the others.
#include <fcntl.h>
#include <unistd.h>

#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "server/cli/cli.h"
#include "tests/testing/failing_allocator.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {
using quantd::testing::FailAllocation;
using quantd::testing::SourcePath;

// `quantd WORDS...` in this process, its output thrown away.
class Command {
 public:
  explicit Command(std::vector<std::string> words) : words_(std::move(words)) {
    words_.insert(words_.begin(), "quantd");
    for (std::string& word : words_) argv_.push_back(word.data());
    argv_.push_back(nullptr);
  }
  int Run() {
    std::fflush(stdout);
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    const int out = dup(1), err = dup(2);
    dup2(nowhere, 1), dup2(nowhere, 2);
    const int code = Main(static_cast<int>(words_.size()), argv_.data());
    std::fflush(stdout);
    dup2(out, 1), dup2(err, 2);
    for (const int fd : {nowhere, out, err}) close(fd);
    return code;
  }

 private:
  std::vector<std::string> words_;
  std::vector<char*> argv_;
};

std::string SmallModel() { return SourcePath("tests/goldens/gguf/mixed_tied_gpt2.gguf"); }

TEST(ExitCodes, ABugIs70) {
  EXPECT_EQ(ExitCodeOf(absl::InternalError("a bug")), kExitInternal);
  Command command({"plan", SmallModel()});
  ASSERT_EQ(command.Run(), kExitOk);
  for (const int64_t n : {200, 400, 800}) {
    FailAllocation failure(n, /*in_a_row=*/1, FailAllocation::As::kBug);
    EXPECT_EQ(command.Run(), kExitInternal) << n;
    EXPECT_TRUE(failure.failed());
  }
}

// Whatever the command does at the time: reading flags, opening files, building a tokenizer, planning.
TEST(ExitCodes, MemoryThatEndsAnywhereIs5) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  Command command({"plan", SmallModel()});
  int64_t most = 1;
  for (bool failed = true; failed; most *= 2) {
    FailAllocation failure(most);
    command.Run();
    failed = failure.failed();
  }
  int resources = 0;
  for (int i = 0; i < 300; ++i) {
    const int64_t n = 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(most));
    SCOPED_TRACE(n);
    FailAllocation failure(n, i % 2 == 0 ? 1 : FailAllocation::kAllThatFollow);
    const int code = command.Run();
    EXPECT_TRUE(code == kExitResources || code == kExitOk) << code;  // a sort goes on without its buffer
    EXPECT_TRUE(failure.failed() || code == kExitOk);
    resources += code == kExitResources;
  }
  EXPECT_GT(resources, 50);
}

}  // namespace
}  // namespace quantd
