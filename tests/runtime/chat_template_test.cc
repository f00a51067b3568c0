#include "runtime/chat_template/chat_template.h"

#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

OrderedJson Golden(const std::string& name) {
  return OrderedJson::parse(ReadFile(testing::SourcePath("tests/goldens/chat_templates/" + name)));
}

// The text of a GGUF's metadata entry: the key, u32 type 8 (string), u64 length, bytes. All little-endian.
std::string GgufString(const std::string& path, const std::string& key) {
  std::ifstream file(path, std::ios::binary);
  std::string head(16 << 20, '\0');
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  size_t at = head.find(key);
  if (at == std::string::npos) return "";
  uint64_t length = 0;
  std::memcpy(&length, head.data() + at + key.size() + 4, sizeof(length));
  return head.substr(at + key.size() + 12, length);
}

// A published template that lies outside the tree; empty where it is absent.
std::string PublishedTemplate(const std::string& name) {
  if (name == "smollm2") {
    return testing::FileExists(testing::DemoModelPath()) ? GgufString(testing::DemoModelPath(), "tokenizer.chat_template") : "";
  }
  std::string path = testing::SharedPath("data/tokenizers/llama3/tokenizer_config.json");
  return testing::FileExists(path) ? OrderedJson::parse(ReadFile(path))["chat_template"].get<std::string>() : "";
}

std::string Text(const OrderedJson& object, const char* key) { return object.value(key, ""); }

ChatTemplateInput MakeInput(const OrderedJson& chat) {
  ChatTemplateInput input;
  for (const auto& message : chat["messages"]) {
    ChatMessage m{Text(message, "role"), Text(message, "content"), {}, Text(message, "tool_call_id"), Text(message, "name")};
    for (const auto& call : message.value("tool_calls", OrderedJson::array())) {
      m.tool_calls.push_back({Text(call, "id"), Text(call["function"], "name"), call["function"]["arguments"].dump()});
    }
    input.messages.push_back(std::move(m));
  }
  for (const auto& tool : chat.value("tools", OrderedJson::array())) {
    const auto& function = tool["function"];
    input.tools.push_back({Text(function, "name"), Text(function, "description"), function["parameters"].dump()});
  }
  input.add_generation_prompt = chat.value("add_generation_prompt", true);
  input.continue_final_message = chat.value("continue_final_message", false);
  if (chat.contains("args")) input.template_args_json = chat["args"].dump();
  input.bos_token = Text(chat, "bos_token");
  input.eos_token = Text(chat, "eos_token");
  return input;
}

absl::StatusOr<TextPieces> RenderWith(std::string_view source, const ChatTemplateInput& input,
                                      ChatTemplate::Limits limits = {}) {
  auto parsed = ChatTemplate::Parse(source, limits);
  if (!parsed.ok()) return parsed.status();
  return (*parsed)->Render(input);
}

// ---- equality with jinja2 ----

TEST(ChatTemplateGoldens, EverySnippetRendersAsJinja2DoesOrFailsWhereItFails) {
  OrderedJson golden = Golden("expressions.json");
  ChatTemplateInput input;
  input.template_args_json = golden["args"].dump();
  input.unix_seconds = golden["unix_seconds"];
  ASSERT_GE(golden["cases"].size(), 150u);
  for (const auto& c : golden["cases"]) {
    std::string source = c["template"];
    SCOPED_TRACE(source);
    auto pieces = RenderWith(source, input);
    if (c.contains("output")) {
      if (!pieces.ok()) {
        ADD_FAILURE() << pieces.status() << "\nexpected: " << c["output"];
      } else {
        EXPECT_EQ(JoinText(*pieces), c["output"].get<std::string>());
      }
    } else {
      EXPECT_FALSE(pieces.ok()) << "got: " << JoinText(*pieces) << "\njinja2: " << c["error"];
    }
  }
}

class ChatGoldens : public ::testing::TestWithParam<std::string> {};

TEST_P(ChatGoldens, RendersAsTransformersDoes) {
  std::string name = GetParam();
  bool ours = name.find(".jinja") != std::string::npos;
  std::string source = ours ? ReadFile(testing::SourcePath("tests/goldens/chat_templates/" + name)) : PublishedTemplate(name);
  if (source.empty()) GTEST_SKIP() << "data: the template of " << name;
  auto parsed = ChatTemplate::Parse(source);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  OrderedJson golden = Golden("chats.json");
  int seen = 0;
  for (const auto& c : golden["cases"]) {
    if (c["template"] != name) continue;
    ++seen;
    SCOPED_TRACE(c["name"].get<std::string>());
    ChatTemplateInput input = MakeInput(c);
    input.unix_seconds = golden["unix_seconds"];
    auto pieces = (*parsed)->Render(input);
    if (c["output"].is_null()) {
      EXPECT_EQ(pieces.status().code(), absl::StatusCode::kInvalidArgument) << JoinText(*pieces);
    } else if (!pieces.ok()) {
      ADD_FAILURE() << pieces.status() << "\nexpected: " << c["output"];
    } else {
      EXPECT_EQ(JoinText(*pieces), c["output"].get<std::string>());
    }
  }
  EXPECT_GE(seen, 20);
}

INSTANTIATE_TEST_SUITE_P(Templates, ChatGoldens,
                         ::testing::Values("llama3", "smollm2", "llama2_style.jinja", "llama31_style.jinja",
                                           "mistral_style.jinja", "qwen_style.jinja", "zephyr_style.jinja",
                                           "schema_style.jinja"),
                         [](const auto& param) { return param.param.substr(0, param.param.find('.')); });

}  // namespace
}  // namespace quantd
