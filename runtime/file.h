// Reading the files of a checkpoint: at offsets, never mapped, regular files only, every length checked.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <absl/status/statusor.h>

namespace quantd {

// Bytes at offsets: a file, or memory in tests and fuzzing. Read may be called from any thread.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual const std::string& name() const = 0;  // for messages: the path
  virtual int64_t size() const = 0;             // as recorded when it was opened
  // Exactly `bytes` bytes into `out`. DataLoss: the source ends before `offset + bytes`, or the disk fails.
  virtual absl::Status Read(int64_t offset, void* out, int64_t bytes) const = 0;
};

// NotFound: no such file. InvalidArgument: no regular file (a folder, a pipe, a device). PermissionDenied.
absl::StatusOr<std::unique_ptr<ByteSource>> OpenFile(const std::string& path);
// `bytes` must outlive the source.
std::unique_ptr<ByteSource> MemorySource(std::string name, std::string_view bytes);

// A whole file. DataLoss: it is larger than `max_bytes`. Else as OpenFile.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes);
// The same; empty where there is no such file.
absl::StatusOr<std::string> ReadFileIfPresent(const std::string& path, int64_t max_bytes);

}  // namespace quantd
