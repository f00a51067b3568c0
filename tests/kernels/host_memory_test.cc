#include "kernels/cpu/host_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/backend.h"

namespace quantd::cpu {
namespace {

constexpr int64_t kPage = 4096, kBytes = (int64_t{5} << 20) + kPage;

int64_t ResidentPages(void* data, int64_t bytes) {
  std::vector<unsigned char> pages(static_cast<size_t>((bytes + kPage - 1) / kPage));
  EXPECT_EQ(mincore(data, static_cast<size_t>(bytes), pages.data()), 0);
  return std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; });
}

TEST(HostMemory, IsResidentFromTheStartOrOnFirstUse) {
  void* whole = AllocateHost(kBytes, Residency::kFromTheStart);
  ASSERT_NE(whole, nullptr);
  EXPECT_EQ(ResidentPages(whole, kBytes), kBytes / kPage);
  FreeHost(whole, kBytes);

  void* lazy = AllocateHost(kBytes, Residency::kOnFirstUse);
  ASSERT_NE(lazy, nullptr);
  EXPECT_EQ(ResidentPages(lazy, kBytes), 0);
  std::memset(static_cast<char*>(lazy) + 3 * kPage, 1, 2 * kPage);
  EXPECT_EQ(ResidentPages(lazy, kBytes), 2) << "what is used, not a huge page around it";
  FreeHost(lazy, kBytes);
}

TEST(HostMemory, OnlyAKvCacheWaitsForItsFirstUse) {
  auto backend = CreateBackend("cpu", {.threads = 1, .dry_run = false, .isa = ""}).value();
  for (const MemoryComponent component :
       {MemoryComponent::kWeights, MemoryComponent::kKvCache, MemoryComponent::kWorkspace}) {
    auto buffer = backend->Allocate(kBytes, {.component = component, .model = 1});
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(ResidentPages(buffer->data(), kBytes), component == MemoryComponent::kKvCache ? 0 : kBytes / kPage);
  }
}

}  // namespace
}  // namespace quantd::cpu
