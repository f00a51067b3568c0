#include "kernels/memory_ledger.h"

#include <gtest/gtest.h>

namespace quantd {
namespace {

TEST(MemoryLedgerTest, CountsByModelAndComponentAndKeepsThePeakOfTheirSum) {
  MemoryLedger ledger;
  ledger.Add({MemoryComponent::kWeights, 1}, 100);
  ledger.Add({MemoryComponent::kKvCache, 1}, 50);
  ledger.Remove({MemoryComponent::kKvCache, 1}, 50);
  ledger.Add({MemoryComponent::kWorkspace, 1}, 20);
  ledger.Add({MemoryComponent::kWorkspace, 0}, 7);
  const MemorySnapshot& snapshot = ledger.snapshot();
  EXPECT_EQ(snapshot.models.at(1).bytes, (std::array<int64_t, 3>{100, 0, 20}));
  EXPECT_EQ(snapshot.models.at(1).total(), 120);
  EXPECT_EQ(snapshot.models.at(0).total(), 7);
  EXPECT_EQ(snapshot.peak_bytes.at(1), 150);
  EXPECT_EQ(snapshot.peak_bytes.at(0), 7);
}

}  // namespace
}  // namespace quantd
