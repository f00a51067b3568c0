// Where a folder's chat templates may be kept and what wins: what transformers 5.24 chose for the same folders.
#include "runtime/chat_template_files.h"

#include <filesystem>
#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/chat_templates.h"
#include "runtime/json.h"
#include "tests/testing/temp_dir.h"

namespace quantd {
namespace {

using ::testing::HasSubstr;
using Templates = std::map<std::string, std::string>;

struct Case {
  std::map<std::string, std::string> files;
  const char* tokenizer_config;
  Templates expected;
};

absl::StatusOr<Templates> Read(const Case& c) {
  testing::TempDir folder;
  std::filesystem::create_directory(folder.path() + "/additional_chat_templates");
  for (const auto& [name, text] : c.files) folder.Write(name, text);
  Templates templates;
  const absl::StatusOr<Json> config = ParseJson(c.tokenizer_config, "config");
  EXPECT_TRUE(config.ok()) << config.status();
  const absl::Status status = ReadChatTemplates(folder.path(), &*config, templates);
  if (!status.ok()) return status;
  return templates;
}

TEST(ChatTemplateFiles, EachPlaceIsReadAndFilesWinOverTheConfig) {
  const std::string more = "additional_chat_templates/";
  const Case cases[] = {
      {{}, "{}", {}},
      {{}, R"({"chat_template": "S"})", {{"default", "S"}}},
      {{}, R"({"chat_template": null})", {}},
      {{}, R"({"chat_template": ""})", {}},
      {{},
       R"({"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]})",
       {{"default", "D"}, {"tool_use", "T"}}},
      {{}, R"({"chat_template": [{"name": "tool_use", "template": "T"}]})", {{"tool_use", "T"}}},
      {{}, R"({"chat_template": [{"name": "a", "template": "1"}, {"name": "a", "template": "2"}]})", {{"a", "2"}}},
      {{}, R"({"chat_template": [{"name": "a b/../\u00e9", "template": "1"}]})", {{"a b/../\u00e9", "1"}}},
      {{}, R"({"chat_template": {"default": "D", "rag": "R"}})", {{"default", "D"}, {"rag", "R"}}},
      {{}, R"({"chat_template": []})", {}},
      {{{"chat_template.jinja", "J"}},
       R"({"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]})",
       {{"default", "J"}}},
      {{{more + "tool_use.jinja", "A"}}, R"({"chat_template": "S"})", {{"tool_use", "A"}}},
      {{{"chat_template.jinja", "J"}, {more + "tool_use.jinja", "A"}, {more + "rag.jinja", "R"}, {more + "x.txt", "X"}},
       "{}",
       {{"default", "J"}, {"tool_use", "A"}, {"rag", "R"}}},
      {{{"chat_template.jinja", "J"}, {more + "default.jinja", "A"}}, "{}", {{"default", "A"}}},
      {{{"chat_template.json", R"({"chat_template": "P"})"}}, "{}", {{"default", "P"}}},
      {{{"chat_template.json", R"({"chat_template": "P"})"}}, R"({"chat_template": "S"})", {{"default", "S"}}},
  };
  for (const Case& c : cases) {
    const absl::StatusOr<Templates> read = Read(c);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, c.expected) << c.tokenizer_config;
  }
}

TEST(ChatTemplateFiles, AFolderWithoutATokenizerConfigIsRead) {
  testing::TempDir folder;
  folder.Write("chat_template.jinja", "J");
  Templates templates;
  ASSERT_TRUE(ReadChatTemplates(folder.path(), nullptr, templates).ok());
  EXPECT_EQ(templates, (Templates{{"default", "J"}}));
}

TEST(ChatTemplateFiles, WhatIsNoTemplateIsNamed) {
  const std::map<const char*, const char*> cases = {
      {R"({"chat_template": 7})", "chat_template is 7"},
      {R"({"chat_template": [{"name": "default"}]})", "chat_template[0]: no template"},
      {R"({"chat_template": [{"template": "x"}]})", "without a name"},
      {R"({"chat_template": [{"name": "a", "template": 1}]})", "no string"},
      {R"({"chat_template": [{"name": 1, "template": "x"}]})", "name is 1"},
      {R"({"chat_template": ["x"]})", "no template"},
      {R"({"chat_template": {"a": 1}})", "no string"},
  };
  for (const auto& [config, message] : cases) {
    const absl::Status status = Read({{}, config, {}}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << config << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << config;
  }
  EXPECT_EQ(Read({{{"chat_template.json", "{"}}, "{}", {}}).status().code(), absl::StatusCode::kDataLoss);
  std::map<std::string, std::string> many;
  for (size_t i = 0; i <= ChatTemplates::kMaxTemplates; ++i) {
    many["additional_chat_templates/" + std::to_string(i) + ".jinja"] = "x";
  }
  EXPECT_EQ(Read({many, "{}", {}}).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace quantd
