#include "server/model_paths.h"

#include <algorithm>
#include <filesystem>
#include <utility>

namespace quantd {
namespace {
namespace fs = std::filesystem;

constexpr size_t kMaxPathBytes = 4096;  // PATH_MAX
constexpr int kMaxLinks = 40;           // as Linux

struct Root {
  fs::path given, real;  // real: without symbolic links
};

// By its letters: absolute, without "." and "..", without a slash at its end.
fs::path Plain(const fs::path& path) {
  const fs::path plain = path.lexically_normal();
  return plain.has_filename() || plain == plain.root_path() ? plain : plain.parent_path();
}

bool IsBelow(const fs::path& path, const fs::path& root) {
  return std::mismatch(root.begin(), root.end(), path.begin(), path.end()).first == root.end();
}

std::optional<fs::path> Resolve(const fs::path& path, const std::vector<Root>& roots, int links_left);

// What lies at `rest` below a folder of the roots.
std::optional<fs::path> Walk(fs::path at, const fs::path& rest, const std::vector<Root>& roots, int links_left) {
  for (auto part = rest.begin(); part != rest.end(); ++part) {
    if (*part == ".") continue;
    const fs::path next = at / *part;
    std::error_code ignored;
    if (fs::is_symlink(fs::symlink_status(next, ignored))) {
      fs::path target = at / fs::read_symlink(next, ignored);  // an absolute target is all of it
      if (links_left == 0) return std::nullopt;
      for (++part; part != rest.end(); ++part) target /= *part;
      return Resolve(target, roots, links_left - 1);
    }
    at = next;
  }
  return at;
}

std::optional<fs::path> Resolve(const fs::path& path, const std::vector<Root>& roots, int links_left) {
  const fs::path plain = Plain(path);
  for (const Root& root : roots) {
    for (const fs::path& base : {root.given, root.real}) {
      if (!IsBelow(plain, base)) continue;
      return Walk(root.real, plain.lexically_relative(base), roots, links_left);
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> ResolveBelow(const std::string& path, const std::vector<std::string>& roots) {
  if (path.empty() || path.size() > kMaxPathBytes || path.find('\0') != std::string::npos) return std::nullopt;
  std::error_code error;
  const fs::path here = fs::current_path(error);
  if (error) return std::nullopt;
  std::vector<Root> known;
  for (const std::string& root : roots) {
    if (root.empty()) continue;
    const fs::path given = Plain(here / root);
    fs::path real = fs::weakly_canonical(given, error);
    if (!error) known.push_back({given, Plain(real)});
  }
  const std::optional<fs::path> found = Resolve(here / path, known, kMaxLinks);
  return found.has_value() ? std::optional(found->string()) : std::nullopt;
}

}  // namespace quantd
