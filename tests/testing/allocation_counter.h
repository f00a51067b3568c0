// Replaces operator new by one that counts. For one .cc file of a test program: replacements must not be inline.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace quantd {
std::atomic<int64_t> allocation_count{0};  // calls of operator new since the program began, on any thread
}  // namespace quantd

// Not inlined: g++ would see malloc meet delete and warn. The nothrow form (std::stable_sort's) is here too, or a
// sanitizer would pair its own with our delete.
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  quantd::allocation_count.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(size == 0 ? 1 : size);
}
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (void* p = operator new(size, std::nothrow)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
