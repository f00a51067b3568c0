#include "runtime/stream_decoder.h"

#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace quantd {
namespace {

// Id i stands for parts[i]; the last id is special.
class FakeTokenizer : public Tokenizer {
 public:
  explicit FakeTokenizer(std::vector<std::string> parts, bool strips = false)
      : parts_(std::move(parts)), strips_(strips) {}
  absl::Status Encode(std::span<const TextPiece>, std::vector<int32_t>&, std::vector<uint32_t>*,
                      const Stop&) const override {
    return absl::UnimplementedError("not used here");
  }
  std::string_view TokenBytes(int32_t id) const override {
    return id < 0 || id >= vocab_size() ? std::string_view() : parts_[id];
  }
  bool StripsLeadingSpace() const override { return strips_; }
  int32_t vocab_size() const override { return static_cast<int32_t>(parts_.size()); }
  bool IsSpecial(int32_t id) const override { return id == vocab_size() - 1; }
  std::span<const int32_t> prefix_ids() const override { return {}; }
  std::span<const int32_t> suffix_ids() const override { return {}; }
  std::optional<int32_t> bos_id() const override { return std::nullopt; }
  std::optional<int32_t> eos_id() const override { return std::nullopt; }

 private:
  std::vector<std::string> parts_;
  bool strips_;
};

std::string AppendAll(StreamDecoder decoder, const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) text += decoder.Append(id);
  return text;
}

std::string DecodeWhole(std::string bytes) {
  std::string text = TakeWholeUtf8(bytes);
  if (!bytes.empty()) text += "\uFFFD";
  return text;
}

// Expected values are those of bytes(...).decode("utf-8", errors="replace") in Python 3.
TEST(StreamDecoder, InvalidBytesAreReplacedAsPythonDoes) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"abc", "abc"},
      {"\xff", "\uFFFD"},
      {"a\x80z", "a\uFFFDz"},
      {"\xc0\xaf", "\uFFFD\uFFFD"},
      {"\xe2\x28", "\uFFFD("},
      {"\xe2\x82(", "\uFFFD("},
      {"\xe2\x82\xac", "\u20AC"},
      {"\xe0\x80\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xf0\x80\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xf0\x9f\x98", "\uFFFD"},
      {"\xf0\x9f\x98\xf0\x9f\x98\x80", "\uFFFD\U0001F600"},
      {"\xf4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xf5\x80", "\uFFFD\uFFFD"},
      {std::string("\0", 1), std::string("\0", 1)},
  };
  for (const auto& [bytes, text] : cases) EXPECT_EQ(DecodeWhole(bytes), text) << testing::PrintToString(bytes);
}

TEST(StreamDecoder, AnySplitOfAnyBytesEqualsTheWhole) {
  std::mt19937 random(7);
  const std::vector<std::string> alphabet = {"a",    " ",    "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
                                             "\xf0", "\x9f", "\xe2",     "\x82",         "\xed\xa0",
                                             "\xff", "\xc0", "\xf4\x90"};
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (int i = random() % 12; i > 0; --i) bytes += alphabet[random() % alphabet.size()];
    std::vector<std::string> parts;
    for (size_t pos = 0; pos < bytes.size();) {
      const size_t size = 1 + random() % 4;
      parts.push_back(bytes.substr(pos, size));
      pos += size;
    }
    const int32_t count = static_cast<int32_t>(parts.size());
    parts.push_back("<special>");
    const FakeTokenizer tokenizer(parts);
    StreamDecoder decoder(tokenizer, {});
    std::string text;
    for (int32_t id = 0; id < count; ++id) {
      const std::string delta = decoder.Append(id);
      std::string copy = delta;
      EXPECT_EQ(TakeWholeUtf8(copy), delta) << "every delta is whole UTF-8";
      text += delta;
    }
    text += decoder.Flush();
    EXPECT_EQ(text, DecodeWhole(bytes));
    EXPECT_EQ(decoder.Flush(), "");
  }
}

TEST(StreamDecoder, SpecialTokensAreSkippedUnlessAskedFor) {
  const FakeTokenizer tokenizer({"hi", "<s>"});
  EXPECT_EQ(AppendAll(StreamDecoder(tokenizer, {}), {1, 0}), "hi");
  EXPECT_EQ(AppendAll(StreamDecoder(tokenizer, {.skip_special_tokens = false}), {1, 0}), "<s>hi");
  EXPECT_EQ(AppendAll(StreamDecoder(tokenizer, {}), {99, -1}), "") << "an id outside the vocabulary is no text";
}

TEST(StreamDecoder, DropsTheLeadingSpaceOnceAtTheStartOfAText) {
  const FakeTokenizer tokenizer({"  a", " b", "<s>"}, /*strips=*/true);
  EXPECT_EQ(AppendAll(StreamDecoder(tokenizer, {.at_text_start = true}), {2, 0, 1}), " a b");
  EXPECT_EQ(AppendAll(StreamDecoder(tokenizer, {}), {0}), "  a");
  EXPECT_EQ(AppendAll(StreamDecoder(tokenizer, {.skip_special_tokens = false, .at_text_start = true}), {2, 1}), "<s> b")
      << "the text starts with the special token";
}

}  // namespace
}  // namespace quantd
