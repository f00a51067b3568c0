#include "kernels/cpu/host_memory.h"

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace quantd::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20, kPage = 4096;

size_t WholePages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

void* Touched(void* data, size_t bytes) {
  if (data == nullptr) return nullptr;
  volatile uint8_t* p = static_cast<uint8_t*>(data);
  for (size_t i = 0; i < bytes; i += kPage) p[i] = 0;
  return data;
}

}  // namespace

void* AllocateHost(int64_t bytes, Residency residency) {
  size_t size = static_cast<size_t>(bytes);
  const bool touch = residency == Residency::kFromTheStart;
  if (size < kHugePage) {
    void* data = nullptr;
    if (posix_memalign(&data, 64, size == 0 ? 1 : size) != 0) return nullptr;
    return touch ? Touched(data, size) : data;
  }
  // Map more, then give back what lies before the first multiple of a huge page and after the end.
  size_t mapped = WholePages(size) + kHugePage;
  void* raw = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  uintptr_t begin = reinterpret_cast<uintptr_t>(raw), aligned = (begin + kHugePage - 1) / kHugePage * kHugePage;
  uintptr_t end = aligned + WholePages(size);
  if (aligned > begin) munmap(raw, aligned - begin);
  if (begin + mapped > end) munmap(reinterpret_cast<void*>(end), begin + mapped - end);
  void* data = reinterpret_cast<void*>(aligned);
  // A wish: where it fails, the system's own choice serves.
  madvise(data, size / kHugePage * kHugePage, touch ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return touch ? Touched(data, size) : data;
}

void FreeHost(void* data, int64_t bytes) {
  size_t size = static_cast<size_t>(bytes);
  if (size < kHugePage) {
    std::free(data);
  } else {
    munmap(data, WholePages(size));
  }
}

}  // namespace quantd::cpu
