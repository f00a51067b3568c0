// What to say of a command, a flag or an argument that is not known: the one that was probably meant, also where it was
// learned from another program of this kind (ollama, llama.cpp, vLLM).
#pragma once

#include <span>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace quantd {

// `unknown command "serv"; did you mean "serve"?`
std::string UnknownCommand(const CLI::App& app, const std::string& word);
// Of arguments that `command`, a subcommand of `app`, has no place for: the first flag among them, else the first.
std::string UnexpectedArguments(const CLI::App& app, const CLI::App& command,
                                const std::vector<std::string>& arguments);
// The same of the first argument that is another program's short flag of several letters (-ngl, -hf), which would be
// read as a short flag of ours with its value behind it; empty where there is none.
std::string ForeignShortFlag(const CLI::App& app, const CLI::App& command, std::span<char* const> arguments);

}  // namespace quantd
