// Replaces operator new by one that can be told to fail, once or for a while. For one .cc file of a test program:
// replacements must not be inline.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <new>
#include <stdexcept>

namespace quantd::testing {

// The allocations that fail, on any thread, by how many calls of operator new came since the last FailAllocation.
inline std::atomic<int64_t> allocations_seen{0};
inline std::atomic<int64_t> first_to_fail{std::numeric_limits<int64_t>::max()};
inline std::atomic<int64_t> last_to_fail{std::numeric_limits<int64_t>::max()};

inline std::atomic<bool> fails_as_bug{false};

inline bool AllocationFails() {
  const int64_t n = allocations_seen.fetch_add(1, std::memory_order_relaxed) + 1;
  return n >= first_to_fail && n <= last_to_fail;
}

// Fails the n-th allocation of its lifetime and those after it, `in_a_row` in all.
class FailAllocation {
 public:
  static constexpr int64_t kAllThatFollow = int64_t{1} << 40;
  enum class As { kNoMemory, kBug };  // what is thrown: std::bad_alloc, or what nobody has reckoned with
  explicit FailAllocation(int64_t n, int64_t in_a_row = 1, As as = As::kNoMemory) : n_(n) {
    fails_as_bug = as == As::kBug;
    allocations_seen = 0;
    last_to_fail = n + in_a_row - 1;
    first_to_fail = n;
  }
  ~FailAllocation() { first_to_fail = std::numeric_limits<int64_t>::max(); }
  // Whether there were that many.
  bool failed() const { return allocations_seen >= n_; }

 private:
  const int64_t n_;
};

}  // namespace quantd::testing

[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  if (quantd::testing::AllocationFails()) return nullptr;
  return std::malloc(size == 0 ? 1 : size);
}
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (void* p = operator new(size, std::nothrow)) return p;
  if (quantd::testing::fails_as_bug) throw std::domain_error("planted");
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
