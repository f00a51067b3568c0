// The paged KV cache of one model: storage only. Which block belongs to whom is the scheduler's BlockManager's
// business.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "kernels/backend.h"
#include "kernels/ragged_batch.h"

namespace quantd {

struct KvCacheConfig {
  int64_t layers = 0, kv_heads = 0, head_dim = 0;
  int64_t blocks = 0;
  KvFormat keys = KvFormat::kBF16, values = KvFormat::kBF16;

  int64_t bytes_per_token() const;  // of all layers, scales included
  int64_t bytes_per_block() const { return bytes_per_token() * kKvBlockTokens; }
};
absl::StatusOr<KvFormat> ParseKvFormat(std::string_view name);  // "f32", "bf16", "int8"
std::string_view Name(KvFormat format);

// Belongs to the thread that owns the backend. Allocated whole when made.
class KvCache {
 public:
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(Backend& backend, const KvCacheConfig& config, MemoryTag tag);
  const KvCacheConfig& config() const { return config_; }
  const PagedKv& layer(int64_t i) const { return layers_[static_cast<size_t>(i)]; }

 private:
  KvCacheConfig config_;
  std::vector<Buffer> buffers_;
  std::vector<PagedKv> layers_;
};

}  // namespace quantd
