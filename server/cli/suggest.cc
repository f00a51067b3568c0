#include "server/cli/suggest.h"

#include <algorithm>
#include <string_view>

#include <absl/strings/str_cat.h>

#include <CLI/CLI.hpp>

#include "base/strings.h"
#include "runtime/printable.h"
#include "server/config.h"

namespace quantd {
namespace {

// What a word of another program is called here. `where`: "serve" for the commands that load models, "chat" for those
// that ask a daemon, empty for both.
struct Elsewhere {
  std::string_view word, where, answer;
};

constexpr Elsewhere kCommands[] = {
    {"run", "", "`quantd serve MODEL` serves a model, `quantd chat` talks to it"},
    {"start", "", "did you mean \"serve\"?"},
    {"server", "", "did you mean \"serve\"?"},
    {"load", "", "did you mean \"serve\"?"},
    {"list", "", "did you mean \"models\"?"},
    {"ls", "", "did you mean \"models\"?"},
    {"ps", "", "did you mean \"models\"?"},
    {"show", "", "did you mean \"models\"?"},
    {"status", "", "did you mean \"models\"?"},
    {"complete", "", "did you mean \"generate\"?"},
    {"completion", "", "did you mean \"generate\"?"},
    {"prompt", "", "did you mean \"generate\"?"},
    {"cli", "", "did you mean \"chat\"?"},
    {"estimate", "", "did you mean \"plan\"?"},
    {"pull", "", "quantd downloads no models: `quantd serve PATH` serves a GGUF file or a Hugging Face folder"},
    {"download", "", "quantd downloads no models: `quantd serve PATH` serves a GGUF file or a Hugging Face folder"},
    {"stop", "", "Ctrl-C or SIGTERM ends `quantd serve`, once what runs is done"},
    {"rm", "", "quantd keeps no store of models: they are the files that `quantd serve PATH` names"},
    {"bench", "", "`make bench` measures, in a checkout"},
};

constexpr Elsewhere kFlags[] = {
    {"--ctx-size", "serve", "did you mean --max-context?"},
    {"-c", "serve", "did you mean --max-context?"},
    {"--n-ctx", "serve", "did you mean --max-context?"},
    {"--num-ctx", "serve", "did you mean --max-context?"},
    {"--max-model-len", "serve", "did you mean --max-context?"},
    {"--context-length", "serve", "did you mean --max-context?"},
    {"--ctx-size", "chat", "the context is the daemon's: `quantd serve --max-context TOKENS`"},
    {"-c", "chat", "the context is the daemon's: `quantd serve --max-context TOKENS`"},
    {"--num-ctx", "chat", "the context is the daemon's: `quantd serve --max-context TOKENS`"},
    {"--host", "serve", "an address is given whole: --listen HOST:PORT"},
    {"--port", "serve", "an address is given whole: --listen HOST:PORT, such as 127.0.0.1:9000"},
    {"--address", "serve", "did you mean --listen?"},
    {"--host", "chat", "an address is given whole: --address HOST:PORT"},
    {"--port", "chat", "an address is given whole: --address HOST:PORT, such as 127.0.0.1:9000"},
    {"--url", "chat", "did you mean --address?"},
    {"--listen", "chat", "did you mean --address?"},
    {"--parallel", "serve", "did you mean --max-sequences?"},
    {"-np", "serve", "did you mean --max-sequences?"},
    {"--max-num-seqs", "serve", "did you mean --max-sequences?"},
    {"--max-num-batched-tokens", "serve", "did you mean --max-batch-tokens?"},
    {"--batch-size", "serve", "did you mean --max-batch-tokens?"},
    {"-b", "serve", "did you mean --max-batch-tokens?"},
    {"--quantization", "serve", "did you mean --quantize?"},
    {"-q", "serve", "did you mean --quantize?"},
    {"--cache-type-k", "serve", "did you mean --kv-cache-dtype?"},
    {"--cache-type-v", "serve", "did you mean --kv-cache-dtype?"},
    {"-ctk", "serve", "did you mean --kv-cache-dtype?"},
    {"--dtype", "serve", "did you mean --activations?"},
    {"--gpu-memory-utilization", "serve", "did you mean --memory-budget?"},
    {"--n-gpu-layers", "serve", "models run on the processor"},
    {"-ngl", "serve", "models run on the processor"},
    {"--served-model-name", "serve", "a name stands before its path: --model NAME=PATH"},
    {"--alias", "serve", "a name stands before its path: --model NAME=PATH"},
    {"--name", "serve", "a name stands before its path: --model NAME=PATH"},
    {"--hf-repo", "serve", "quantd downloads no models: give the path of a GGUF file or of a Hugging Face folder"},
    {"-hf", "serve", "quantd downloads no models: give the path of a GGUF file or of a Hugging Face folder"},
    {"--api-key", "", "quantd has no authentication yet"},
    {"--metrics-port", "serve", "did you mean --metrics-listen?"},
    {"--metrics", "serve", "metrics are always on; --metrics-listen HOST:PORT says where"},
    {"--verbose", "serve", "did you mean --log-level debug?"},
    {"-v", "serve", "did you mean --log-level debug?"},
    {"--n-predict", "chat", "did you mean --max-tokens?"},
    {"--num-predict", "chat", "did you mean --max-tokens?"},
    {"--max-new-tokens", "chat", "did you mean --max-tokens?"},
    {"--repeat-penalty", "chat", "did you mean --repetition-penalty?"},
    {"--system-prompt", "chat", "did you mean --system?"},
    {"-sys", "chat", "did you mean --system?"},
    {"--stop-sequence", "chat", "did you mean --stop?"},
    {"--interactive", "chat", "`quantd chat` without a message is a conversation"},
    {"-i", "chat", "`quantd chat` without a message is a conversation"},
    {"-cnv", "chat", "`quantd chat` without a message is a conversation"},
    {"--json", "", "did you mean -o json?"},
    {"--format", "", "did you mean -o?"},
};

template <size_t N>
std::string_view Lookup(const Elsewhere (&table)[N], std::string_view word, std::string_view where) {
  for (const Elsewhere& e : table) {
    if (e.word == word && (e.where.empty() || e.where == where)) return e.answer;
  }
  return {};
}

std::string DidYouMean(std::string_view meant) {
  return meant.empty() ? "" : absl::StrCat("did you mean ", ToAbsl(meant), "?");
}

std::vector<std::string> FlagsOf(const CLI::App& command) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
    for (const std::string& name : option->get_snames()) flags.push_back("-" + name);
  }
  return flags;
}

// The one flag that `word` begins, else the nearest.
std::string Meant(const std::string& word, const std::vector<std::string>& flags) {
  std::vector<std::string_view> begun, all;
  for (const std::string& flag : flags) {
    if (!flag.starts_with("--")) continue;
    all.push_back(flag);
    if (word.size() > 3 && flag.starts_with(word)) begun.push_back(flag);
  }
  if (begun.size() == 1) return std::string(begun.front());
  return word.starts_with("--") ? std::string(Nearest(word, all)) : "";
}

// The commands that do have the flag: "serve and plan".
std::string OthersWith(const CLI::App& app, const std::string& flag) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    const std::vector<std::string> flags = FlagsOf(*command);
    if (std::find(flags.begin(), flags.end(), flag) != flags.end()) names.push_back(command->get_name());
  }
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : i + 1 == names.size() ? " and " : ", ", names[i]);
  }
  return text;
}

std::string FlagHint(const CLI::App& app, const CLI::App& command, const std::string& flag) {
  const std::string& name = command.get_name();
  const std::string_view where = name == "serve" || name == "plan" ? "serve" : "chat";
  if (const std::string_view told = Lookup(kFlags, flag, where); !told.empty()) return std::string(told);
  if (const std::string others = OthersWith(app, flag); !others.empty()) return "it is a flag of " + others;
  return DidYouMean(Meant(flag, FlagsOf(command)));
}

}  // namespace

std::string UnknownCommand(const CLI::App& app, const std::string& word) {
  std::string hint(Lookup(kCommands, word, ""));
  if (hint.empty()) {
    std::vector<std::string_view> names{"help"};
    for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(command->get_name());
    }
    const std::string near(Nearest(word, names));
    if (!near.empty()) hint = DidYouMean("\"" + near + "\"");
    if (word.ends_with(".gguf") || word.find('/') != std::string::npos) hint = "`quantd serve PATH` serves a model";
  }
  return absl::StrCat("unknown command \"", Printable(word), "\"", hint.empty() ? "" : "; ", hint);
}

std::string UnexpectedArguments(const CLI::App& app, const CLI::App& command,
                                const std::vector<std::string>& arguments) {
  const auto is_flag = [](const std::string& a) { return a.size() > 1 && a[0] == '-'; };
  const auto it = std::find_if(arguments.begin(), arguments.end(), is_flag);
  if (it == arguments.end()) {
    return absl::StrCat("unexpected argument \"", Printable(arguments.front()), "\"; a text with spaces is quoted");
  }
  const std::string flag = it->substr(0, it->find('='));
  const std::string hint = FlagHint(app, command, flag);
  return absl::StrCat("unknown flag ", Printable(flag), hint.empty() ? "" : "; ", hint);
}

}  // namespace quantd
