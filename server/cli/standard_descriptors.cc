#include "server/cli/standard_descriptors.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace quantd {

void OpenStandardDescriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest number that is free is given: this one. Without it there is nowhere to say so.
    if (open("/dev/null", O_RDWR) != fd) std::_Exit(EXIT_FAILURE);
  }
}

}  // namespace quantd
