#include "scheduler/memory_budget.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace quantd {
namespace {

class MemoryBudget : public testing::Test {
 protected:
  void SetUp() override {
    root_ = testing::TempDir() + "budget_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
    Write("/proc/meminfo", "MemTotal:       1000 kB\nMemFree:  10 kB\n");
  }
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path full = root_ + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  std::string root_;
};

TEST_F(MemoryBudget, TheMachinesMemoryWhereNoGroupLimits) {
  Write("/proc/self/cgroup", "0::/user/x\n");
  Write("/sys/fs/cgroup/user/x/memory.max", "max\n");
  EXPECT_EQ(MachineMemoryLimit(root_), 1000 * 1024);
}

TEST_F(MemoryBudget, AGroupAboveLimitsToo) {
  Write("/proc/self/cgroup", "0::/user/x\n");
  Write("/sys/fs/cgroup/user/x/memory.max", "900000\n");
  Write("/sys/fs/cgroup/user/memory.max", "500000\n");
  EXPECT_EQ(MachineMemoryLimit(root_), 500000);
}

TEST_F(MemoryBudget, InAContainerTheMountIsTheGroup) {
  Write("/proc/self/cgroup", "0::/docker/not/mounted\n");
  Write("/sys/fs/cgroup/memory.max", "300000\n");
  EXPECT_EQ(MachineMemoryLimit(root_), 300000);
}

TEST_F(MemoryBudget, VersionOne) {
  Write("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/a\n");
  Write("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "400000\n");
  EXPECT_EQ(MachineMemoryLimit(root_), 400000);
}

}  // namespace
}  // namespace quantd
