// Buffer: owned device memory with a name on it. Every device byte of the product belongs to one.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

namespace quantd {

enum class MemoryComponent : uint8_t { kWeights, kKvCache, kWorkspace };
inline constexpr int kNumMemoryComponents = 3;
inline constexpr std::string_view Name(MemoryComponent c) {
  constexpr std::string_view kNames[] = {"weights", "kv_cache", "workspace"};
  return kNames[static_cast<int>(c)];
}

using ModelId = int32_t;  // given by the registry; 0 belongs to no model
struct MemoryTag {
  MemoryComponent component = MemoryComponent::kWorkspace;
  ModelId model = 0;
};

class Backend;

// Move-only. Freed through its backend, which must outlive it, on the thread that owns the backend. In a dry run `data`
// is null and `bytes` is what would have been allocated.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Backend* backend, void* data, int64_t bytes, MemoryTag tag)
      : backend_(backend), data_(data), bytes_(bytes), tag_(tag) {}
  Buffer(Buffer&& o) noexcept { *this = std::move(o); }
  Buffer& operator=(Buffer&& o) noexcept {
    if (this != &o) {
      Free();
      backend_ = std::exchange(o.backend_, nullptr);
      data_ = std::exchange(o.data_, nullptr);
      bytes_ = std::exchange(o.bytes_, 0);
      tag_ = o.tag_;
    }
    return *this;
  }
  ~Buffer() { Free(); }

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  MemoryTag tag() const { return tag_; }

 private:
  void Free();
  Backend* backend_ = nullptr;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
  MemoryTag tag_;
};

}  // namespace quantd
