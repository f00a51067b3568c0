#include "scheduler/block_manager.h"

#include <numeric>

#include <gtest/gtest.h>

namespace quantd {
namespace {

constexpr int kBlock = 4;

std::vector<int32_t> Tokens(int n, int first = 100) {
  std::vector<int32_t> t(static_cast<size_t>(n));
  std::iota(t.begin(), t.end(), first);
  return t;
}

void ExpectCounts(const BlockManager& m, int64_t used, int64_t cached, int64_t free) {
  EXPECT_EQ(m.used(), used);
  EXPECT_EQ(m.cached(), cached);
  EXPECT_EQ(m.free(), free);
}

// A sequence of `tokens` that was computed whole.
BlockTable Compute(BlockManager& m, const std::vector<int32_t>& tokens, std::string_view text = "") {
  const CacheSalt salt(text);
  BlockTable t;
  m.Match(salt, tokens, t);
  EXPECT_TRUE(m.Grow(t, static_cast<int64_t>(tokens.size())));
  m.Publish(salt, tokens, static_cast<int64_t>(tokens.size()), t);
  return t;
}

TEST(BlockManager, GrowsByWholeBlocksAndAllOrNothing) {
  BlockManager m(3, kBlock);
  BlockTable t;
  EXPECT_TRUE(m.Grow(t, 5));
  EXPECT_EQ(t.ids.size(), 2u);
  EXPECT_TRUE(m.Grow(t, 8));
  EXPECT_EQ(t.ids.size(), 2u);
  BlockTable other;
  EXPECT_FALSE(m.Grow(other, 5));
  EXPECT_TRUE(other.ids.empty());
  ExpectCounts(m, 2, 0, 1);
  m.Release(t);
  ExpectCounts(m, 0, 0, 3);
}

TEST(BlockManager, FindsAPrefixOnlyAfterItWasPublished) {
  BlockManager m(8, kBlock);
  const auto tokens = Tokens(12);
  BlockTable a, b;
  ASSERT_TRUE(m.Grow(a, 12));
  EXPECT_EQ(m.Match(CacheSalt(""), tokens, b), 0);
  m.Publish(CacheSalt(""), tokens, 7, a);  // one whole block
  EXPECT_EQ(m.Match(CacheSalt(""), tokens, b), 4);
  EXPECT_EQ(b.ids, std::vector<int32_t>({a.ids[0]}));
  m.Release(a);
  m.Release(b);
  ExpectCounts(m, 0, 1, 7);
}

TEST(BlockManager, AHitCoversAtMostAllTokensButOne) {
  BlockManager m(8, kBlock);
  BlockTable a = Compute(m, Tokens(8));
  BlockTable b, c;
  EXPECT_EQ(m.Match(CacheSalt(""), Tokens(8), b), 4);
  EXPECT_EQ(m.Match(CacheSalt(""), Tokens(9), c), 8);
  for (BlockTable* t : {&a, &b, &c}) m.Release(*t);
  ExpectCounts(m, 0, 2, 6);
}

TEST(BlockManager, SaltAndParentKeepContentsApart) {
  BlockManager m(16, kBlock);
  BlockTable a = Compute(m, Tokens(8), "tenant a");
  BlockTable b;
  EXPECT_EQ(m.Match(CacheSalt("tenant b"), Tokens(9), b), 0);
  // The second block's tokens after another first block.
  std::vector<int32_t> other = Tokens(4, 500);
  for (int32_t t : Tokens(5, 104)) other.push_back(t);
  EXPECT_EQ(m.Match(CacheSalt("tenant a"), other, b), 0);
  EXPECT_EQ(m.Match(CacheSalt("tenant a"), Tokens(9), b), 8);
  m.Release(a);
  m.Release(b);
}

TEST(BlockManager, AHashCollisionIsAMiss) {
  BlockManager m(8, kBlock, [](uint64_t, std::string_view, std::span<const int32_t>) -> uint64_t { return 7; });
  BlockTable a = Compute(m, Tokens(8, 100));
  BlockTable b;
  EXPECT_EQ(m.Match(CacheSalt(""), Tokens(9, 200), b), 0);
  EXPECT_EQ(m.Match(CacheSalt("other"), Tokens(9, 100), b), 0);
  m.Release(a);
  EXPECT_EQ(m.cached() + m.free(), 8);
  BlockTable c = Compute(m, Tokens(4, 300));  // takes the one slot of the index
  EXPECT_EQ(m.Match(CacheSalt(""), Tokens(5, 300), b), 4);
  m.Release(b);
  m.Release(c);
  ExpectCounts(m, 0, 1, 7);
}

TEST(BlockManager, TakesUnknownContentsFirstThenTheLeastRecentlyReleasedTailFirst) {
  BlockManager m(5, kBlock);
  BlockTable a = Compute(m, Tokens(8, 100)), b = Compute(m, Tokens(8, 200));
  const std::vector<int32_t> a_ids = a.ids, b_ids = b.ids;
  m.Release(a);
  m.Release(b);
  ExpectCounts(m, 0, 4, 1);
  BlockTable c;
  ASSERT_TRUE(m.Grow(c, 4 * kBlock));
  EXPECT_EQ(c.ids[1], a_ids[1]);
  EXPECT_EQ(c.ids[2], a_ids[0]);
  EXPECT_EQ(c.ids[3], b_ids[1]);
  BlockTable d;
  EXPECT_EQ(m.Match(CacheSalt(""), Tokens(9, 200), d), 4);  // b's first block is still there
  m.Release(c);
  m.Release(d);
}

TEST(BlockManager, TheSameContentComputedTwiceIsFoundOnce) {
  BlockManager m(8, kBlock);
  BlockTable a, b;
  ASSERT_TRUE(m.Grow(a, 8));
  ASSERT_TRUE(m.Grow(b, 8));
  m.Publish(CacheSalt(""), Tokens(8), 8, a);
  m.Publish(CacheSalt(""), Tokens(8), 8, b);
  EXPECT_EQ(a.chain, b.chain);
  m.Release(b);
  ExpectCounts(m, 2, 0, 6);
  m.Release(a);
  ExpectCounts(m, 0, 2, 6);
}

TEST(BlockManager, ForkSharesWholeBlocksAndReportsTheCopyOfAPartialOne) {
  BlockManager m(4, kBlock);
  BlockTable a = Compute(m, Tokens(6));
  std::optional<BlockCopy> copy;
  std::optional<BlockTable> b = m.Fork(a, 6, copy);
  ASSERT_TRUE(b && copy);
  EXPECT_EQ(b->ids[0], a.ids[0]);
  EXPECT_NE(b->ids[1], a.ids[1]);
  EXPECT_EQ(copy->from, a.ids[1]);
  EXPECT_EQ(copy->to, b->ids[1]);
  std::optional<BlockTable> whole = m.Fork(a, 4, copy);
  ASSERT_TRUE(whole);
  EXPECT_FALSE(copy);
  BlockTable rest;
  ASSERT_TRUE(m.Grow(rest, 4));
  EXPECT_FALSE(m.Fork(a, 6, copy));  // no block for the partial one
  m.Release(a);
  ExpectCounts(m, 3, 0, 1);
  for (BlockTable* t : {&*b, &*whole, &rest}) m.Release(*t);
  ExpectCounts(m, 0, 1, 3);
}

// So memory that is resident on first use becomes so from the first block on, and no further than ever was needed.
TEST(BlockManager, BlocksNeverUsedAreTakenInOrderAndOnlyWhereNoOtherIsFree) {
  BlockManager blocks(10, 4);
  EXPECT_EQ(blocks.touched(), 0);
  for (int round = 0; round < 5; ++round) {
    BlockTable table;
    ASSERT_TRUE(blocks.Grow(table, 12));
    EXPECT_EQ(blocks.touched(), 3) << "round " << round;
    for (const int32_t id : table.ids) EXPECT_LT(id, 3);
    blocks.Release(table);
  }
  BlockTable a, b;
  ASSERT_TRUE(blocks.Grow(a, 16));
  EXPECT_EQ(blocks.touched(), 4);
  ASSERT_TRUE(blocks.Grow(b, 24));
  EXPECT_EQ(blocks.touched(), 10);
}

}  // namespace
}  // namespace quantd
