// Any bytes as a tiktoken list in tokenizer.model: parsing gives a tokenizer that works, or a Status.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tests/fuzz/probe_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quantd;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  IsTiktokenModel(bytes);
  const auto tokenizer = ParseTiktokenModel(bytes, {});
  QD_CHECK(!absl::IsInternal(tokenizer.status()));
  if (tokenizer.ok()) ProbeTokenizer(**tokenizer);
  return 0;
}
