#include "server/cli/environment.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include <absl/strings/ascii.h>

#include <CLI/CLI.hpp>

#include "runtime/printable.h"
#include "server/config.h"

namespace quantd {
namespace {

constexpr std::string_view kPrefix = "QUANTD_";
// What is read elsewhere: by the cpu backend, by tools/ and by the tests.
constexpr std::string_view kOthers[] = {"QUANTD_CPU_ISA", "QUANTD_CACHE", "QUANTD_SETUP", "QUANTD_TEST_SEED"};
constexpr std::string_view kOfOneCall[] = {"help", "version", "prompt", "prompt-file", "verbose"};

// Kubernetes sets these in every pod beside a service that is named quantd.
bool IsServiceLink(std::string_view name) {
  return name.starts_with("QUANTD_SERVICE_") || name == "QUANTD_PORT" || name.starts_with("QUANTD_PORT_");
}

bool IsClient(const CLI::App& command) { return command.get_name() == "chat" || command.get_name() == "generate"; }

}  // namespace

std::string EnvironmentName(const CLI::Option& option) {
  if (option.get_lnames().empty()) return "";
  const std::string& flag = option.get_lnames().front();
  if (std::find(std::begin(kOfOneCall), std::end(kOfOneCall), flag) != std::end(kOfOneCall)) return "";
  std::string name = absl::AsciiStrToUpper(flag);
  std::replace(name.begin(), name.end(), '-', '_');
  return std::string(kPrefix) + name;
}

// --model is a path where models are loaded and a name where one is asked: one variable cannot be both.
static std::string NameIn(const CLI::App& command, const CLI::Option& option) {
  const std::string name = EnvironmentName(option);
  return name == "QUANTD_MODEL" && IsClient(command) ? "QUANTD_MODEL_NAME" : name;
}

void ReadEnvironment(CLI::App& command) {
  for (CLI::Option* option : command.get_options()) {
    if (const std::string name = NameIn(command, *option); !name.empty()) option->envname(name);
  }
}

std::vector<std::string> EnvironmentOf(const CLI::App& command) {
  std::vector<std::string> set;
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = NameIn(command, *option);
    const char* value = name.empty() ? nullptr : std::getenv(name.c_str());
    if (value != nullptr && *value != '\0') set.push_back(name + "=" + Printable(value));
  }
  return set;
}

void WarnOfUnknownEnvironment(const CLI::App& app) {
  std::vector<std::string> known(std::begin(kOthers), std::end(kOthers));
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    for (const CLI::Option* option : command->get_options()) known.push_back(NameIn(*command, *option));
  }
  const std::vector<std::string_view> names(known.begin(), known.end());
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::string_view name = text.substr(0, text.find('='));
    if (!name.starts_with(kPrefix) || IsServiceLink(name)) continue;
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    const std::string near(Nearest(name, names));
    std::fprintf(stderr, "warning: %s is set and ignored: no flag reads it%s\n", Printable(name).c_str(),
                 near.empty() ? "" : ("; did you mean " + near + "?").c_str());
  }
}

}  // namespace quantd
