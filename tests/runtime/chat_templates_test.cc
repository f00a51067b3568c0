// Which template a chat uses, and that nothing a client sends is dropped for want of a use in it.
#include "runtime/chat_templates.h"

#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace quantd {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ChatTemplateInput Hello() {
  ChatTemplateInput input;
  input.messages = {{"user", "Hello", {}, "", ""}};
  return input;
}
ChatTemplateInput WithTool() {
  ChatTemplateInput input = Hello();
  input.tools = {{"weather", "d", ""}};
  return input;
}

absl::StatusOr<std::string> Render(const ChatTemplateSources& sources, const ChatTemplateInput& input) {
  std::vector<std::string> warnings;
  absl::StatusOr<ChatTemplates> templates = ChatTemplates::Parse(sources, warnings);
  if (!templates.ok()) return templates.status();
  absl::StatusOr<TextPieces> pieces = RenderChat(*templates, input);
  if (!pieces.ok()) return pieces.status();
  return JoinText(*pieces);
}
absl::StatusOr<std::string> RenderDefault(const std::string& source, const ChatTemplateInput& input) {
  return Render({{"default", source}}, input);
}
void ExpectRefused(const absl::Status& status, const std::string& field, const std::string& message = "") {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_EQ(GetField(status), field) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(message));
}

// transformers' get_chat_template.
TEST(ChatTemplatesChoice, ToolsChooseToolUseANameChoosesItsOwnElseTheDefaultIsUsed) {
  const ChatTemplateSources three = {{"default", "D"}, {"tool_use", "T{{ tools[0].function.name }}"}, {"rag", "R"}};
  EXPECT_EQ(*Render(three, Hello()), "D");
  EXPECT_EQ(*Render(three, WithTool()), "Tweather");
  ChatTemplateInput named = Hello();
  named.template_name = "rag";
  EXPECT_EQ(*Render(three, named), "R");
  named.template_name = "default";
  EXPECT_EQ(*Render(three, named), "D");
  EXPECT_EQ(*RenderDefault("D", named), "D") << "the one template of a model is its default";
  ChatTemplateInput both = WithTool();
  both.template_name = "default";
  ExpectRefused(Render(three, both).status(), "tools");
  EXPECT_EQ(*Render({{"default", "D{{ tools | length }}"}}, WithTool()), "D1");
}

TEST(ChatTemplatesChoice, WithoutADefaultOrWithAnUnknownNameTheAnswerNamesWhatThereIs) {
  const ChatTemplateSources two = {{"rag", "R"}, {"tool_use", "T{{ tools }}"}};
  ExpectRefused(Render(two, Hello()).status(), "template_name", "it has rag, tool_use");
  EXPECT_TRUE(Render(two, WithTool()).ok());
  ChatTemplateInput unknown = Hello();
  unknown.template_name = "Default\x1b";
  ExpectRefused(Render({{"default", "D"}}, unknown).status(), "template_name",
                "no chat template 'Default\\x1b'; it has default");
  EXPECT_EQ(GetReason(Render({}, Hello()).status()), "NO_CHAT_TEMPLATE");
}

// What is broken is told by name at load, and to the chats that would use it; the others go on.
TEST(ChatTemplatesChoice, ABrokenTemplateIsRefusedWhereAChatUsesItAndNowhereElse) {
  const absl::Status unreadable = absl::DataLossError("tokenizer_config.json: chat_template[0]: has no \"template\"");
  const std::string deep = "{{ " + std::string(2000, '(') + "1" + std::string(2000, ')') + " }}";
  const std::map<std::string, absl::StatusOr<std::string>> kinds = {
      {"line 1", "{% if %}"},
      {"line 2", "\n{{"},
      {"no UTF-8", "a\xff"},
      {"nested too deeply", deep},
      {"line 1: ", "{% frobnicate %}"},
      {"at most", std::string(ChatTemplate::kMaxSourceBytes + 1, ' ')},
      {"has no \"template\"", unreadable}};
  for (const auto& [why, source] : kinds) {
    for (const std::string name : {"default", "tool_use", "rag"}) {
      SCOPED_TRACE(name + ": " + why);
      ChatTemplateSources sources = {{"default", "D"}, {"tool_use", "T{{ tools }}"}, {"rag", "R"}};
      sources.insert_or_assign(name, source);
      std::vector<std::string> warnings;
      const absl::StatusOr<ChatTemplates> templates = ChatTemplates::Parse(sources, warnings);
      ASSERT_TRUE(templates.ok()) << templates.status();
      EXPECT_THAT(warnings, ElementsAre(AllOf(HasSubstr("chat template '" + name + "' is broken: "), HasSubstr(why))));
      ChatTemplateInput named = Hello();
      named.template_name = "rag";
      const std::map<std::string, ChatTemplateInput> chats = {
          {"default", Hello()}, {"tool_use", WithTool()}, {"rag", named}};
      for (const auto& [uses, chat] : chats) {
        const absl::Status status = RenderChat(*templates, chat).status();
        if (uses != name) {
          EXPECT_TRUE(status.ok()) << status;
          continue;
        }
        EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
        EXPECT_EQ(GetReason(status), "CHAT_TEMPLATE_BROKEN");
        EXPECT_THAT(std::string(status.message()), HasSubstr(why));
      }
    }
  }
}

TEST(ChatTemplatesChoice, MoreTemplatesThanTheBoundAreRefused) {
  ChatTemplateSources many;
  for (size_t i = 0; i <= ChatTemplates::kMaxTemplates; ++i) many[std::to_string(i)] = "x";
  std::vector<std::string> warnings;
  EXPECT_EQ(ChatTemplates::Parse(many, warnings).status().code(), absl::StatusCode::kDataLoss);
}

// ---- what the template has no use for ----

TEST(ChatTemplatesUse, ToolsAreRefusedWhereTheTemplateDoesNotReadThem) {
  for (const char* source :
       {"{{ messages[0].content }}", "tools {# tools #}", "{{ messages[0].tools }}", "{{ 'tools' }}",
        "{% set tools = [] %}{{ tools }}", "{% macro f(tools) %}{{ tools }}{% endmacro %}{{ f(1) }}",
        "{% for tools in messages %}{{ tools }}{% endfor %}", "{% with tools = 1 %}{{ tools }}{% endwith %}",
        "{% set tools %}x{% endset %}{{ tools }}", "{% for m, tools in [(1, 2)] %}{{ tools }}{% endfor %}"}) {
    ExpectRefused(RenderDefault(source, WithTool()).status(), "tools", "does not use tools");
    EXPECT_TRUE(RenderDefault(source, Hello()).ok()) << source;
  }
  for (const char* source :
       {"{{ tools }}", "{% if tools is not none %}{% endif %}", "{% for t in tools %}{{ t }}{% endfor %}",
        "{% set x = tools %}", "{{ tools | tojson }}", "{{ [1, tools] }}", "{{ {'a': tools} }}",
        "{{ range(tools|length) }}", "{% if false %}{% set tools = [] %}{% endif %}{{ tools }}",
        "{% macro f(a=tools) %}{{ a }}{% endmacro %}{{ f() }}", "{% for m in messages if tools %}{% endfor %}",
        "{% filter trim %}{{ tools }}{% endfilter %}", "{% set tools = tools %}{{ tools }}",
        "{{ dict(**{'a': tools}) }}", "{{ messages[0] if tools else 1 }}",
        "{% for tools in [1] %}{% endfor %}{{ tools }}"}) {
    EXPECT_TRUE(RenderDefault(source, WithTool()).ok()) << source;
  }
}

TEST(ChatTemplatesUse, AnArgumentThatTheTemplateDoesNotReadIsRefusedByName) {
  ChatTemplateInput input = Hello();
  input.template_args_json = R"({"enable_thinking": false, "typo": 1})";
  ExpectRefused(RenderDefault("{{ enable_thinking }}{{ messages }}", input).status(), "template_args.typo",
                "it reads enable_thinking, messages");
  EXPECT_EQ(*RenderDefault("{{ enable_thinking }}{{ typo }}", input), "False1");
  input.template_args_json = R"({"messages": []})";
  ExpectRefused(RenderDefault("{{ messages }}", input).status(), "template_args.messages",
                "a field of the chat itself");
}

TEST(ChatTemplatesUse, KeysOfAMessageThatTheTemplateDoesNotUseAreRefused) {
  ChatTemplateInput input = Hello();
  input.messages.push_back({"assistant", "a", {{"", "f", "{}"}}, "id", "name"});
  ExpectRefused(RenderDefault("{{ messages[1].content }}", input).status(), "messages[1].tool_calls");
  for (const char* source :
       {"{{ messages[1].tool_calls[0].function.name }}", "{{ messages[1]['tool_calls'] }}",
        "{{ 'tool_calls' in messages[1] }}", "{{ messages[1].get('tool_calls') }}",
        "{{ messages | selectattr('tool_calls') | list | length }}", "{{ messages | tojson }}", "{{ messages[1] }}",
        "{% for k, v in messages[1].items() %}{{ k }}={{ v }};{% endfor %}"}) {
    EXPECT_TRUE(RenderDefault(source, input).ok()) << source;
  }
  input = Hello();
  input.messages[0].reasoning_content = "hm";
  ExpectRefused(RenderDefault("{{ messages[0].content }}", input).status(), "messages[0].reasoning_content");
  EXPECT_EQ(*RenderDefault("{{ messages[0].reasoning_content }}", input), "hm");
  EXPECT_EQ(*RenderDefault("{{ messages[0].thinking }}", input), "hm");
  input = Hello();
  input.messages[0].extra_json = R"({"prefix": true, "typo": "x"})";
  ExpectRefused(RenderDefault("{{ messages[0].prefix }}", input).status(), "messages[0].extra_json.typo");
  EXPECT_EQ(*RenderDefault("{{ messages[0].prefix }}{{ messages[0]['typo'] }}", input), "Truex");
  EXPECT_THAT(*RenderDefault("{{ messages[0] | tojson }}", input), HasSubstr(R"("typo": "x")"));
  input.messages[0].extra_json = R"({"unused": null})";  // null is no key
  EXPECT_EQ(*RenderDefault("{{ messages[0].content }}", input), "Hello");
}

// DeepSeek's templates join the arguments to other text; the others take an object.
TEST(ChatTemplatesUse, ATemplateThatJoinsTheArgumentsOfACallToTextGetsThemAsText) {
  ChatTemplateInput input = Hello();
  input.messages.push_back({"assistant", std::nullopt, {{"", "f", R"({"b":1, "a": 2})"}}, "", ""});
  const std::string call = "messages[1].tool_calls[0].function.arguments";
  EXPECT_EQ(*RenderDefault("{{ '<' + " + call + " + '>' }}", input), R"(<{"b":1, "a": 2}>)");
  EXPECT_EQ(*RenderDefault("{{ " + call + " | tojson }}", input), R"({"b": 1, "a": 2})");
  EXPECT_EQ(*RenderDefault("{{ 'text' if " + call + " is string else 'object' }}", input), "object");
  const absl::Status status = RenderDefault("{{ " + call + ".a + 'x' }}", input).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'int' and 'str'")) << "the first failure is told";
  input.messages[1].tool_calls[0].arguments_json = "[1]";
  ExpectRefused(RenderDefault("{{ '<' + " + call + " }}", input).status(), "messages[1].tool_calls[0].arguments_json");
}

}  // namespace
}  // namespace quantd
