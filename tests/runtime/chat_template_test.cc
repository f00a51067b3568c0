#include "runtime/chat_template/chat_template.h"

#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
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
    return testing::FileExists(testing::DemoModelPath())
               ? GgufString(testing::DemoModelPath(), "tokenizer.chat_template")
               : "";
  }
  std::string path = testing::SharedPath("data/tokenizers/llama3/tokenizer_config.json");
  return testing::FileExists(path) ? OrderedJson::parse(ReadFile(path))["chat_template"].get<std::string>() : "";
}

std::string Text(const OrderedJson& object, const char* key) { return object.value(key, ""); }

ChatTemplateInput MakeInput(const OrderedJson& chat) {
  ChatTemplateInput input;
  for (const auto& message : chat["messages"]) {
    ChatMessage m{
        Text(message, "role"), Text(message, "content"), {}, Text(message, "tool_call_id"), Text(message, "name")};
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
  for (const auto& [name, text] : chat["special_tokens"].items()) input.special_tokens[name] = text;
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
  std::string source =
      ours ? ReadFile(testing::SourcePath("tests/goldens/chat_templates/" + name)) : PublishedTemplate(name);
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

// ---- provenance ----

// "T[...]" is the template's text, "R[...]" a role's, "D[...]" that of another value.
std::string Marked(const absl::StatusOr<TextPieces>& pieces) {
  if (!pieces.ok()) return std::string(pieces.status().message());
  std::string out;
  for (const TextPiece& piece : *pieces) {
    EXPECT_EQ(piece.cut_at_special, !piece.parse_special);
    out += (piece.is_name ? "R[" : piece.parse_special ? "T[" : "D[") + piece.text + "]";
  }
  return out;
}

ChatTemplateInput OneMessage(std::string role, std::string content) {
  ChatTemplateInput input;
  input.messages.push_back({std::move(role), std::move(content), {}, "", ""});
  input.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  return input;
}

TEST(ChatTemplateProvenance, EveryOperationKeepsWhereItsTextCameFrom) {
  ChatTemplateInput input = OneMessage("<|im_end|>", " <|eot_id|> x ");
  input.template_args_json = R"({"v": "ab", "n": 7, "list": ["p", "q"], "d": {"k": "v"}, "f": 1.5})";
  const std::map<std::string, std::string> cases = {
      {"<|a|>{{ messages[0].content }}<|b|>", "T[<|a|>]D[ <|eot_id|> x ]T[<|b|>]"},
      {"{{ '<|im_start|>' + messages[0].role + '\n' }}", "T[<|im_start|>]D[<|im_end|>]T[\n]"},
      {"{{ bos_token ~ v ~ eos_token }}", "T[<s>]D[ab]T[</s>]"},
      {"{{ ('x' ~ messages[0].content ~ 'y') | trim }}", "T[x]D[ <|eot_id|> x ]T[y]"},
      {"{{ messages[0].content | trim }}", "D[<|eot_id|> x]"},
      {"{{ ('<' ~ v ~ '>') | upper }}", "T[<]D[AB]T[>]"},
      {"{{ ('<' ~ v ~ '>')[1:] }}", "D[ab]T[>]"},
      {"{{ ('<' ~ v ~ '>')[::-1] }}", "T[>]D[ba]T[<]"},
      {"{{ ('<' ~ v ~ '>') | reverse }}", "T[>]D[ba]T[<]"},
      {"{{ v | replace('a', '<|x|>') }}", "T[<|x|>]D[b]"},
      {"{{ '{a}' | replace('a', v) }}", "T[{]D[ab]T[}]"},
      {"{{ list | join('<|sep|>') }}", "D[p]T[<|sep|>]D[q]"},
      {"{{ ['a', v] | join('') }}", "T[a]D[ab]"},
      {"{{ ('<' ~ v) * 2 }}", "T[<]D[ab]T[<]D[ab]"},
      {"{{ '<%s|%d>' % (v, n) }}", "T[<]D[ab]T[|]D[7]T[>]"},
      {"{{ '<{}>'.format(v) }}", "T[<]D[ab]T[>]"},
      {"{{ v.center(4, '*') }}", "T[*]D[ab]T[*]"},
      {"{{ (v ~ '<|x|>' ~ v).split('|')[1] }}", "T[x]"},
      {"{{ d | tojson }}", R"(D[{"k": "v"}])"},
      {"{{ {'a': v} | tojson }}", R"(T[{"a": ]D["ab"]T[}])"},
      {"{{ [v, '<|x|>'] }}", "T[[]D['ab']T[, '<|x|>']]"},
      {"{{ messages | tojson }}", R"(D[[{"role": "<|im_end|>", "content": " <|eot_id|> x "}]])"},
      {"{{ n }}{{ 7 }}{{ n + 1 }}{{ f }}", "D[7]T[7]D[81.5]"},
      {"{% for c in v %}{{ c }}-{% endfor %}", "D[a]T[-]D[b]T[-]"},
      {"{% set x %}<{{ v }}>{% endset %}{{ x }}", "T[<]D[ab]T[>]"},
      {"{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(v) }}{{ m('t') }}", "T[<]D[ab]T[><t>]"},
      {"{% filter title %}a {{ v }}{% endfilter %}", "T[A ]D[Ab]"},
      {"{% generation %}<{{ v }}>{% endgeneration %}", "T[<]D[ab]T[>]"},
      {"{{ v | string | lower | list | first }}", "D[a]"},
      {"{{ v | default('t') }}{{ missing | default('t') }}", "D[ab]T[t]"},
      {"{{ ('<|a|>\n' ~ v) | indent(2) }}", "T[<|a|>\n  ]D[ab]"},
      {"{{ strftime_now('%Y') }}", "T[1970]"},
      {"{% for k, val in d | items %}{{ k }}={{ val }}{% endfor %}", "D[k]T[=]D[v]"},
  };
  for (const auto& [source, expected] : cases) EXPECT_EQ(Marked(RenderWith(source, input)), expected) << source;
}

TEST(ChatTemplateProvenance, KeysOfAClientsObjectStayDataWhereTheyBecomeNames) {
  ChatTemplateInput input;
  input.tools.push_back({"f", "d", R"({"<|eot_id|>": 1})"});
  input.template_args_json = R"({"v": "<|x|>"})";
  const std::string p = "{% set p = tools[0].function.parameters %}";
  const std::map<std::string, std::string> cases = {
      {"{{ dict(**p) | tojson }}", R"(T[{]D["<|eot_id|>"]T[: ]D[1]T[}])"},
      {"{{ dict(a=2, **p) }}", "T[{'a': 2, ]D['<|eot_id|>']T[: ]D[1]T[}]"},
      {"{{ namespace(p) }}", "T[<Namespace {]D['<|eot_id|>']T[: ]D[1]T[}>]"},
      {"{{ namespace(**p) }}", "T[<Namespace {]D['<|eot_id|>']T[: ]D[1]T[}>]"},
      {"{% macro m() %}{{ kwargs.keys() | join }}{% endmacro %}{{ m(**p) }}", "D[<|eot_id|>]"},
      {"{{ [1, 2] | tojson(separators=(v, ':')) }}", "T[[1]D[<|x|>]T[2]]"},
      {"{{ [1] | tojson(indent=v) }}", "T[[\n]D[<|x|>]T[1\n]]"},
  };
  for (const auto& [source, expected] : cases) EXPECT_EQ(Marked(RenderWith(p + source, input)), expected) << source;
}

TEST(ChatTemplateProvenance, WhatAMessageSaysIsNeverTheTemplates) {
  for (const char* name : {"llama31_style.jinja", "qwen_style.jinja", "zephyr_style.jinja", "mistral_style.jinja",
                           "llama2_style.jinja", "schema_style.jinja", "llama3", "smollm2"}) {
    std::string path = testing::SourcePath(std::string("tests/goldens/chat_templates/") + name);
    std::string source = testing::FileExists(path) ? ReadFile(path) : PublishedTemplate(name);
    if (source.empty()) continue;  // the goldens' test skips aloud
    ChatTemplateInput input = OneMessage("user", "!DATA! <|eot_id|><|im_start|>");
    input.messages.push_back(
        {"assistant", "!DATA!", {{"abcdefghi", "!DATA!", R"({"!DATA!": "<|eot_id|> !DATA!"})"}}, "", ""});
    std::string third = std::string_view(name) == "llama2_style.jinja" ? "user" : "tool";  // its roles must alternate
    input.messages.push_back({third, "!DATA! <|im_end|>", {}, "abcdefghi", "!DATA!"});
    input.tools.push_back({"!DATA!", "!DATA!", R"({"type": "object", "properties": {"!DATA!": {"type": "!DATA!"}}})"});
    auto pieces = RenderWith(source, input);
    ASSERT_TRUE(pieces.ok()) << name << ": " << pieces.status();
    int found = 0;
    for (const TextPiece& piece : *pieces) {
      bool data = piece.text.find("DATA") != std::string::npos;
      found += data;
      EXPECT_FALSE(data && piece.parse_special) << name << ": " << piece.text;
    }
    EXPECT_GT(found, 0) << name;
  }
}

TEST(ChatTemplateProvenance, NeighboursOfOneOriginAreOnePiece) {
  auto pieces = RenderWith("a{{ 'b' }}{% if true %}c{% endif %}{{ messages[0].role }}{{ messages[0].content }}d",
                           OneMessage("r", "c"));
  EXPECT_EQ(Marked(pieces), "T[abc]R[r]D[c]T[d]");
}

TEST(ChatTemplateProvenance, ARoleThatIsAWordStaysARoleThroughEveryOperation) {
  const ChatTemplateInput input = OneMessage("user", "c");
  const std::map<std::string, std::string> cases = {
      {"<|{{ messages[0].role }}|>", "T[<|]R[user]T[|>]"},
      {"{{ '<|' + messages[0]['role'] + '|>' }}", "T[<|]R[user]T[|>]"},
      {"{{ '<|' ~ messages[0].role ~ '|>' }}", "T[<|]R[user]T[|>]"},
      {"{{ '<|%s|>' % messages[0].role }}", "T[<|]R[user]T[|>]"},
      {"{{ '<|{}|>'.format(messages[0].role) }}", "T[<|]R[user]T[|>]"},
      {"{{ ['<|', messages[0].role, '|>'] | join }}", "T[<|]R[user]T[|>]"},
      {"{{ '<|R|>' | replace('R', messages[0].role) }}", "T[<|]R[user]T[|>]"},
      {"{% for m in messages %}{% set r = m.role %}[{{ r | upper }}]{% endfor %}", "T[[]R[USER]T[]]"},
      {"{% macro open(r) %}<|{{ r | trim }}|>{% endmacro %}{{ open(messages[0].role) }}", "T[<|]R[user]T[|>]"},
      {"<|{{ messages[0].content }}|>", "T[<|]D[c]T[|>]"},
      {"{{ messages[0] | tojson }}", R"(D[{"role": "]R[user]D[", "content": "c"}])"},
  };
  for (const auto& [source, expected] : cases) EXPECT_EQ(Marked(RenderWith(source, input)), expected) << source;
  for (const char* hostile : {"x<|im_end|>", "|im_end|", "user\n", "a b", "\xC3\xA9", "<s>"}) {
    EXPECT_EQ(Marked(RenderWith("<{{ messages[0].role }}>", OneMessage(hostile, "c"))),
              "T[<]D[" + std::string(hostile) + "]T[>]");
  }
}

TEST(ChatTemplateProvenance, AContinuedMessageEndsWithItsOwnText) {
  ChatTemplateInput input = OneMessage("assistant", "<|im_end|> so");
  input.continue_final_message = true;
  EXPECT_EQ(Marked(RenderWith("<|a|>{{ messages[0].content }}<|end|>{{ 'more' if add_generation_prompt }}", input)),
            "T[<|a|>]D[<|im_end|> so]");
  EXPECT_EQ(RenderWith("nothing", input).status().code(), absl::StatusCode::kInvalidArgument);
  input.messages.clear();
  EXPECT_EQ(RenderWith("{{ messages }}", input).status().code(), absl::StatusCode::kInvalidArgument);
}

// ---- what a template sees ----

TEST(ChatTemplateInputs, AMessageHasOnlyTheKeysItWasGiven) {
  ChatTemplateInput input = OneMessage("user", "c");
  std::string source =
      "{{ messages[0].keys() | join(',') }} {{ tools is none }} {{ documents is none }} {{ x is defined }}";
  EXPECT_EQ(JoinText(*RenderWith(source, input)), "role,content True True False");
  input.messages[0].name = "N";
  input.messages[0].tool_call_id = "I";
  input.messages[0].tool_calls.push_back({"id7", "f", R"({"a": 1, "b": 1.0, "c": 12345678901234567890})"});
  EXPECT_EQ(
      JoinText(*RenderWith("{{ messages[0] | tojson }}", input)),
      R"({"role": "user", "content": "c", "tool_calls": [{"id": "id7", "type": "function", "function": {"name": "f", )"
      R"("arguments": {"a": 1, "b": 1.0, "c": 12345678901234567890}}}], "tool_call_id": "I", "name": "N"})");
}

TEST(ChatTemplateInputs, EverySpecialTokenIsAVariableOfTheTemplates) {
  ChatTemplateInput input = OneMessage("user", "<unk>");
  input.special_tokens["unk_token"] = "<unk>";
  input.special_tokens["image_token"] = "<image>";
  EXPECT_EQ(Marked(RenderWith("{{ unk_token ~ messages[0].content ~ image_token }}{{ pad_token is defined }}", input)),
            "T[<unk>]D[<unk>]T[<image>False]");
  input.template_args_json = R"({"unk_token": "mine"})";  // as in transformers an argument wins; it is data
  EXPECT_EQ(Marked(RenderWith("{{ unk_token }}", input)), "D[mine]");
}

TEST(ChatTemplateInputs, AMessageWithoutContentHasNoSuchKey) {
  ChatTemplateInput input = OneMessage("assistant", "");
  const std::string source =
      "{{ 'content' in messages[0] }} {{ messages[0].content is defined }}[{{ messages[0].content }}]";
  EXPECT_EQ(JoinText(*RenderWith(source, input)), "True True[]");
  input.messages[0].content.reset();
  EXPECT_EQ(JoinText(*RenderWith(source, input)), "False False[]");
  input.continue_final_message = true;
  EXPECT_EQ(GetField(RenderWith(source, input).status()), "continue_final_message");
}

// The order and the two names of a reasoning are those of transformers 5 (_alias_reasoning_fields).
TEST(ChatTemplateInputs, FurtherKeysOfAMessageAreDataInTheirOrder) {
  ChatTemplateInput input = OneMessage("assistant", "c");
  input.messages[0].reasoning_content = "<|im_end|>";
  input.messages[0].extra_json = R"({"z": 1, "a": {"y": "<|eot_id|>", "x": null}, "none": null})";
  EXPECT_EQ(
      Marked(RenderWith("{{ messages[0] | tojson }}", input)),
      R"(D[{"thinking": "<|im_end|>", "role": "]R[assistant]D[", "content": "c", "reasoning_content": "<|im_end|>", )"
      R"("z": 1, "a": {"y": "<|eot_id|>", "x": null}}])");
  EXPECT_EQ(Marked(RenderWith("<t>{{ messages[0].reasoning_content ~ messages[0].a.y }}</t>", input)),
            "T[<t>]D[<|im_end|><|eot_id|>]T[</t>]");
  for (const char* own : {"role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content"}) {
    input.messages[0].extra_json = std::string("{\"") + own + "\": \"x\"}";
    const absl::Status status = RenderWith("x", input).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(GetField(status), std::string("messages[0].extra_json.") + own);
  }
  for (const char* broken : {"[]", "{", "1"}) {
    input.messages[0].extra_json = broken;
    EXPECT_EQ(GetField(RenderWith("x", input).status()), "messages[0].extra_json") << broken;
  }
}

TEST(ChatTemplateInputs, PartsOfAContentAreAList) {
  ChatTemplateInput input = OneMessage("user", "");
  input.messages[0].content.reset();
  input.messages[0].content_parts = {"one", "two "};
  const std::string source =
      "{% if messages[0].content is string %}{{ messages[0].content }}{% else %}"
      "{% for part in messages[0].content %}{% if part.type == 'text' %}<{{ part.text }}>{% endif %}{% endfor %}{% "
      "endif %}";
  EXPECT_EQ(Marked(RenderWith(source, input)), "T[<]D[one]T[><]D[two ]T[>]");
  EXPECT_EQ(JoinText(*RenderWith("{{ messages | tojson }}", input)),
            R"([{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two "}]}])");
  // Printed as it is it would be Python's notation of a list, which no model has learnt.
  for (const char* prints : {"{{ messages[0].content }}", "{{ 'x' ~ messages[0].content }}",
                             "{{ messages[0].content | trim }}", "{{ messages[0].content | string }}"}) {
    EXPECT_EQ(RenderWith(prints, input).status().code(), absl::StatusCode::kInvalidArgument) << prints;
  }
  input.continue_final_message = true;
  EXPECT_EQ(JoinText(*RenderWith(source, input)), "<one><two ");
}

TEST(ChatTemplateInputs, BrokenJsonNamesItsField) {
  ChatTemplateInput input = OneMessage("assistant", "");
  input.messages[0].tool_calls.push_back({"", "f", "{\"a\": "});
  auto status = RenderWith("x", input).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message().substr(0, 41), "messages[0].tool_calls[0].arguments_json:");
  input.messages[0].tool_calls[0].arguments_json = "[1]";
  EXPECT_EQ(RenderWith("x", input).status().code(), absl::StatusCode::kInvalidArgument);
  input.messages[0].tool_calls.clear();
  input.tools.push_back({"f", "", "nonsense"});
  EXPECT_EQ(RenderWith("x", input).status().message().substr(0, 32), "tools[0].parameters_json_schema:");
  input.tools.clear();
  input.template_args_json = R"({"messages": []})";
  EXPECT_EQ(RenderWith("x", input).status().code(), absl::StatusCode::kInvalidArgument);
}

// ---- failures ----

TEST(ChatTemplateErrors, WhatIsNotBuiltFailsTheParseWithItsLine) {
  for (const char* construct :
       {"{% block a %}{% endblock %}", "{% extends 'a' %}", "{% include 'a' %}", "{% import 'a' as b %}",
        "{% from 'a' import b %}", "{% autoescape true %}{% endautoescape %}", "{{ x | xmlattr }}", "{{ x | nosuch }}",
        "{{ x is nosuch }}", "{{ lipsum() }}", "{{ nosuch(1) }}", "{{ x.nosuch() }}", "{{ x | map('nosuch') | list }}",
        "{{ x | select('nosuch') | list }}", "{{ x | selectattr('a', 'nosuch') }}", "{{ '\\N{DASH}' }}", "{{ self.a }}",
        "{% if false %}{{ x | nosuch }}{% endif %}"}) {
    auto status = ChatTemplate::Parse(std::string("a\n\nb {% if x %}\n{% endif %}") + construct).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << construct << ": " << status;
    EXPECT_NE(status.message().find("line 4"), absl::string_view::npos) << status;
  }
}

TEST(ChatTemplateErrors, ASyntaxErrorNamesItsLine) {
  for (const char* broken :
       {"{{ 1 + }}", "{% if %}", "{% endif %}", "{% for x %}", "{{ 'a }}", "{{ (1] }}", "{% nosuch %}", "{# a"}) {
    auto status = ChatTemplate::Parse(std::string("a\r\nb\n") + broken).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << broken << ": " << status;
    EXPECT_NE(status.message().find("line 3"), absl::string_view::npos) << status;
  }
}

TEST(ChatTemplateErrors, AFailureWhileRenderingNamesItsLine) {
  auto status = RenderWith("a\n\n{{ missing.x }}", {}).status();
  EXPECT_EQ(status, absl::InvalidArgumentError("chat template, line 3: 'missing' is undefined"));
  status = RenderWith("\n{{ raise_exception('roles must alternate') }}", {}).status();
  EXPECT_EQ(status, absl::InvalidArgumentError("chat template, line 2: roles must alternate"));
}

TEST(ChatTemplateErrors, NothingReachesInternals) {
  EXPECT_EQ(JoinText(*RenderWith("{{ ''.__class__ }}{{ ().__class__ }}{{ {}['__class__'] }}", {})), "");
  for (const char* source :
       {"{{ ''.__class__.__mro__ }}", "{% set x = [].append(1) %}", "{% set x = {}.update({'a': 1}) %}"}) {
    EXPECT_EQ(RenderWith(source, {}).status().code(), absl::StatusCode::kInvalidArgument) << source;
  }
}

// ---- bounds ----

std::string Times(int n, const std::string& s) {
  std::string out;
  for (int i = 0; i < n; ++i) out += s;
  return out;
}

TEST(ChatTemplateBounds, WhatGrowsWithoutEndIsStopped) {
  const std::string kLoop = "{% for i in range(100000) %}";
  const std::vector<std::string> sources = {
      kLoop + kLoop + "{% endfor %}{% endfor %}",
      "{% for i in range(1000000000) %}{% endfor %}",
      "{{ range(10**30) }}",
      "{{ 'x' * 10**9 }}",
      "{{ [1] * 10**9 }}",
      "{{ 10 ** 10 ** 10 }}",
      "{{ 2 ** 126 * 4 }}",
      "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
      "{% set ns = namespace(s='xx') %}{% for i in range(100) %}{% set ns.s = ns.s | replace('x', 'xx') %}{% endfor %}",
      "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] | join %}{% endfor %}",
      "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s.join([ns.s, ns.s, ns.s]) %}{% endfor "
      "%}",
      "{% set ns = namespace(s='x\n') %}{% for i in range(100) %}{% set ns.s = ns.s | indent(1000000) %}{% endfor %}",
      "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s | tojson ~ ns.s | tojson %}{% endfor "
      "%}",
      "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}",
      "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(30) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | "
      "tojson }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(30) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l == "
      "[ns.l] + ns.l }}{{ ns.l }}",
      "{% set ns = namespace() %}{% set ns.self_ = ns %}{{ ns }}",
      "{% set ns = namespace() %}{% set ns.l = [ns] %}{{ ns.l | string }}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro m(f) %}{{ f(f) }}{% endmacro %}{{ m(m) }}",
      "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
      kLoop + "0123456789012345678901234567890123456789012345678901234567890123456789{% endfor %}",
      "{{ 'x' | center(10**9) }}",
      "{{ 'x'.ljust(10**9) }}",
      "{{ '%1000000000d' % 1 }}",
      "{{ [1] | batch(10**9, 'x') | list }}",
      "{{ [1] | slice(10**9) | list }}",
      "{{ [1] | tojson(indent=10**9) }}",
      "{% set ns = namespace(x=1) %}" + kLoop + "{% set ns.x = [ns.x] %}{% endfor %}",
      "{% set ns = namespace(x={}) %}" + kLoop + "{% set ns.x = {'k': ns.x} %}{% endfor %}",
      "{% set ns = namespace(x=1) %}" + kLoop + "{% for y in [ns.x] %}{% set ns.x = loop %}{% endfor %}{% endfor %}",
      "{% set ns = namespace(x='') %}" + kLoop + "{% set ns.x = [ns.x].index %}{% endfor %}",
  };
  for (const std::string& source : sources) {
    ChatTemplate::Limits limits;
    limits.steps = 300'000;  // so that it is quick under a sanitizer, too
    auto status = RenderWith(source, {}, limits).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << source << ": " << status;
  }
}

TEST(ChatTemplateBounds, LongChainsOfValuesAreFreedWithoutRecursion) {
  for (const char* source : {"{% set ns = namespace(p=none) %}{% for i in range(50000) %}{% set q = namespace(p=ns.p) "
                             "%}{% set ns.p = q %}{% endfor %}ok",
                             "{% set ns = namespace(p=none) %}{% for i in range(50000) %}{% set old = ns.p %}{% macro "
                             "m() %}{{ old }}{% endmacro %}"
                             "{% set ns.p = m %}{% endfor %}ok",
                             "{% set ns = namespace() %}{% for i in range(1000) %}{% set x = loop.changed(loop) %}{% "
                             "set ns.l = loop %}{% endfor %}ok"}) {
    auto pieces = RenderWith(source, {});
    EXPECT_EQ(Marked(pieces), "T[ok]") << source;
  }
}

TEST(ChatTemplateBounds, DeepNestingIsRefusedWhenParsed) {
  const std::vector<std::string> sources = {
      "{{ " + Times(20000, "(") + "1" + Times(20000, ")") + " }}",
      "{{ " + Times(20000, "[") + Times(20000, "]") + " }}",
      "{{ " + Times(20000, "not ") + "1 }}",
      "{{ " + Times(20000, "-") + "1 }}",
      "{{ 1" + Times(20000, "|string") + " }}",
      "{{ x" + Times(20000, ".a") + " }}",
      "{{ x" + Times(20000, "[0]") + " }}",
      "{{ x" + Times(20000, "()") + " }}",
      "{{ 1" + Times(20000, " if 1") + " }}",
      "{{ " + Times(20000, "1 if 1 else ") + "1 }}",
      "{{ " + Times(20000, "{1:") + " }}",
      Times(20000, "{% if 1 %}"),
      Times(20000, "{% for x in y %}"),
      "{% set " + Times(20000, "(") + "a" + Times(20000, ")") + " = 1 %}",
      "{% filter upper" + Times(20000, "|upper") + " %}{% endfilter %}",
  };
  for (const std::string& source : sources) {
    auto status = ChatTemplate::Parse(source).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << source.substr(0, 40) << ": " << status;
  }
  // Long is not deep.
  EXPECT_EQ(JoinText(*RenderWith("{{ 0" + Times(5000, " + 1") + " }}", {})), "5000");
  EXPECT_EQ(JoinText(*RenderWith("{{ ''" + Times(5000, " ~ 'x'") + " }}", {})), Times(5000, "x"));
  EXPECT_EQ(JoinText(*RenderWith("{% if 0 %}" + Times(5000, "{% elif 0 %}") + "{% else %}x{% endif %}", {})), "x");
}

TEST(ChatTemplateBounds, TheLimitsOfACallHold) {
  ChatTemplate::Limits limits;
  limits.steps = 1000;
  EXPECT_TRUE(RenderWith("{% for i in range(100) %}{{ i }}{% endfor %}", {}, limits).ok());
  EXPECT_FALSE(RenderWith("{% for i in range(1000) %}{{ i }}{% endfor %}", {}, limits).ok());
  limits = {};
  limits.output_bytes = 10;
  EXPECT_EQ(JoinText(*RenderWith("0123456789", {}, limits)), "0123456789");
  EXPECT_EQ(RenderWith("0123456789{{ 1 }}", {}, limits).status().code(), absl::StatusCode::kResourceExhausted);
  limits = {};
  limits.depth = 8;
  const std::string macro = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}";
  EXPECT_TRUE(RenderWith(macro + "{{ f(3) }}", {}, limits).ok());
  EXPECT_EQ(RenderWith(macro + "{{ f(9) }}", {}, limits).status().code(), absl::StatusCode::kResourceExhausted);
}

// What a quadratic search would need hours for: half of each text agrees at every place, and never all of it.
TEST(ChatTemplateBounds, SearchesInAClientsTextAreLinear) {
  constexpr int kBytes = 8 << 20;
  ChatTemplate::Limits limits;
  limits.output_bytes = 4 * kBytes;
  limits.steps = 20'000'000;
  ChatTemplateInput input;
  input.messages.push_back({"user", std::string(kBytes, 'a'), {}, "", ""});
  input.messages.push_back({"user", std::string(kBytes / 2, 'a') + "b", {}, "", ""});
  input.messages.push_back({"user", "b" + std::string(kBytes / 2, 'a'), {}, "", ""});
  const std::string names =
      "{% set a = messages[0].content %}{% set ab = messages[1].content %}{% set ba = messages[2].content %}";
  const std::map<std::string, std::string> cases = {
      {"{{ ab in a }}", "False"},
      {"{{ a.find(ab) }} {{ a.count(ab) }}", "-1 0"},
      {"{{ a.rfind(ba) }}", "-1"},
      {"{{ a.split(ab) | length }}", "1"},
      {"{{ a.rsplit(ba) | length }}", "1"},
      {"{{ a.partition(ab)[0] | length }}", std::to_string(kBytes)},
      {"{{ a.rpartition(ba)[2] | length }}", std::to_string(kBytes)},
      {"{{ a | replace(ab, '') | length }}", std::to_string(kBytes)},
  };
  for (const auto& [source, expected] : cases) {
    auto pieces = RenderWith(names + source, input, limits);
    ASSERT_TRUE(pieces.ok()) << source << ": " << pieces.status();
    EXPECT_EQ(JoinText(*pieces), expected) << source;
  }
  // The continued message is looked for in the rendered text.
  input.messages.erase(input.messages.begin() + 1);
  input.messages[1].content = std::string(kBytes / 2, 'a') + "b";
  input.continue_final_message = true;
  auto pieces = RenderWith("{% for m in messages %}{{ m.content }}\n{% endfor %}", input, limits);
  ASSERT_TRUE(pieces.ok()) << pieces.status();
  EXPECT_EQ(JoinText(*pieces).size(), static_cast<size_t>(kBytes + 1 + kBytes / 2 + 1));
}

TEST(ChatTemplateBounds, CaseAndStripAreLinearInAClientsText) {
  ChatTemplate::Limits limits;
  limits.output_bytes = 64 << 20;
  limits.steps = 50'000'000;
  constexpr int kTimes = 1 << 22;  // squared: hours
  ChatTemplateInput input;
  input.messages.push_back({"user", Times(kTimes, "Σ"), {}, "", ""});
  input.messages.push_back({"user", Times(kTimes, "b") + "Σ", {}, "", ""});
  EXPECT_EQ(JoinText(*RenderWith("{{ messages[0].content | lower }}", input, limits)), Times(kTimes - 1, "σ") + "ς");
  EXPECT_EQ(JoinText(*RenderWith("{{ messages[0].content | trim(messages[1].content) }}", input, limits)), "");
  EXPECT_EQ(JoinText(*RenderWith("{{ messages[0].content.strip(messages[1].content) }}", input, limits)), "");
}

// Were this work free, each would end within the steps of its loop alone.
TEST(ChatTemplateBounds, WorkInProportionToATextOrPathIsCharged) {
  ChatTemplate::Limits limits;
  limits.steps = 300'000;
  ChatTemplateInput input;
  input.messages.push_back({"user", std::string(100'000, 'a') + "x", {}, "", ""});
  input.messages.push_back({"user", std::string(100'000, 'a') + "y", {}, "", ""});
  std::string object = "{\"k0\": 0";
  for (int i = 1; i < 10'000; ++i) object += ", \"k" + std::to_string(i) + "\": 0";
  input.tools.push_back({"f", "", object + "}"});
  const std::string names = "{% set a = messages[0].content %}{% set b = messages[1].content %}";
  std::string parameters = "p";
  for (int i = 0; i < 100; ++i) parameters += ", p" + std::to_string(i);
  const std::vector<std::string> sources = {
      "{% macro m(" + parameters + ") %}{{ kwargs.k1 }}{% endmacro %}" +
          "{% for i in range(4) %}{{ m(**tools[0].function.parameters) }}{% endfor %}",
      "{% for i in range(1000) %}{% if a < b %}{% endif %}{% endfor %}",
      "{% set l = [a, b] * 100 %}{{ l | sort | length }}",
      "{% for i in range(1000) %}{% if a is in({b: 1}) %}{% endif %}{% endfor %}",
      "{% for i in range(1000) %}{{ 'x' | trim(a) }}{% endfor %}",
      "{% for i in range(1000) %}{{ a | truncate(5) }}{% endfor %}",
      "{% for i in range(1000) %}{% set u = a | urlencode %}{% endfor %}",
      "{% set l = [a] * 1000 %}{{ l | unique | list | length }}",
      "{% for i in range(1000) %}{{ a.startswith((b, b, b, b)) }}{% endfor %}",
      "{% set p = '0.' * 1000 ~ '0' %}{% set l = ['a'] * 1000 %}{{ l | map(attribute=p) | list | length }}",
  };
  for (const std::string& source : sources) {
    auto status = RenderWith(names + source, input, limits).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << source << ": " << status;
  }
  // A key that holds itself twice, sixty times over.
  const std::string shared = "{% set t = (1, 1) %}" + Times(60, "{% set t = (t, t) %}");
  for (const char* use :
       {"{% set d = {t: 1} %}", "{{ t in {} }}", "{{ {}[t] }}", "{{ {}.get(t) }}", "{{ [t] | unique | list }}"}) {
    auto status = RenderWith(shared + use, input, limits).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << use << ": " << status;
  }
}

// A step is what takes some 50 ns: a text is paid for by what is done to its bytes, so that no template gets through
// the limit with seconds of work.
TEST(ChatTemplateBounds, WhatIsDoneToEachCharacterIsChargedByTheByte) {
  ChatTemplate::Limits limits;
  limits.steps = 1'000'000;
  ChatTemplateInput input =
      OneMessage("user", Times(50'000, "aB\xC3\xA9 "));  // 250 kB: 1 M steps are 32 looks, 8 copies made
  for (const char* look : {"a | length", "'zz' in a", "a.find('zz')", "a.split('zz')", "a.replace('zz', '')", "a[3]",
                           "a | tojson", "a.splitlines()", "a.partition('zz')", "a.count('zz')", "'%9s' % a"}) {
    const std::string source =
        "{% set a = messages[0].content %}{% for i in range(40) %}{% set x = " + std::string(look) + " %}{% endfor %}";
    EXPECT_EQ(RenderWith(source, input, limits).status().code(), absl::StatusCode::kResourceExhausted) << look;
  }
  for (const char* make : {"a | lower", "a | upper", "a.title()", "a | title", "a | capitalize", "a | escape",
                           "a | urlencode", "a.isalpha()", "a is upper", "a | wordcount", "[a] | string",
                           "a.find('z', 1)", "a | list", "a | truncate(9)", "'%.5s' % a"}) {
    const std::string source =
        "{% set a = messages[0].content %}{% for i in range(10) %}{% set x = " + std::string(make) + " %}{% endfor %}";
    EXPECT_EQ(RenderWith(source, input, limits).status().code(), absl::StatusCode::kResourceExhausted) << make;
  }
}

// A text whose bytes come from the template and a message in turn costs more to copy than its bytes.
TEST(ChatTemplateBounds, ManyStretchesOfATextAreCharged) {
  ChatTemplate::Limits limits;
  limits.steps = 1'000'000;
  const ChatTemplateInput input = OneMessage("user", Times(100'000, "a"));
  const std::string twined = "{% set a = messages[0].content | replace('', '-') %}{% for i in range(20) %}{% set x = ";
  for (const char* copy : {"a ~ 'x'", "a + 'x'", "a | string", "[a] | join", "'-'.join([a])", "a.strip()"}) {
    EXPECT_EQ(RenderWith(twined + copy + " %}{% endfor %}", input, limits).status().code(),
              absl::StatusCode::kResourceExhausted)
        << copy;
  }
}

TEST(ChatTemplateBounds, ARenderIsStoppedWhereItIsAskedTo) {
  ChatTemplateInput input = OneMessage("user", "c");
  int asked = 0;
  input.stop = [&] { return ++asked == 3; };
  const std::string endless = "{% for i in range(100000) %}{{ '' }}{% endfor %}";
  EXPECT_EQ(RenderWith(endless, input).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(asked, 3) << "no longer asked once it has stopped";
  asked = 0;
  EXPECT_TRUE(RenderWith("{{ messages[0].content }}", input).ok());
  EXPECT_EQ(asked, 0) << "a short render does not ask";
}

TEST(ChatTemplateBounds, StripReadsFromBothEnds) {
  ChatTemplateInput input = OneMessage("user", " \xC2\xA0x\xE3\x80\x80 \xFF\xE3\x80\x80\n\x80");
  EXPECT_EQ(JoinText(*RenderWith("[{{ messages[0].content | trim }}]", input)),
            "[x\xE3\x80\x80 \xFF\xE3\x80\x80\n\x80]");
  input.messages[0].content = " \xC2\xA0x\xE3\x80\x80 ";
  EXPECT_EQ(JoinText(*RenderWith("[{{ messages[0].content | trim }}]", input)), "[x]");
  EXPECT_EQ(JoinText(*RenderWith("[{{ messages[0].content.rstrip() }}]", input)), "[ \xC2\xA0x]");
  EXPECT_EQ(JoinText(*RenderWith("[{{ messages[0].content.lstrip() }}]", input)), "[x\xE3\x80\x80 ]");
  input.messages[0].content = " \xE3\x80\x80";
  EXPECT_EQ(JoinText(*RenderWith("[{{ messages[0].content.strip() }}{{ messages[0].content.rstrip() }}]", input)),
            "[]");
}

TEST(ChatTemplateBounds, ALongSourceIsRefusedBeforeItIsParsed) {
  std::string source = Times(static_cast<int>(ChatTemplate::kMaxSourceBytes), "a");
  EXPECT_TRUE(ChatTemplate::Parse(source).ok());
  EXPECT_EQ(ChatTemplate::Parse(source + "a").status(),
            absl::DataLossError("chat template: 1048577 bytes, at most 1048576 are read"));
}

TEST(ChatTemplateBounds, ManyVariablesOfATemplateAreCharged) {
  std::string source;
  for (int i = 0; i < 20'000; ++i) source += "{% set v" + std::to_string(i) + " = 1 %}";
  EXPECT_EQ(RenderWith(source, {}).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(ChatTemplateBounds, ATextIsNotCutIntoMorePartsThanThereAreSteps) {
  ChatTemplateInput input;
  input.messages.push_back({"user", Times(4 << 20, "\n"), {}, "", ""});
  for (const char* source : {"{{ messages[0].content.splitlines() | length }}", "{{ messages[0].content.split('\n') }}",
                             "{{ messages[0].content | indent }}", "{{ messages[0].content.rsplit('\n') }}"}) {
    EXPECT_EQ(RenderWith(source, input).status().code(), absl::StatusCode::kResourceExhausted) << source;
  }
}

TEST(ChatTemplateBounds, TooManyTemplateArgumentsAreRefusedByName) {
  auto with = [](int count) {
    ChatTemplateInput input;
    input.template_args_json = "{\"k0\": 0";
    for (int i = 1; i < count; ++i)
      input.template_args_json += ", \"k" + std::to_string(i) + "\": " + std::to_string(i);
    input.template_args_json += "}";
    return input;
  };
  EXPECT_EQ(JoinText(*RenderWith("{{ k255 }}", with(256))), "255");
  const absl::Status status = RenderWith("{{ k0 }}", with(257)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "template_args: 257 variables, expected at most 256");
  EXPECT_EQ(GetField(status), "template_args");
}

TEST(ChatTemplateBounds, IntegersAtTheEndOfTheirRangeOverflowNothing) {
  const std::string kMax = "170141183460469231731687303715884105727", kMin = "(-" + kMax + " - 1)";
  const std::map<std::string, std::string> results = {
      {"{{ 'abcdefghijkl' | truncate(" + kMax + ", true, '...', " + kMax + ") }}", "abcdefghijkl"},
      {"{{ 'abc' | truncate(" + kMax + ") }}", "abc"},
      {"{{ 'abc' | center(" + kMin + ") }}", "abc"},
      {"{{ 'abc'.center(" + kMin + ") }}{{ 'abc'.ljust(" + kMin + ") }}{{ '5'.zfill(" + kMin + ") }}", "abcabc5"},
      {"{{ 'abc'.find('c', " + kMin + ", " + kMax + ") }}", "2"},
      {"{{ 'a,b'.split(',', " + kMin + ") }}", "['a', 'b']"},
      {"{{ 'abc'[" + kMin + ":" + kMax + ":" + kMax + "] }}", "a"},
      {"{{ 'aaa' | replace('a', 'b', " + kMax + ") }}", "bbb"},
      {"{{ [1, 2] | batch(" + kMax + ") | list }}", "[[1, 2]]"},
      {"{{ " + kMax + " | round(-39) }}", "0"},
      {"{{ 10000000000000000000000000005 | round(-1) }}", "10000000000000000000000000000"},
  };
  for (const auto& [source, expected] : results)
    EXPECT_EQ(Marked(RenderWith(source, {})), "T[" + expected + "]") << source;
  for (const std::string& source :
       {"{{ " + kMin + " | abs }}", "{{ 'abc' | center(" + kMax + ") }}", "{{ 'abc'.rjust(" + kMax + ") }}",
        "{{ '%*d' % (" + kMin + ", 1) }}", "{{ '%.*f' % (" + kMax + ", 1.5) }}", "{{ " + kMax + " | round(-1) }}",
        "{{ " + kMin + " | round(-1) }}", "{{ range(" + kMin + ", " + kMax + ") }}", "{{ -" + kMin + " }}",
        std::string("{% set ns = namespace(r=range(9)) %}{% for i in range(200) %}{% set ns.r = ns.r[::2] %}{% endfor "
                    "%}{{ ns.r }}")}) {
    auto status = RenderWith(source, {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << source << ": " << status;
  }
}

TEST(ChatTemplateBounds, ADeepArgumentIsRefused) {
  ChatTemplateInput input;
  input.template_args_json = "{\"a\": " + Times(100000, "[") + Times(100000, "]") + "}";
  EXPECT_EQ(RenderWith("x", input).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace quantd
