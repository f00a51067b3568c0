// What every tokenizer must do, whatever file it came from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "runtime/stream_decoder.h"
#include "runtime/tokenizer.h"

namespace quantd {

// Encodes texts with and without special tokens, and decodes what came out. An Encode that fails is a limit of its own.
inline void ProbeTokenizer(const Tokenizer& tokenizer) {
  const TextPieces pieces = {{"<s> Hello, 123 w\u00F6rld\n\n", true}, {"<|im_start|>  x\u2581y\U0001F600", false}};
  std::vector<int32_t> ids;
  std::vector<uint32_t> offsets;
  const absl::Status status = tokenizer.Encode(pieces, ids, &offsets);
  QD_CHECK(!absl::IsInternal(status));
  if (!status.ok()) return;
  QD_CHECK(ids.size() == offsets.size());
  StreamDecoder decoder(tokenizer, {.skip_special_tokens = false, .at_text_start = true});
  for (const int32_t id : ids) {
    QD_CHECK(id >= 0 && id < tokenizer.vocab_size());
    decoder.Append(id);
  }
  decoder.Flush();
  for (const int32_t id : tokenizer.prefix_ids()) QD_CHECK(id >= 0 && id < tokenizer.vocab_size());
  for (const int32_t id : tokenizer.suffix_ids()) QD_CHECK(id >= 0 && id < tokenizer.vocab_size());
}

}  // namespace quantd
