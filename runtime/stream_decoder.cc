#include "runtime/stream_decoder.h"

#include <string_view>

#include "runtime/utf8.h"

namespace quantd {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

std::string TakeWholeUtf8(std::string& bytes) {
  std::string text;
  size_t pos = 0;
  while (pos < bytes.size()) {
    const Utf8Sequence sequence = DecodeUtf8(bytes, pos);
    if (sequence.state == Utf8State::kIncomplete) break;
    if (sequence.state == Utf8State::kValid) {
      text.append(bytes, pos, sequence.size);
    } else {
      text += kReplacement;
    }
    pos += sequence.size;
  }
  bytes.erase(0, pos);
  return text;
}

std::string StreamDecoder::Append(int32_t id) {
  if (options_.skip_special_tokens && tokenizer_.IsSpecial(id)) return "";
  std::string_view bytes = tokenizer_.TokenBytes(id);
  if (bytes.empty()) return "";
  const bool opens_text = !started_ && options_.at_text_start && tokenizer_.StripsLeadingSpace();
  if (opens_text && bytes.front() == ' ') bytes.remove_prefix(1);
  started_ = true;
  pending_ += bytes;
  return TakeWholeUtf8(pending_);
}

std::string StreamDecoder::Flush() {
  std::string text;
  if (!pending_.empty()) text = kReplacement;  // what is held back is one unfinished sequence
  pending_.clear();
  return text;
}

}  // namespace quantd
