// QD_CHECK: our own bugs only. Whatever a file, a client, the OS or a device can cause is an absl::Status instead.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace quantd {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace quantd

#define QD_CHECK(condition) \
  (static_cast<bool>(condition) ? static_cast<void>(0) : ::quantd::CheckFailed(__FILE__, __LINE__, #condition))
