#include "runtime/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace quantd {
namespace {

absl::Status EndsEarly(const std::string& name, int64_t offset, int64_t bytes, int64_t size) {
  return absl::DataLossError(
      absl::StrCat(name, ": has ", size, " bytes, expected ", bytes, " bytes at offset ", offset));
}

bool Inside(int64_t offset, int64_t bytes, int64_t size) {
  return offset >= 0 && bytes >= 0 && offset <= size && bytes <= size - offset;
}

class FileSource : public ByteSource {
 public:
  FileSource(std::string path, int fd, int64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}
  ~FileSource() override { close(fd_); }
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;

  const std::string& name() const override { return path_; }
  int64_t size() const override { return size_; }

  absl::Status Read(int64_t offset, void* out, int64_t bytes) const override {
    if (!Inside(offset, bytes, size_)) return EndsEarly(path_, offset, bytes, size_);
    char* to = static_cast<char*>(out);
    for (int64_t done = 0; done < bytes;) {
      // Linux reads at most 2 GiB a call; a GiB at a time keeps clear of that.
      const int64_t want = std::min<int64_t>(bytes - done, int64_t{1} << 30);
      const ssize_t got = pread(fd_, to + done, static_cast<size_t>(want), offset + done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        const int error = errno;  // before anything allocates, which may set it
        return absl::DataLossError(absl::StrCat(path_, ": read at offset ", offset + done, ": ", std::strerror(error)));
      }
      if (got == 0) {
        return absl::DataLossError(
            absl::StrCat(path_, ": ends at offset ", offset + done, ", had ", size_, " bytes when it was opened"));
      }
      done += got;
    }
    return absl::OkStatus();
  }

 private:
  std::string path_;
  int fd_;
  int64_t size_;
};

class StringSource : public ByteSource {
 public:
  StringSource(std::string name, std::string_view bytes) : name_(std::move(name)), bytes_(bytes) {}
  const std::string& name() const override { return name_; }
  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }
  absl::Status Read(int64_t offset, void* out, int64_t bytes) const override {
    if (!Inside(offset, bytes, size())) return EndsEarly(name_, offset, bytes, size());
    if (bytes > 0) std::memcpy(out, bytes_.data() + offset, static_cast<size_t>(bytes));
    return absl::OkStatus();
  }

 private:
  std::string name_;
  std::string_view bytes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ByteSource>> OpenFile(const std::string& path) {
  // O_NONBLOCK: opening a pipe that nobody writes must not wait. It changes nothing for a regular file.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) {
    const int error = errno;  // before anything allocates, which may set it
    const std::string message = absl::StrCat(path, ": ", std::strerror(error));
    if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(message);
    if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(message);
    if (error == EMFILE || error == ENFILE) return WithReason(absl::ResourceExhaustedError(message), "NO_DESCRIPTORS");
    if (error == ENOMEM) return WithReason(absl::ResourceExhaustedError(message), "OUT_OF_MEMORY");
    return absl::InvalidArgumentError(message);
  }
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, ": is no regular file"));
  }
  return std::make_unique<FileSource>(path, fd, static_cast<int64_t>(status.st_size));
}

std::unique_ptr<ByteSource> MemorySource(std::string name, std::string_view bytes) {
  return std::make_unique<StringSource>(std::move(name), bytes);
}

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes) {
  QD_ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> file, OpenFile(path));
  if (file->size() > max_bytes) {
    return absl::DataLossError(absl::StrCat(path, ": ", file->size(), " bytes, at most ", max_bytes, " are read"));
  }
  std::string text(static_cast<size_t>(file->size()), '\0');
  QD_RETURN_IF_ERROR(file->Read(0, text.data(), file->size()));
  return text;
}

absl::StatusOr<std::string> ReadFileIfPresent(const std::string& path, int64_t max_bytes) {
  absl::StatusOr<std::string> text = ReadFile(path, max_bytes);
  if (absl::IsNotFound(text.status())) return std::string();
  return text;
}

}  // namespace quantd
