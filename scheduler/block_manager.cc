#include "scheduler/block_manager.h"

#include <algorithm>
#include <bit>
#include <utility>

#include <absl/hash/hash.h>
#include <absl/types/span.h>

#include "base/check.h"
#include "base/strings.h"

namespace quantd {
namespace {
constexpr int32_t kEnd = -1;
}

uint64_t BlockManager::DefaultHash(uint64_t parent_chain, std::string_view salt, std::span<const int32_t> tokens) {
  return absl::HashOf(parent_chain, ToAbsl(salt), absl::Span<const int32_t>(tokens.data(), tokens.size()));
}

BlockManager::BlockManager(int64_t blocks, int block_tokens, HashFunction hash)
    : block_tokens_(block_tokens),
      hash_(hash),
      blocks_(static_cast<size_t>(blocks)),
      tokens_(static_cast<size_t>(blocks) * static_cast<size_t>(block_tokens)),
      index_(std::bit_ceil(static_cast<size_t>(blocks)), kEnd) {
  QD_CHECK(blocks > 0 && block_tokens > 0);
  list_.prev = list_.next = kEnd;
  for (int32_t id = 0; id < static_cast<int32_t>(blocks); ++id) Link(id, kEnd);
  available_ = blocks;
}

void BlockManager::Link(int32_t id, int32_t before) {
  Block& block = At(id);
  block.next = before;
  block.prev = At(before).prev;
  At(block.prev).next = id;
  At(before).prev = id;
}

void BlockManager::Unlink(int32_t id) {
  Block& block = At(id);
  At(block.prev).next = block.next;
  At(block.next).prev = block.prev;
}

void BlockManager::Ref(int32_t id) {
  Block& block = At(id);
  if (block.refs++ > 0) return;
  Unlink(id);
  --available_;
  if (block.chain != 0) --cached_;
}

void BlockManager::Unref(int32_t id) {
  Block& block = At(id);
  QD_CHECK(block.refs > 0);
  if (--block.refs > 0) return;
  ++available_;
  if (block.chain != 0) {
    ++cached_;
    Link(id, kEnd);
  } else {
    Link(id, list_.next);
  }
}

void BlockManager::Forget(int32_t id) {
  Block& block = At(id);
  if (block.chain == 0) return;
  LinkOf(block.key) = block.next_in_bucket;
  block.chain = 0;
  block.salt = CacheSalt();
  if (block.refs == 0) --cached_;
}

int32_t BlockManager::Take() {
  const int32_t id = list_.next;
  QD_CHECK(id != kEnd);
  Forget(id);
  Ref(id);
  touched_ = std::max<int64_t>(touched_, id + 1);
  return id;
}

int32_t& BlockManager::LinkOf(uint64_t key) {
  int32_t* link = &index_[static_cast<size_t>(key) & (index_.size() - 1)];
  while (*link != kEnd && At(*link).key != key) link = &At(*link).next_in_bucket;
  return *link;
}

int32_t BlockManager::Find(uint64_t key, uint64_t parent, std::string_view salt, std::span<const int32_t> tokens) {
  const int32_t id = LinkOf(key);
  if (id == kEnd) return kEnd;
  const Block& block = At(id);
  if (block.parent != parent || block.salt.text() != salt) return kEnd;
  return std::ranges::equal(TokensOf(id), tokens) ? id : kEnd;
}

int64_t BlockManager::Match(const CacheSalt& salt, std::span<const int32_t> tokens, BlockTable& table) {
  QD_CHECK(table.ids.empty() && table.published == 0);
  const size_t step = static_cast<size_t>(block_tokens_);
  table.ids.reserve(tokens.size() / step);
  for (size_t begin = 0; begin + step < tokens.size(); begin += step) {
    const std::string_view root = begin == 0 ? salt.text() : std::string_view();
    const auto content = tokens.subspan(begin, step);
    const int32_t id = Find(hash_(table.chain, root, content), table.chain, root, content);
    if (id < 0) break;
    Ref(id);
    table.ids.push_back(id);
    table.chain = At(id).chain;
    ++table.published;
  }
  return table.published * block_tokens_;
}

bool BlockManager::Grow(BlockTable& table, int64_t tokens) {
  const int64_t missing = BlocksFor(tokens) - static_cast<int64_t>(table.ids.size());
  if (missing > available_) return false;
  if (missing > 0) table.ids.reserve(static_cast<size_t>(BlocksFor(tokens)));
  for (int64_t i = 0; i < missing; ++i) table.ids.push_back(Take());
  return true;
}

void BlockManager::Publish(const CacheSalt& salt, std::span<const int32_t> tokens, int64_t computed,
                           BlockTable& table) {
  const size_t step = static_cast<size_t>(block_tokens_);
  for (; (table.published + 1) * block_tokens_ <= computed; ++table.published) {
    const bool first = table.published == 0;
    const std::string_view root = first ? salt.text() : std::string_view();
    const auto content = tokens.subspan(static_cast<size_t>(table.published) * step, step);
    const uint64_t key = hash_(table.chain, root, content);
    const int32_t known = Find(key, table.chain, root, content);
    if (known >= 0) {  // another sequence computed the same: its block stays the one to find
      table.chain = At(known).chain;
      continue;
    }
    if (const int32_t other = LinkOf(key); other != kEnd) Forget(other);  // a collision: the newer one stays
    const int32_t id = table.ids[static_cast<size_t>(table.published)];
    Block& block = At(id);
    block.parent = table.chain;
    block.key = key;
    if (first) block.salt = salt;
    block.chain = table.chain = ++last_chain_;
    std::ranges::copy(content, TokensOf(id).begin());
    int32_t& bucket = index_[static_cast<size_t>(key) & (index_.size() - 1)];
    block.next_in_bucket = std::exchange(bucket, id);
  }
}

void BlockManager::Release(BlockTable& table) {
  for (auto it = table.ids.rbegin(); it != table.ids.rend(); ++it) Unref(*it);
  table.ids.clear();
  table.published = 0;
  table.chain = 0;
}

std::optional<BlockTable> BlockManager::Fork(const BlockTable& table, int64_t tokens, std::optional<BlockCopy>& copy) {
  copy.reset();
  const int64_t whole = tokens / block_tokens_;
  const bool partial = tokens % block_tokens_ != 0;
  QD_CHECK(BlocksFor(tokens) <= static_cast<int64_t>(table.ids.size()) && table.published <= whole);
  if (partial && available_ == 0) return std::nullopt;
  BlockTable child;
  child.ids.reserve(static_cast<size_t>(BlocksFor(tokens)));
  child.ids.assign(table.ids.begin(), table.ids.begin() + whole);
  child.published = table.published;
  child.chain = table.chain;
  for (int32_t id : child.ids) Ref(id);
  if (partial) {
    child.ids.push_back(Take());
    copy = BlockCopy{table.ids[static_cast<size_t>(whole)], child.ids.back()};
  }
  return child;
}

}  // namespace quantd
