// Replaces operator new by one that can be told to fail once. For one .cc file of a test program: replacements must not
// be inline.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace quantd::testing {

// Calls of operator new until one fails, on any thread; below 1: none does.
inline std::atomic<int64_t> allocations_to_failure{0};

inline bool AllocationFails() {
  if (allocations_to_failure.load(std::memory_order_relaxed) < 1) return false;
  return allocations_to_failure.fetch_sub(1) == 1;
}

// Fails the n-th allocation of its lifetime.
class FailAllocation {
 public:
  explicit FailAllocation(int64_t n) { allocations_to_failure = n; }
  ~FailAllocation() { allocations_to_failure = 0; }
  // Whether there were that many.
  bool failed() const { return allocations_to_failure < 1; }
};

}  // namespace quantd::testing

[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  if (quantd::testing::AllocationFails()) return nullptr;
  return std::malloc(size == 0 ? 1 : size);
}
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (void* p = operator new(size, std::nothrow)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
