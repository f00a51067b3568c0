#include "server/cli/standard_descriptors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace quantd {
namespace {

// Or taken by what has no file, as an eventfd that gRPC's library opens before main and never uses.
bool IsClosed(int fd) {
  struct stat status = {};
  if (fstat(fd, &status) != 0) return errno == EBADF;
  return (status.st_mode & S_IFMT) == 0;
}

}  // namespace

void OpenStandardDescriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (!IsClosed(fd)) continue;
    // Without it there is nowhere to say so.
    const int null = open("/dev/null", O_RDWR);
    if (null < 0 || (null != fd && (dup2(null, fd) < 0 || close(null) != 0))) std::_Exit(EXIT_FAILURE);
  }
}

}  // namespace quantd
