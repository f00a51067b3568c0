#include "server/options.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include "base/strings.h"
#include "runtime/printable.h"
#include "runtime/utf8.h"

namespace quantd {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

// A number and one of `units`; no unit counts as factor 1. NaN where it is none, negative or too large to count.
double ParseWithUnit(std::string_view text, std::initializer_list<Unit> units) {
  const size_t end = std::min(text.find_first_not_of("0123456789."), text.size());
  double value = 0;
  if (!absl::SimpleAtod(ToAbsl(text.substr(0, end)), &value)) return NAN;
  std::string_view unit = text.substr(end);
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  if (unit.empty()) return value;
  for (const Unit& u : units) {
    if (absl::AsciiStrToLower(ToAbsl(unit)) == absl::AsciiStrToLower(ToAbsl(u.name))) return value * u.factor;
  }
  return NAN;
}

constexpr size_t kMaxUnixPathBytes = 107;  // of sockaddr_un, with a zero byte after it

absl::Status Bad(std::string_view what, std::string_view text, std::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", ToAbsl(text), "\" is no ", ToAbsl(what), ": expected ", ToAbsl(expected)));
}

}  // namespace

absl::StatusOr<HostPort> ParseHostPort(std::string_view text) {
  const size_t colon = text.rfind(':');
  int port = -1;
  if (colon == std::string_view::npos || colon == 0 || !absl::SimpleAtoi(ToAbsl(text.substr(colon + 1)), &port) ||
      port < 0 || port > 65535) {
    return Bad("address", text, "HOST:PORT such as 127.0.0.1:8001");
  }
  std::string_view host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return HostPort{std::string(host), port};
}

absl::StatusOr<HostPort> ParseListenAddress(std::string_view text) {
  constexpr std::string_view kFile = "unix:", kAbstract = "unix-abstract:";
  if (text.starts_with(kFile)) {
    const std::string_view path = text.substr(kFile.size());
    if (!path.starts_with('/') || path.ends_with('/') || path.size() > kMaxUnixPathBytes ||
        path.find('\0') != std::string_view::npos) {
      return Bad("address", text, absl::StrCat("unix: and an absolute path of at most ", kMaxUnixPathBytes, " bytes"));
    }
    return HostPort{"", 0, std::string(path)};
  }
  if (text.starts_with(kAbstract)) {
    const std::string_view name = text.substr(kAbstract.size());
    if (name.empty() || name.size() >= kMaxUnixPathBytes || name.find('\0') != std::string_view::npos) {
      return Bad("address", text, "unix-abstract: and a name");
    }
    return HostPort{"", 0, absl::StrCat("@", ToAbsl(name))};
  }
  return ParseHostPort(text);
}

absl::StatusOr<int64_t> ParseBytes(std::string_view text) {
  constexpr double kKi = 1024, kMi = kKi * kKi, kGi = kMi * kKi, kTi = kGi * kKi;
  const double bytes = ParseWithUnit(text, {{"B", 1},
                                            {"KiB", kKi},
                                            {"MiB", kMi},
                                            {"GiB", kGi},
                                            {"TiB", kTi},
                                            {"K", kKi},
                                            {"M", kMi},
                                            {"G", kGi},
                                            {"T", kTi},
                                            {"KB", 1e3},
                                            {"MB", 1e6},
                                            {"GB", 1e9},
                                            {"TB", 1e12}});
  if (!(bytes >= 1 && bytes < 9e18)) return Bad("size", text, "bytes such as 67108864, 64MiB or 1.5GB");
  return static_cast<int64_t>(std::llround(bytes));
}

std::string FormatBytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

absl::StatusOr<Duration> ParseDuration(std::string_view text) {
  const double seconds = ParseWithUnit(text, {{"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}});
  if (!(seconds >= 0 && seconds < 1e8)) return Bad("duration", text, "30s, 500ms, 2m or 1h");
  return FromSeconds(seconds);
}

absl::StatusOr<Duration> ParseTimeout(std::string_view text) {
  absl::StatusOr<Duration> timeout = ParseDuration(text);
  if (timeout.ok() && *timeout <= Duration::zero()) return Bad("timeout", text, "more than 0");
  return timeout;
}

absl::StatusOr<DType> ParseActivations(std::string_view text) {
  if (text == "f32") return DType::kF32;
  if (text == "bf16") return DType::kBF16;
  return Bad("activation format", text, "f32 or bf16");
}

absl::StatusOr<std::string> ParseBackend(std::string_view text) {
  if (text == "cpu" || text == "reference") return std::string(text);
  return Bad("backend", text, "cpu or reference");
}

absl::StatusOr<LogLevel> ParseLogLevel(std::string_view text) {
  if (text == "debug") return LogLevel::kDebug;
  if (text == "info") return LogLevel::kInfo;
  if (text == "warning") return LogLevel::kWarning;
  if (text == "error") return LogLevel::kError;
  return Bad("log level", text, "debug, info, warning or error");
}

std::string DefaultModelName(const std::string& path) {
  std::filesystem::path p = std::filesystem::path(path).lexically_normal();
  if (p.filename().empty()) p = p.parent_path();
  if (p.extension() == ".gguf") p = p.stem();
  std::string name = p.filename().string();
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '.') c = '-';
  }
  return name.substr(0, 64);
}

absl::Status CheckModelPath(std::string_view path) {
  const std::optional<size_t> bad = FindInvalidUtf8(path);
  if (!bad.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the path ", Printable(path), " is no UTF-8 at byte ", *bad));
}

absl::Status CheckModelName(std::string_view name) {
  const bool ok = !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  });
  if (ok) return absl::OkStatus();
  return Bad("model name", name, "1 to 64 letters, digits, '-', '_' or '.'");
}

}  // namespace quantd
