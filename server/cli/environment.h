// Flags from the environment: QUANTD_KV_CACHE_BYTES is --kv-cache-bytes. A flag on the command line wins over it, it
// wins over the configuration file. What one call is about (a prompt, a message) comes from the command line alone.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace quantd {

// "QUANTD_KV_CACHE_BYTES"; empty where the flag is not read from the environment.
std::string EnvironmentName(const CLI::Option& option);
// Lets every flag of `command` that has a name in the environment be read from there.
void ReadEnvironment(CLI::App& command);
// "QUANTD_SEED=x" for each variable that is set and that a flag of `command` reads.
std::vector<std::string> EnvironmentOf(const CLI::App& command);
// One warning a variable QUANTD_* that is set and that nothing of `app` reads, on standard error.
void WarnOfUnknownEnvironment(const CLI::App& app);

}  // namespace quantd
