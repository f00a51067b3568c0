#include "runtime/decoder_json.h"

#include <optional>
#include <utility>
#include <variant>

#include "base/status_macros.h"
#include "runtime/byte_alphabet.h"
#include "runtime/byte_tokens.h"
#include "runtime/json.h"
#include "runtime/unicode_text.h"

namespace quantd {
namespace {

constexpr size_t kMaxAllTokenBytes = 64 << 20;  // of the decoded vocabulary; 256k published tokens have 2 MB

// What a step does to a token's text. A token that became a byte is left alone by the steps behind.
struct FromAlphabet {};
struct FromByteToken {};
struct StripToken {
  std::string character;
  int64_t start, stop;
};
using TokenStep = std::variant<FromAlphabet, FromByteToken, StripToken, ReplaceStep>;

// Steps work on each token until one makes a whole text of them.
class Reader {
 public:
  absl::Status Read(const JsonStep& step) {
    QD_ASSIGN_OR_RETURN(const std::string type, step.Type());
    if (type == "ByteLevel") {
      alphabet_ = true;
      fused_ = true;
      steps_.push_back(FromAlphabet{});
    } else if (type == "ByteFallback") {
      if (fused_) return step.NotBuilt("ByteFallback after Fuse");
      steps_.push_back(FromByteToken{});
    } else if (type == "Fuse") {
      fused_ = true;
    } else if (type == "Replace") {
      QD_ASSIGN_OR_RETURN(ReplaceStep replace, ReadReplace(step, growth_));
      if (fused_ && !IsOneCharacter(replace.from)) {
        return step.NotBuilt("Replace of more than one character after Fuse");
      }
      steps_.push_back(std::move(replace));
    } else if (type == "Metaspace") {
      return ReadMetaspace(step);
    } else if (type == "Strip") {
      return ReadStrip(step);
    } else {
      return step.NotBuiltType(type);
    }
    return absl::OkStatus();
  }

  std::string Decode(std::string out) const {
    bool is_byte = false;
    for (const TokenStep& step : steps_) {
      if (is_byte) break;
      if (std::holds_alternative<FromAlphabet>(step)) {
        out = DecodeByteAlphabet(out).value_or(out);
      } else if (std::holds_alternative<FromByteToken>(step)) {
        const std::optional<uint8_t> byte = ByteOfToken(out);
        if (byte) out.assign(1, static_cast<char>(*byte));
        is_byte = byte.has_value();
      } else if (const auto* strip = std::get_if<StripToken>(&step)) {
        Strip(*strip, out);
      } else {
        const auto& replace = std::get<ReplaceStep>(step);
        out = ReplaceAll(out, replace.from, replace.to);
      }
    }
    return out;
  }
  bool alphabet() const { return alphabet_; }
  bool strips_leading_space() const { return strips_leading_space_; }

 private:
  absl::Status ReadMetaspace(const JsonStep& step) {
    QD_ASSIGN_OR_RETURN(const std::string replacement, step.Text("replacement"));
    if (replacement.empty()) return step.Corrupt("Metaspace: an empty replacement");
    steps_.push_back(ReplaceStep{replacement, " "});
    QD_ASSIGN_OR_RETURN(const std::string scheme, step.Text("prepend_scheme"));
    QD_ASSIGN_OR_RETURN(const bool add_prefix_space, step.Flag("add_prefix_space", scheme != "never"));
    strips_leading_space_ = add_prefix_space && scheme != "never";
    return absl::OkStatus();
  }

  absl::Status ReadStrip(const JsonStep& step) {
    StripToken strip;
    QD_ASSIGN_OR_RETURN(strip.character, step.Text("content"));
    QD_ASSIGN_OR_RETURN(strip.start, step.Int("start", 0));
    QD_ASSIGN_OR_RETURN(strip.stop, step.Int("stop", 0));
    if (strip.character.empty() || strip.start < 0 || strip.stop < 0) return step.Corrupt("Strip of no character");
    if (!fused_) {
      steps_.push_back(std::move(strip));
      return absl::OkStatus();
    }
    if (strip.character != " " || strip.start > 1 || strip.stop != 0) {
      return step.NotBuilt("Strip of other than one leading space after Fuse");
    }
    strips_leading_space_ = strip.start == 1;
    return absl::OkStatus();
  }

  static void Strip(const StripToken& strip, std::string& text) {
    std::string_view left = text;
    for (int64_t i = 0; i < strip.start && left.starts_with(strip.character); ++i) {
      left.remove_prefix(strip.character.size());
    }
    for (int64_t i = 0; i < strip.stop && left.ends_with(strip.character); ++i) {
      left.remove_suffix(strip.character.size());
    }
    text = std::string(left);
  }

  Growth growth_;
  std::vector<TokenStep> steps_;
  bool alphabet_ = false, fused_ = false, strips_leading_space_ = false;
};

}  // namespace

absl::StatusOr<DecodedVocab> ReadDecoder(const std::vector<JsonStep>& steps, bool byte_level,
                                         std::vector<std::string> texts, const std::vector<AddedToken>& added,
                                         std::string_view place) {
  Reader reader;
  for (const JsonStep& step : steps) QD_RETURN_IF_ERROR(reader.Read(step));
  const JsonStep whole{nullptr, std::string(place)};
  if (steps.empty() && !byte_level) return whole.NotBuilt("null");
  if (!steps.empty() && reader.alphabet() != byte_level) {
    return whole.NotBuilt("another byte alphabet than the pre_tokenizer's");
  }
  std::vector<bool> is_added(texts.size());
  for (const AddedToken& token : added) is_added[token.id] = true;
  DecodedVocab vocab;
  vocab.strips_leading_space = reader.strips_leading_space();
  size_t total = 0;
  for (size_t id = 0; id < texts.size(); ++id) {
    std::string bytes = is_added[id]    ? texts[id]
                        : steps.empty() ? DecodeByteAlphabet(texts[id]).value_or(texts[id])
                                        : reader.Decode(texts[id]);
    total += bytes.size();
    if (total > kMaxAllTokenBytes) {
      return whole.Corrupt("the tokens stand for more than ", kMaxAllTokenBytes, " bytes");
    }
    vocab.token_bytes.push_back(std::move(bytes));
  }
  return vocab;
}

}  // namespace quantd
