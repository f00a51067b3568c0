#include "server/cli/suggest.h"

#include <algorithm>
#include <string_view>

#include <absl/strings/str_cat.h>

#include <CLI/CLI.hpp>

#include "base/strings.h"
#include "runtime/printable.h"
#include "server/cli/elsewhere.h"
#include "server/config.h"

namespace quantd {
namespace {

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

Side SideOf(const CLI::App& command) {
  return command.get_name() == "serve" || command.get_name() == "plan" ? Side::kServe : Side::kClient;
}

std::string FlagHint(const CLI::App& app, const CLI::App& command, const std::string& flag) {
  if (const std::string_view told = AnswerFor(FlagsElsewhere(), flag, SideOf(command)); !told.empty()) {
    return std::string(told);
  }
  if (const std::string others = OthersWith(app, flag); !others.empty()) return "it is a flag of " + others;
  return DidYouMean(Meant(flag, FlagsOf(command)));
}

std::string UnknownFlag(const CLI::App& app, const CLI::App& command, const std::string& flag) {
  const std::string hint = FlagHint(app, command, flag);
  return absl::StrCat("unknown flag ", Printable(flag), hint.empty() ? "" : "; ", hint);
}

}  // namespace

std::string UnknownCommand(const CLI::App& app, const std::string& word) {
  std::string hint(AnswerFor(CommandsElsewhere(), word, Side::kBoth));
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
  return UnknownFlag(app, command, it->substr(0, it->find('=')));
}

std::string ForeignShortFlag(const CLI::App& app, const CLI::App& command, std::span<char* const> arguments) {
  for (const std::string_view word : arguments) {
    if (word == "--") break;
    const bool short_word = word.size() > 2 && word[0] == '-' && word[1] != '-';
    if (short_word && !AnswerFor(FlagsElsewhere(), word, SideOf(command)).empty()) {
      return UnknownFlag(app, command, std::string(word));
    }
  }
  return {};
}

}  // namespace quantd
