// What a word of another program is answered with: each row of the table, and that what it names is there.
#include "server/cli/suggest.h"

#include <algorithm>
#include <regex>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <CLI/CLI.hpp>

#include "base/strings.h"
#include "server/cli/cli.h"
#include "server/cli/elsewhere.h"

namespace quantd {
namespace {

using ::testing::EndsWith;

// Each word of each row.
std::vector<std::pair<Elsewhere, std::string>> WordsOf(std::span<const Elsewhere> table) {
  std::vector<std::pair<Elsewhere, std::string>> words;
  for (const Elsewhere& row : table) {
    for (const absl::string_view word : absl::StrSplit(ToAbsl(row.words), ' '))
      words.push_back({row, std::string(word)});
  }
  return words;
}

class SuggestTest : public ::testing::Test {
 protected:
  SuggestTest() {
    AddServe(app_, exit_code_);
    AddPlan(app_, exit_code_);
    AddChat(app_, exit_code_);
    AddGenerate(app_, exit_code_);
    AddModels(app_, exit_code_);
    AddVersion(app_, exit_code_);
  }
  std::vector<const CLI::App*> Commands(Side side) const {
    std::vector<const CLI::App*> commands;
    for (const CLI::App* command : app_.get_subcommands([](const CLI::App*) { return true; })) {
      const bool serves = command->get_name() == "serve" || command->get_name() == "plan";
      if (side == Side::kBoth || serves == (side == Side::kServe)) commands.push_back(command);
    }
    return commands;
  }
  bool IsCommand(const std::string& name) const {
    return std::ranges::any_of(Commands(Side::kBoth), [&](const CLI::App* c) { return c->get_name() == name; });
  }
  static bool Has(const CLI::App& command, const std::string& flag) {
    return command.get_option_no_throw(flag) != nullptr;
  }
  bool SomeHas(const std::string& flag) const {
    for (const CLI::App* command : Commands(Side::kBoth)) {
      if (Has(*command, flag)) return true;
    }
    return false;
  }

  CLI::App app_{"", "quantd"};
  int exit_code_ = 0;
};

TEST_F(SuggestTest, EachCommandOfAnotherProgramHasItsAnswer) {
  for (const auto& [row, word] : WordsOf(CommandsElsewhere())) {
    EXPECT_FALSE(IsCommand(word)) << word << " is a command here";
    EXPECT_EQ(UnknownCommand(app_, word), "unknown command \"" + word + "\"; " + std::string(row.answer));
  }
}

TEST_F(SuggestTest, EachFlagOfAnotherProgramHasItsAnswer) {
  for (const auto& [row, flag] : WordsOf(FlagsElsewhere())) {
    const std::string answer(row.answer);
    int asked = 0;
    for (const CLI::App* command : Commands(row.side)) {
      if (Has(*command, flag)) continue;
      ++asked;
      EXPECT_EQ(UnexpectedArguments(app_, *command, {"MODEL", flag + "=7"}), "unknown flag " + flag + "; " + answer);
      std::string own = flag;
      char* arguments[] = {own.data()};
      const bool letters = flag.size() > 2 && flag[1] != '-';
      EXPECT_EQ(ForeignShortFlag(app_, *command, arguments), letters ? "unknown flag " + flag + "; " + answer : "");
    }
    EXPECT_GT(asked, 0) << flag << " is a flag of every command it is answered for";
  }
}

TEST_F(SuggestTest, AnAnswerNamesOnlyFlagsAndCommandsThatThereAre) {
  const std::regex named_flag("(^|[^a-z-])(--?[a-z][a-z-]*)"), named_command("`quantd ([a-z]+)|mean \"([a-z]+)\"");
  for (const auto& table : {CommandsElsewhere(), FlagsElsewhere()}) {
    for (const Elsewhere& row : table) {
      const std::string answer(row.answer);
      EXPECT_EQ(answer.find('\n'), std::string::npos) << answer;
      for (auto it = std::sregex_iterator(answer.begin(), answer.end(), named_flag); it != std::sregex_iterator();
           ++it) {
        EXPECT_TRUE(SomeHas((*it)[2])) << row.words << ": " << answer;
      }
      for (auto it = std::sregex_iterator(answer.begin(), answer.end(), named_command); it != std::sregex_iterator();
           ++it) {
        const std::string name = (*it)[1].matched ? (*it)[1] : (*it)[2];
        EXPECT_TRUE(IsCommand(name)) << row.words << ": " << answer;
      }
    }
  }
}

// "did you mean --x?" is for whoever typed the flag for this command.
TEST_F(SuggestTest, TheFlagThatWasMeantIsOneOfTheCommand) {
  const std::regex meant("^did you mean (--?[a-z-]+)");
  for (const Elsewhere& row : FlagsElsewhere()) {
    std::cmatch match;
    if (!std::regex_search(row.answer.data(), row.answer.data() + row.answer.size(), match, meant)) continue;
    bool of_some = false;
    for (const CLI::App* command : Commands(row.side)) of_some |= Has(*command, match[1]);
    EXPECT_TRUE(of_some) << row.words << ": " << row.answer;
  }
}

TEST_F(SuggestTest, AWordHasOneAnswer) {
  std::set<std::pair<std::string, Side>> seen;
  for (const auto& [row, word] : WordsOf(FlagsElsewhere())) {
    EXPECT_TRUE(seen.insert({word, row.side}).second) << word;
    if (row.side == Side::kBoth) continue;
    EXPECT_FALSE(seen.contains({word, Side::kBoth})) << word;
  }
}

TEST_F(SuggestTest, ShortFlagsOfOursWithAValueBehindThemAreNoWordOfAnother) {
  std::string threads = "-t8", end = "--", after = "-ngl";
  char* arguments[] = {threads.data(), end.data(), after.data()};
  EXPECT_EQ(ForeignShortFlag(app_, *app_.get_subcommand("serve"), arguments), "");
  EXPECT_THAT(UnexpectedArguments(app_, *app_.get_subcommand("serve"), {"--nothing-like-it"}),
              EndsWith("unknown flag --nothing-like-it"));
}

}  // namespace
}  // namespace quantd
