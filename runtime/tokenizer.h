// Text to token ids and back. A Tokenizer is immutable after it was made and may be used from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/stop.h"
#include "runtime/text_piece.h"

namespace quantd {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Appends the ids of `pieces` to `ids`. Nothing is added around them: see `bos`/`eos` below and TextCodec.
  // InvalidArgument: text that is no UTF-8 (with the byte offset). ResourceExhausted: a split-pattern limit was hit.
  // `byte_offsets`, where not null, gets for each id the offset of its first byte in the joined text. Cancelled: `stop`
  // said so.
  virtual absl::Status Encode(std::span<const TextPiece> pieces, std::vector<int32_t>& ids,
                              std::vector<uint32_t>* byte_offsets = nullptr, const Stop& stop = {}) const = 0;

  // The bytes that `id` stands for in running text (a token may be part of a UTF-8 sequence). Special tokens give their
  // text. Empty for an id outside the vocabulary.
  virtual std::string_view TokenBytes(int32_t id) const = 0;

  // A SentencePiece-style tokenizer puts a space before the text and drops it again when decoding: true where the first
  // token of a text loses one leading space on the way back.
  virtual bool StripsLeadingSpace() const = 0;

  virtual int32_t vocab_size() const = 0;        // one more than the largest id
  virtual bool IsSpecial(int32_t id) const = 0;  // a control token: skipped in output unless asked for

  // What the tokenizer itself adds around a text when special tokens are asked for (HF post-processor, GGUF
  // add_bos_token).
  virtual std::span<const int32_t> prefix_ids() const = 0;
  virtual std::span<const int32_t> suffix_ids() const = 0;
  virtual std::optional<int32_t> bos_id() const = 0;
  virtual std::optional<int32_t> eos_id() const = 0;
};

// A vocabulary as GGUF metadata holds it (tokenizer.ggml.*).
struct GgufVocab {
  std::string model;  // "llama" (SentencePiece-style) or "gpt2" (byte-level BPE)
  std::string pre;    // names the split pattern: "llama-bpe", "smollm", "gpt-2", "default", …
  std::vector<std::string> tokens;
  std::vector<float> scores;         // "llama" only
  std::vector<int64_t> token_types;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::vector<std::string> merges;   // "gpt2" only, "left right"
  std::optional<int32_t> bos_id, eos_id, unk_id;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
};

// DataLoss: arrays of different lengths, a type that is none of these, an id beyond the tokens.
absl::Status CheckGgufVocab(const GgufVocab& vocab);

// From a checkpoint folder: `tokenizer.json`, or else a plain SentencePiece `tokenizer.model`; tokenizer_config.json
// beside it names the special tokens. NotFound: neither is there. DataLoss: a file is corrupt (names the file and the
// place). Unimplemented: a normalizer, pre-tokenizer or model kind that is not built (named).
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& folder);
// From bytes, for tests and fuzzing. `config_json` (tokenizer_config.json) may be empty.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizerJson(std::string_view json, std::string_view config_json);
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseSentencePieceModel(std::string_view bytes,
                                                                   std::string_view config_json);
// Checks the vocabulary too.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeGgufTokenizer(GgufVocab vocab);

}  // namespace quantd
