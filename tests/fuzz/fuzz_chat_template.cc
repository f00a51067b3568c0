// Any bytes as a template, rendered over a chat with tools. It must end within its bounds, whatever it is.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "runtime/chat_template/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quantd;
  ChatTemplate::Limits limits;
  limits.steps = 20'000;
  limits.output_bytes = 1 << 16;
  auto parsed = ChatTemplate::Parse(std::string_view(reinterpret_cast<const char*>(data), size), limits);
  if (!parsed.ok()) {
    QD_CHECK(parsed.status().code() != absl::StatusCode::kInternal);
    return 0;
  }
  ChatTemplateInput input;
  input.messages.push_back({"system", "Be <|eot_id|> brief.\n", {}, "", ""});
  input.messages.push_back({"user", " h\xC3\xA9llo \xF0\x9F\x98\x80 \xFF", {}, "", "Ann"});
  input.messages.push_back({"assistant", "", {{"abcdefghi", "f", R"({"a": [1, 2.5, null], "b": "x"})"}}, "", ""});
  input.tools.push_back({"f", "does", R"({"type": "object", "properties": {"a": {"type": "array"}}})"});
  input.template_args_json = R"({"s": "text", "n": 7, "l": [3, 1, 2], "d": {"k": "v"}})";
  input.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  for (bool continued : {false, true}) {
    input.continue_final_message = continued;
    auto pieces = (*parsed)->Render(input);
    size_t bytes = 0;
    for (size_t i = 0; pieces.ok() && i < pieces->size(); ++i) {
      bytes += (*pieces)[i].text.size();
      QD_CHECK(i == 0 || (*pieces)[i].parse_special != (*pieces)[i - 1].parse_special);
    }
    QD_CHECK(bytes <= limits.output_bytes);
  }
  return 0;
}
