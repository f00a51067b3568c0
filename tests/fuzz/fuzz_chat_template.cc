// Any bytes as a template, rendered over a chat with tools. It must end within its bounds, whatever it is, and no text
// of the chat may become the template's: each holds a mark, U+E000, that a template without it cannot write.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "runtime/chat_template/chat_template.h"

#define MARK "\xEE\x80\x80"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quantd;
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const bool writes_mark = source.find(MARK) != source.npos || source.find('\\') != source.npos;
  ChatTemplate::Limits limits;
  limits.steps = 20'000;
  limits.output_bytes = 1 << 16;
  auto parsed = ChatTemplate::Parse(source, limits);
  if (!parsed.ok()) {
    QD_CHECK(parsed.status().code() != absl::StatusCode::kInternal);
    return 0;
  }
  ChatTemplateInput input;
  input.messages.push_back({"system", "Be " MARK "<|eot_id|> brief.\n", {}, "", ""});
  input.messages.push_back({"user", " h\xC3\xA9llo " MARK " \xF0\x9F\x98\x80 \xFF", {}, "", "Ann" MARK});
  input.messages.push_back(
      {"assistant", "", {{"abcdefghi", "f", R"({"a": [1, 2.5, null], ")" MARK R"(": "x"})"}}, "", ""});
  input.tools.push_back({"f" MARK, "does", R"({"type": "object", "properties": {")" MARK R"(": {"type": "array"}}})"});
  input.template_args_json = R"({"s": "te)" MARK R"(xt", "n": 7, "l": [3, 1, 2], "d": {")" MARK R"(": "v"}})";
  input.messages.back().reasoning_content = "hm " MARK;
  input.messages.back().extra_json = R"({")" MARK R"(": [{"x": ")" MARK R"("}], "prefix": true})";
  input.messages.push_back({"user", std::nullopt, {}, "", ""});
  input.messages.back().content_parts = {"one " MARK, "two"};
  input.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  for (bool continued : {false, true}) {
    input.continue_final_message = continued;
    auto pieces = (*parsed)->Render(input);
    size_t bytes = 0;
    for (size_t i = 0; pieces.ok() && i < pieces->size(); ++i) {
      bytes += (*pieces)[i].text.size();
      QD_CHECK(writes_mark || !(*pieces)[i].parse_special || (*pieces)[i].text.find(MARK) == std::string::npos);
      QD_CHECK(i == 0 || (*pieces)[i].parse_special != (*pieces)[i - 1].parse_special ||
               (*pieces)[i].is_name != (*pieces)[i - 1].is_name);
    }
    QD_CHECK(bytes <= limits.output_bytes);
  }
  return 0;
}
