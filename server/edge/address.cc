#include "server/edge/address.h"

#include <absl/strings/ascii.h>

#include "base/strings.h"

namespace quantd {

std::string ToString(const HostPort& a) {
  if (a.unix_path.starts_with('@')) return absl::StrCat("unix-abstract:", a.unix_path.substr(1));
  if (!a.unix_path.empty()) return absl::StrCat("unix:", a.unix_path);
  const bool v6 = a.host.find(':') != std::string::npos;
  return v6 ? absl::StrCat("[", a.host, "]:", a.port) : absl::StrCat(a.host, ":", a.port);
}

bool IsLoopback(const HostPort& a) {
  if (!a.unix_path.empty()) return true;
  const bool v4 = a.host.starts_with("127.") && a.host.find_first_not_of("0123456789.") == std::string::npos;
  return v4 || a.host == "::1" || absl::AsciiStrToLower(a.host) == "localhost";
}

}  // namespace quantd
