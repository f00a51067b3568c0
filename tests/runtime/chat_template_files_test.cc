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
using ::testing::Not;
using ::testing::StartsWith;
using Templates = ChatTemplateSources;

struct Case {
  std::map<std::string, std::string> files;
  const char* tokenizer_config;
  Templates expected = {};
};

absl::StatusOr<Templates> Read(const Case& c) {
  testing::TempDir folder;
  std::filesystem::create_directory(folder.path() + "/additional_chat_templates");
  for (const auto& [name, text] : c.files) folder.Write(name, text);
  Templates templates;
  const absl::StatusOr<JsonDocument> config = ParseJson(c.tokenizer_config, "config");
  EXPECT_TRUE(config.ok()) << config.status();
  const absl::Status status = ReadChatTemplates(folder.path(), &**config, templates);
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

// Text works without a template: what is none is said to the chats that would use it, without the folder's path.
TEST(ChatTemplateFiles, WhatIsNoTemplateIsAStatusUnderItsName) {
  const std::string more = "additional_chat_templates/";
  struct Broken {
    Case in;
    const char* name;
    const char* message;
  };
  const Broken cases[] = {
      {{{}, R"({"chat_template": 7})"}, "default", "tokenizer_config.json: chat_template is 7, expected a string"},
      {{{}, R"({"chat_template": true})"}, "default", "chat_template is true"},
      {{{}, R"({"chat_template": [{"name": "default"}]})"}, "default", "chat_template[0]: has no \"template\""},
      {{{}, R"({"chat_template": [{"name": "a", "template": 1}]})"}, "a", "chat_template[0] is 1, expected a string"},
      {{{}, R"({"chat_template": [{"name": "a", "template": null}]})"}, "a", "has no \"template\""},
      {{{}, R"({"chat_template": {"a": 1}})"}, "a", R"(chat_template["a"] is 1)"},
      {{{}, R"({"chat_template": {"a": null}})"}, "a", R"(chat_template["a"] is null)"},
      {{{{"chat_template.json", "{"}}, "{}"}, "default", "chat_template.json: no JSON"},
      {{{{"chat_template.json", R"({"chat_template": 1})"}}, "{}"},
       "default",
       "chat_template.json: chat_template is 1"},
      {{{{"chat_template.jinja", std::string(2 << 20, 'x')}}, R"({"chat_template": "S"})"},
       "default",
       "chat_template.jinja: 2097152 bytes, at most"},
      {{{{more + "tool_use.jinja", std::string(2 << 20, 'x')}}, "{}"},
       "tool_use",
       "additional_chat_templates/tool_use.jinja: 2097152 bytes"},
  };
  for (const Broken& c : cases) {
    SCOPED_TRACE(c.message);
    const absl::StatusOr<Templates> read = Read(c.in);
    ASSERT_TRUE(read.ok()) << read.status();
    ASSERT_EQ(read->size(), 1u);
    const absl::Status status = read->at(c.name).status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
    EXPECT_THAT(std::string(status.message()), Not(StartsWith("/"))) << "clients read it";
  }
}

TEST(ChatTemplateFiles, ATemplateWithoutANameCannotBeAskedForAndTheOthersStay) {
  for (const char* nameless : {R"({"template": "x"})", R"({"name": 1, "template": "x"})", R"("x")", "7", "[]"}) {
    const std::string config =
        std::string(R"({"chat_template": [)") + nameless + R"(, {"name": "a", "template": "A"}]})";
    const absl::StatusOr<Templates> read = Read({{}, config.c_str()});
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, (Templates{{"a", "A"}})) << nameless;
  }
}

TEST(ChatTemplateFiles, AFileThatIsNoneOrMayNotBeReadIsAStatusUnderItsName) {
  testing::TempDir folder;
  std::filesystem::create_directories(folder.path() + "/additional_chat_templates/tool_use.jinja");
  std::filesystem::create_directories(folder.path() + "/chat_template.jinja");
  folder.Write("additional_chat_templates/rag.jinja", "R");
  Templates templates;
  ASSERT_TRUE(ReadChatTemplates(folder.path(), nullptr, templates).ok());
  EXPECT_EQ(templates.at("rag").value(), "R");
  EXPECT_EQ(templates.at("default").status().message(), "chat_template.jinja: is no regular file");
  EXPECT_EQ(templates.at("tool_use").status().message(),
            "additional_chat_templates/tool_use.jinja: is no regular file");
}

TEST(ChatTemplateFiles, MoreThanTheBoundIsRefused) {
  std::map<std::string, std::string> many;
  for (size_t i = 0; i <= ChatTemplates::kMaxTemplates; ++i) {
    many["additional_chat_templates/" + std::to_string(i) + ".jinja"] = "x";
  }
  EXPECT_EQ(Read({many, "{}", {}}).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace quantd
