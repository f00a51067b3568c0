// TextCodec: text and chats to token ids and back, with the model's template, special tokens and limits. Immutable; any
// thread.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/chat_templates.h"
#include "runtime/checkpoint.h"
#include "runtime/generation_config.h"
#include "runtime/stream_decoder.h"

namespace quantd {

struct EncodedPrompt {
  std::vector<int32_t> ids;
  std::vector<uint32_t>
      byte_offsets;      // of each id in `rendered`; ids that the tokenizer adds around a text have its edge
  std::string rendered;  // the text that was encoded
};

class TextCodec {
 public:
  // Takes the tokenizer out of the checkpoint. NotFound: it has none. InvalidArgument, DataLoss: configurations and
  // bounds; a broken chat template is a warning, and an answer of EncodeChat.
  static absl::StatusOr<std::shared_ptr<const TextCodec>> Create(Checkpoint& checkpoint);

  static constexpr int64_t kAnyLength = std::numeric_limits<int64_t>::max();
  struct TextOptions {
    bool parse_special = false;              // special tokens written in the text are recognised
    std::optional<bool> add_special_tokens;  // absent: as the tokenizer says
    Stop stop = {};
    int64_t max_tokens = kAnyLength;  // InvalidArgument CONTEXT_TOO_LONG soon after there are more
  };
  absl::StatusOr<EncodedPrompt> EncodeText(std::string text, const TextOptions& options) const;
  // The template, then the tokens. A BOS that the template wrote is not doubled. The special tokens of `input` are
  // filled in here. Codes of RenderChat and Tokenizer::Encode.
  absl::StatusOr<EncodedPrompt> EncodeChat(ChatTemplateInput input, int64_t max_tokens = kAnyLength) const;

  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const;
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  bool has_chat_template() const { return !chat_templates_.empty(); }
  const GenerationDefaults& defaults() const { return defaults_; }
  // What the files say of text and its generation and nothing does, by file and key.
  const std::vector<std::string>& warnings() const { return warnings_; }
  const std::vector<int32_t>& eos_token_ids() const {
    return eos_token_ids_;
  }  // sorted: config, generation config, tokenizer

 private:
  TextCodec() = default;
  absl::Status EncodePieces(std::span<const TextPiece> pieces, int64_t max_tokens, const Stop& stop,
                            EncodedPrompt& prompt) const;

  std::unique_ptr<Tokenizer> tokenizer_;
  ChatTemplates chat_templates_;
  GenerationDefaults defaults_;
  std::vector<int32_t> eos_token_ids_;
  std::map<std::string, std::string> special_tokens_;
  std::vector<std::string> warnings_;
};

}  // namespace quantd
