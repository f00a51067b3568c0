#include "runtime/text_codec.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/llama_config.h"

namespace quantd {

absl::StatusOr<std::shared_ptr<const TextCodec>> TextCodec::Create(Checkpoint& checkpoint) {
  std::shared_ptr<TextCodec> codec(new TextCodec);
  QD_ASSIGN_OR_RETURN(LlamaConfig config, ParseLlamaConfig(checkpoint.config_json));
  const std::string& own = checkpoint.generation_config_json;
  QD_ASSIGN_OR_RETURN(codec->defaults_, own.empty() ? ParseGenerationKeys(checkpoint.config_json, config.vocab_size)
                                                    : ParseGenerationConfig(own, config.vocab_size));
  codec->warnings_ = codec->defaults_.warnings;
  if (checkpoint.tokenizer == nullptr) return absl::NotFoundError(checkpoint.why_no_tokenizer);
  // As in many fine-tunes: a request that has such an id is refused where it meets the model.
  if (checkpoint.tokenizer->vocab_size() > config.vocab_size) {
    codec->warnings_.push_back(absl::StrCat("the tokenizer has ids up to ", checkpoint.tokenizer->vocab_size() - 1,
                                            ", the model a vocabulary of ", config.vocab_size,
                                            ": requests with the ids beyond it are refused"));
  }
  QD_ASSIGN_OR_RETURN(codec->chat_templates_, ChatTemplates::Parse(checkpoint.chat_templates, codec->warnings_));
  codec->tokenizer_ = std::move(checkpoint.tokenizer);
  codec->special_tokens_ = checkpoint.special_tokens;
  std::vector<int32_t>& eos = codec->eos_token_ids_;
  eos = config.eos_token_ids;
  eos.insert(eos.end(), codec->defaults_.eos_token_ids.begin(), codec->defaults_.eos_token_ids.end());
  const std::span<const int32_t> ends = codec->tokenizer_->end_ids();
  eos.insert(eos.end(), ends.begin(), ends.end());
  std::sort(eos.begin(), eos.end());
  eos.erase(std::unique(eos.begin(), eos.end()), eos.end());
  std::erase_if(eos, [&](int32_t id) {
    if (id >= 0 && id < config.vocab_size) return false;
    codec->warnings_.push_back(absl::StrCat("the end token ", id, " is none of the model's vocabulary of ",
                                            config.vocab_size, ": it ends nothing"));
    return true;
  });
  return codec;
}

// What will be refused for its length is not worth the rest of its tokens, of which 16 MiB of text can make millions.
absl::Status TextCodec::EncodePieces(std::span<const TextPiece> pieces, int64_t max_tokens, const Stop& stop,
                                     EncodedPrompt& prompt) const {
  bool too_long = false;
  const Stop stop_early = [&] {
    too_long = static_cast<int64_t>(prompt.ids.size()) > max_tokens;
    return too_long || (stop && stop());
  };
  const absl::Status status = tokenizer_->Encode(pieces, prompt.ids, &prompt.byte_offsets, stop_early);
  if (!too_long) return status;
  return WithReason(absl::InvalidArgumentError(absl::StrCat("prompt of more than ", max_tokens,
                                                            " tokens exceeds the context of ", max_tokens)),
                    "CONTEXT_TOO_LONG");
}

absl::StatusOr<EncodedPrompt> TextCodec::EncodeText(std::string text, const TextOptions& options) const {
  EncodedPrompt prompt;
  TextPiece piece{std::move(text), options.parse_special};
  const bool add = options.add_special_tokens.value_or(true);
  if (add) prompt.ids.assign(tokenizer_->prefix_ids().begin(), tokenizer_->prefix_ids().end());
  prompt.byte_offsets.assign(prompt.ids.size(), 0);
  QD_RETURN_IF_ERROR(EncodePieces(std::span(&piece, 1), options.max_tokens, options.stop, prompt));
  if (add) {
    for (int32_t id : tokenizer_->suffix_ids()) {
      prompt.ids.push_back(id);
      prompt.byte_offsets.push_back(static_cast<uint32_t>(piece.text.size()));
    }
  }
  prompt.rendered = std::move(piece.text);
  return prompt;
}

absl::StatusOr<EncodedPrompt> TextCodec::EncodeChat(ChatTemplateInput input, int64_t max_tokens) const {
  input.special_tokens = special_tokens_;
  const Stop stop = input.stop;
  QD_ASSIGN_OR_RETURN(TextPieces pieces, RenderChat(chat_templates_, std::move(input)));
  EncodedPrompt prompt;
  // The template alone writes special tokens: nothing is added around its text, as in transformers'
  // apply_chat_template.
  QD_RETURN_IF_ERROR(EncodePieces(pieces, max_tokens, stop, prompt));
  prompt.rendered = JoinText(pieces);
  return prompt;
}

std::string TextCodec::Decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  StreamDecoder decoder(*tokenizer_, {.skip_special_tokens = skip_special_tokens, .at_text_start = true});
  std::string text;
  for (int32_t id : ids) text += decoder.Append(id);
  return text + decoder.Flush();
}

}  // namespace quantd
