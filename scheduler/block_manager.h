// BlockManager: which KV block belongs to whom. Pure bookkeeping of block ids; the storage is runtime/kv_cache.h.
//
// A block is used (a sequence refers to it), cached (nobody does, but the prefix index knows its contents) or free.
// Free and cached blocks form one list in the order in which they will be taken: blocks of unknown content first, then
// the least recently released. Taking a cached block is its eviction. All single-block operations are O(1).
//
// Nothing is allocated after the constructor but the ids of a table, which its owner may reserve.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quantd {

// What keeps one tenant's prefixes from another's. Copies share the text.
class CacheSalt {
 public:
  CacheSalt() = default;
  explicit CacheSalt(std::string_view text) {
    if (!text.empty()) text_ = std::make_shared<const std::string>(text);
  }
  std::string_view text() const { return text_ == nullptr ? std::string_view() : *text_; }

 private:
  std::shared_ptr<const std::string> text_;  // null: empty
};

// The blocks of one sequence: block ids[i] holds positions [i * block_tokens, (i + 1) * block_tokens).
struct BlockTable {
  std::vector<int32_t> ids;
  int64_t published = 0;  // leading blocks whose contents the prefix index has been told
  uint64_t chain = 0;     // names the exact tokens of those blocks; 0 = none
};

struct BlockCopy {
  int32_t from = 0, to = 0;
};

class BlockManager {
 public:
  // Hash of a block by the chain before it, the salt (for a first block) and its tokens. Replaceable so that tests can
  // make every block collide.
  using HashFunction = uint64_t (*)(uint64_t parent_chain, std::string_view salt, std::span<const int32_t> tokens);
  static uint64_t DefaultHash(uint64_t parent_chain, std::string_view salt, std::span<const int32_t> tokens);

  BlockManager(int64_t blocks, int block_tokens, HashFunction hash = DefaultHash);

  // Points the empty `table` at the cached blocks that hold the longest known prefix of `tokens`, whole blocks only and
  // at most tokens.size() - 1 tokens, so that something is left to compute. Returns the tokens covered. Tokens, salt
  // and the whole chain before a block are compared, so a hash collision is a miss.
  int64_t Match(const CacheSalt& salt, std::span<const int32_t> tokens, BlockTable& table);

  // Makes room for `tokens` tokens. False, and nothing changed, where blocks are lacking.
  bool Grow(BlockTable& table, int64_t tokens);

  // Tells the index of the whole blocks among the first `computed` of `tokens`. Only for contents that are really
  // there: call it when the step that filled them has succeeded.
  void Publish(const CacheSalt& salt, std::span<const int32_t> tokens, int64_t computed, BlockTable& table);

  // Gives back every block and empties the table. Later blocks are taken again before earlier ones.
  void Release(BlockTable& table);

  // A second sequence with the same first `tokens` tokens. Whole blocks are shared; a partial last block gets a block
  // of its own, and `copy` says what to copy into it. Nothing where a block is lacking.
  std::optional<BlockTable> Fork(const BlockTable& table, int64_t tokens, std::optional<BlockCopy>& copy);

  int64_t BlocksFor(int64_t tokens) const { return (tokens + block_tokens_ - 1) / block_tokens_; }
  int block_tokens() const { return block_tokens_; }
  int64_t total() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t used() const { return total() - available_; }
  int64_t cached() const { return cached_; }
  int64_t free() const { return available_ - cached_; }
  int64_t available() const { return available_; }  // cached + free: what Grow can take
  int64_t touched() const { return touched_; }      // ever used; those that never were are taken in order of their ids

 private:
  struct Block {
    int32_t prev = 0, next = 0;  // in the list of available blocks
    int32_t refs = 0;
    uint64_t chain = 0;   // never used twice; 0 = not in the index
    uint64_t parent = 0;  // chain of the block before; 0 = a first block
    uint64_t key = 0;
    int32_t next_in_bucket = 0;  // of the index
    CacheSalt salt;              // of a first block
  };

  std::span<int32_t> TokensOf(int32_t id) {
    return std::span(tokens_).subspan(static_cast<size_t>(id) * static_cast<size_t>(block_tokens_),
                                      static_cast<size_t>(block_tokens_));
  }
  // Where the index refers to the block of this key, or to none: -1 is there.
  int32_t& LinkOf(uint64_t key);
  int32_t Find(uint64_t key, uint64_t parent, std::string_view salt, std::span<const int32_t> tokens);  // -1 = none
  int32_t Take();
  void Ref(int32_t id);
  void Unref(int32_t id);
  void Forget(int32_t id);
  void Link(int32_t id, int32_t before);
  void Unlink(int32_t id);

  int block_tokens_;
  HashFunction hash_;
  std::vector<Block> blocks_;
  Block list_;  // sentinel of the list, under the id -1
  Block& At(int32_t id) { return id < 0 ? list_ : blocks_[static_cast<size_t>(id)]; }
  std::vector<int32_t> tokens_;  // contents of indexed blocks, [blocks, block_tokens]
  std::vector<int32_t> index_;   // bucket → its first block; as many as there may be blocks: it never grows
  int64_t available_ = 0, cached_ = 0, touched_ = 0;
  uint64_t last_chain_ = 0;
};

}  // namespace quantd
