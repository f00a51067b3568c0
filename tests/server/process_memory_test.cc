#include "server/process_memory.h"

#include <gmock/gmock.h>

#include <fstream>
#include <limits>

#include "tests/testing/temp_dir.h"

namespace quantd {
namespace {

TEST(ProcessMemory, AvailableIsWhatTheMachineSays) {
  testing::TempDir dir;
  const std::string path = dir.path() + "/meminfo";
  std::ofstream(path) << "MemTotal:       24000000 kB\nMemFree:  5 kB\nMemAvailable:   1000 kB\n";
  EXPECT_EQ(AvailableBytes(path), 1'024'000);
  EXPECT_EQ(AvailableBytes(dir.path() + "/none"), std::numeric_limits<int64_t>::max());
}

TEST(ProcessMemory, WarnsWhereTheKvCacheMayOutgrowTheMachine) {
  EXPECT_EQ(KvMemoryWarning(1 << 30, 0, 1 << 30), "");
  EXPECT_EQ(KvMemoryWarning(1 << 30, 1 << 29, 1 << 29), "");
  const std::string warning = KvMemoryWarning(1 << 30, 1 << 29, 1 << 28);
  EXPECT_THAT(warning, ::testing::HasSubstr("may grow by 512.0 MiB, but the machine has 256.0 MiB left"));
}

}  // namespace
}  // namespace quantd
