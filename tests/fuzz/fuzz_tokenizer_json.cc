// Any bytes as tokenizer.json: parsing gives a tokenizer or a Status, and a tokenizer encodes and decodes without
// failing.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/stream_decoder.h"
#include "runtime/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = quantd::ParseTokenizerJson(json, {});
  if (!tokenizer.ok()) return 0;
  const quantd::TextPieces pieces = {{"<s> Hello, 123 w\u00F6rld\n\n", true},
                                     {"<|im_start|>  x\u2581y\U0001F600", false}};
  std::vector<int32_t> ids;
  std::vector<uint32_t> offsets;
  if (!(*tokenizer)->Encode(pieces, ids, &offsets).ok()) return 0;
  if (ids.size() != offsets.size()) std::abort();
  quantd::StreamDecoder decoder(**tokenizer, {.skip_special_tokens = false, .at_text_start = true});
  for (const int32_t id : ids) {
    if (id < 0 || id >= (*tokenizer)->vocab_size()) std::abort();
    decoder.Append(id);
  }
  decoder.Flush();
  return 0;
}
