#include "server/text_file.h"

#include <cerrno>
#include <cstring>
#include <memory>

#include <absl/strings/str_cat.h>

namespace quantd {
namespace {

constexpr size_t kMaxBytes = 64 << 20;  // more than a daemon takes in one message

absl::Status CannotRead(const std::string& name, int error) {
  return absl::InvalidArgumentError(absl::StrCat("cannot read ", name, ": ", std::strerror(error)));
}

}  // namespace

absl::StatusOr<std::string> ReadText(std::FILE* in, const std::string& name) {
  std::string text;
  char part[1 << 16];
  int error = 0;
  while (std::feof(in) == 0 && std::ferror(in) == 0) {  // one Ctrl-D ends a terminal's text, so none is asked for twice
    const size_t size = std::fread(part, 1, sizeof part, in);
    error = errno;  // before anything allocates, which may set it
    text.append(part, size);
    if (text.size() > kMaxBytes) {
      return absl::InvalidArgumentError(absl::StrCat(name, " holds more than ", kMaxBytes >> 20, " MiB"));
    }
  }
  if (std::ferror(in) != 0) return CannotRead(name, error);
  return text;
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (file == nullptr) return CannotRead(path, errno);
  return ReadText(file.get(), path);
}

}  // namespace quantd
