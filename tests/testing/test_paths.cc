#include "tests/testing/test_paths.h"

#include <cstdlib>
#include <filesystem>

namespace quantd::testing {
namespace {

std::string Join(std::string_view folder, std::string_view path) {
  return (std::filesystem::path(folder) / path).string();
}

std::string CacheFolder() {
  if (const char* cache = std::getenv("QUANTD_CACHE")) return cache;
  if (const char* cache = std::getenv("XDG_CACHE_HOME")) return Join(cache, "quantd");
  const char* home = std::getenv("HOME");
  return Join(home != nullptr ? home : "/root", ".cache/quantd");
}

}  // namespace

std::string SourcePath(std::string_view path) { return Join(QD_SOURCE_DIR, path); }
std::string SharedPath(std::string_view path) { return Join(QD_SHARED_DIR, path); }
std::string DemoModelPath() { return Join(CacheFolder(), "models/SmolLM2-135M-Instruct.Q4_1.gguf"); }
bool FileExists(const std::string& path) { return std::filesystem::exists(path); }

}  // namespace quantd::testing
