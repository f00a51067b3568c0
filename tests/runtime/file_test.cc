#include "runtime/file.h"

#include <cerrno>
#include <cstdlib>
#include <new>

#include <gtest/gtest.h>

// An allocator that leaves errno as a failed call would, which every allocation may.
[[gnu::noinline]] void* operator new(std::size_t size) {
  errno = ENOENT;
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace quantd {
namespace {

TEST(FileTest, AnErrorIsThatOfTheCallWhateverAllocationsDoToErrno) {
  const std::string too_long(5000, 'x');
  const absl::Status status = OpenFile(too_long).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << "not taken for a file that is not there";
  EXPECT_EQ(status.message(), too_long + ": File name too long");
  EXPECT_FALSE(ReadFileIfPresent(too_long, 100).ok());
}

TEST(FileTest, AMissingFileIsNotFound) {
  EXPECT_EQ(OpenFile("/no/such/file").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(*ReadFileIfPresent("/no/such/file", 100), "");
}

}  // namespace
}  // namespace quantd
