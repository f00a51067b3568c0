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
  // Tokens that end a generation, as far as the vocabulary's own file tells: eos_id and, in a GGUF, ends of a turn.
  virtual std::span<const int32_t> end_ids() const { return {}; }
};

// A vocabulary as GGUF metadata holds it (tokenizer.ggml.*).
struct GgufVocab {
  std::string model;  // "llama" (SentencePiece-style) or "gpt2" (byte-level BPE)
  std::string pre;    // names the split pattern: "llama-bpe", "smollm", "gpt-2", "default", …
  std::vector<std::string> tokens;
  std::vector<float> scores;         // "llama" only
  std::vector<int64_t> token_types;  // 0 not said, 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::vector<std::string> merges;   // "gpt2" only, "left right"
  std::optional<int32_t> bos_id, eos_id, unk_id, eot_id, eom_id;
  std::optional<int32_t> fim_pad_id, fim_rep_id, fim_sep_id;  // llama.cpp ends a generation at them
  std::optional<bool> add_bos, add_eos, add_space_prefix;
};

// DataLoss: arrays of different lengths, a type that is none of these, an id beyond the tokens.
absl::Status CheckGgufVocab(const GgufVocab& vocab);

// The texts of the files beside a vocabulary; an empty one is not there.
struct TokenizerCompanions {
  std::string_view config = {};              // tokenizer_config.json
  std::string_view special_tokens_map = {};  // special_tokens_map.json
  std::string_view added_tokens = {};        // added_tokens.json
};

// From a checkpoint folder: `tokenizer.json`, or else `tokenizer.model`, or else `vocab.json` with `merges.txt`; the
// files of TokenizerCompanions beside it name special and further tokens. NotFound: none is there. DataLoss: a file is
// corrupt (names the file and the place). Unimplemented: a normalizer, pre-tokenizer or model kind that is not built
// (named).
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& folder);
// From bytes.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizerJson(std::string_view json, const TokenizerCompanions& beside);
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseSentencePieceModel(std::string_view bytes,
                                                                   const TokenizerCompanions& beside);
// tiktoken's list of byte strings and ranks, as Llama 3 was published with it. Unimplemented: another list.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTiktokenModel(std::string_view bytes,
                                                              const TokenizerCompanions& beside);
bool IsTiktokenModel(std::string_view bytes);  // by its first line
// Byte-level BPE as GPT-2 kept it. tokenizer_class in the configuration says how text is split.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseVocabAndMerges(std::string_view vocab_json, std::string_view merges,
                                                               const TokenizerCompanions& beside);
// Checks the vocabulary too.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeGgufTokenizer(GgufVocab vocab);

}  // namespace quantd
