#include "server/tokenize.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "server/answer_size.h"
#include "server/convert.h"

namespace quantd {
namespace {

absl::Status Invalid(const char* field, const std::string& why) {
  return WithField(absl::InvalidArgumentError(absl::StrCat(field, ": ", why)), field);
}

absl::StatusOr<EncodedPrompt> EncodeText(const TextCodec& codec, const v1::TokenizeRequest& request, const Stop& stop) {
  TextCodec::TextOptions options;
  options.stop = stop;
  options.parse_special = request.parse_special();
  if (request.has_add_special_tokens()) options.add_special_tokens = request.add_special_tokens();
  absl::StatusOr<EncodedPrompt> encoded = codec.EncodeText(request.text(), options);
  if (!encoded.ok()) return AtInput(encoded.status(), "text");
  return encoded;
}

absl::StatusOr<EncodedPrompt> EncodeChat(const TextCodec& codec, const v1::Chat& chat, const Stop& stop) {
  QD_ASSIGN_OR_RETURN(ChatTemplateInput input, ParseChat(chat, "chat"));
  input.stop = stop;
  absl::StatusOr<EncodedPrompt> encoded = codec.EncodeChat(std::move(input));
  if (!encoded.ok()) return AtInput(encoded.status(), "chat");
  return encoded;
}

}  // namespace

absl::Status Tokenize(const LlmHandle& model, const v1::TokenizeRequest& request, v1::TokenizeResponse& response,
                      const Stop& stop) {
  if (!request.has_text() && !request.has_chat()) return Invalid("input", "is missing: give text or chat");
  if (request.has_chat()) {
    if (request.has_parse_special()) return Invalid("parse_special", "is for text input alone");
    if (request.has_add_special_tokens()) return Invalid("add_special_tokens", "is for text input alone");
  }
  const char* field = request.has_chat() ? "chat" : "text";
  const size_t bytes = request.has_chat() ? request.chat().ByteSizeLong() : request.text().size();
  if (bytes > kMaxTokenizeBytes) {
    return Invalid(field, absl::StrCat("has ", bytes, " bytes, expected at most ", kMaxTokenizeBytes));
  }
  QD_ASSIGN_OR_RETURN(EncodedPrompt encoded, request.has_chat() ? EncodeChat(model.codec(), request.chat(), stop)
                                                                : EncodeText(model.codec(), request, stop));
  response.mutable_ids()->Add(encoded.ids.begin(), encoded.ids.end());
  if (!request.has_byte_offsets() || request.byte_offsets()) {
    response.mutable_byte_offsets()->Add(encoded.byte_offsets.begin(), encoded.byte_offsets.end());
  }
  if (!request.has_rendered() || request.rendered()) response.set_rendered(std::move(encoded.rendered));
  response.set_max_context(static_cast<uint32_t>(model.limits().max_sequence_tokens()));
  return CheckAnswerSize(response, "byte_offsets: false and rendered: false leave those out");
}

absl::Status Detokenize(const LlmHandle& model, const v1::DetokenizeRequest& request,
                        v1::DetokenizeResponse& response) {
  if (request.ids_size() > kMaxDetokenizeIds) {
    return Invalid("ids", absl::StrCat("has ", request.ids_size(), ", expected at most ", kMaxDetokenizeIds));
  }
  // Whichever is larger: either has ids that the other lacks.
  const int64_t known = std::max<int64_t>(model.limits().vocab_size, model.codec().tokenizer().vocab_size());
  QD_ASSIGN_OR_RETURN(std::vector<int32_t> ids, ParseTokenIds(request.ids(), known, "ids"));
  response.set_text(model.codec().Decode(ids, /*skip_special_tokens=*/false));
  return CheckAnswerSize(response, "send fewer ids at a time");
}

}  // namespace quantd
