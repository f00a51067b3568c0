// The tokenizer against goldens of Hugging Face `tokenizers` (tools/oracle/make_tokenizer_goldens.py), and against bad
// files.
#include "runtime/tokenizer.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include <absl/strings/escaping.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/json.h"
#include "runtime/split_pattern.h"
#include "runtime/stream_decoder.h"
#include "runtime/utf8.h"
#include "tests/testing/sentencepiece_writer.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using testing::FileExists;
using ::testing::HasSubstr;
using testing::SharedPath;
using testing::SourcePath;

Json ReadJson(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream out;
  out << file.rdbuf();
  return Json::parse(out.str());
}

std::vector<int32_t> Encode(const Tokenizer& tokenizer, const TextPieces& pieces) {
  std::vector<int32_t> ids;
  std::vector<uint32_t> offsets;
  const absl::Status status = tokenizer.Encode(pieces, ids, &offsets);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(ids.size(), offsets.size());
  const size_t size = JoinText(pieces).size();
  for (size_t i = 0; i < offsets.size(); ++i) {
    EXPECT_LT(offsets[i], size);
    EXPECT_GE(offsets[i], offsets[i == 0 ? 0 : i - 1]);
  }
  return ids;
}

std::string Decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  StreamDecoder decoder(tokenizer, {.skip_special_tokens = false, .at_text_start = true});
  std::string text;
  for (const int32_t id : ids) text += decoder.Append(id);
  return text + decoder.Flush();
}

void CheckGolden(const std::string& name) {
  if (!FileExists(SharedPath("data/tokenizers/" + name)))
    GTEST_SKIP() << "data: the tokenizer of " << name << " is absent";
  const auto tokenizer = LoadTokenizer(SharedPath("data/tokenizers/" + name));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const Json golden = ReadJson(SourcePath("tests/goldens/tokenizer/" + name + ".json"));
  ASSERT_EQ(golden["texts"].size(), 400u);
  for (const Json& one : golden["texts"]) {
    EXPECT_EQ(Encode(**tokenizer, {{one["text"], false}}), one["ids"].get<std::vector<int32_t>>()) << one["text"];
  }
  ASSERT_FALSE(golden["prompts"].empty());
  for (const Json& prompt : golden["prompts"]) {
    TextPieces pieces;
    for (const Json& piece : prompt["pieces"]) pieces.push_back({piece["text"], piece["parse_special"]});
    EXPECT_EQ(Encode(**tokenizer, pieces), prompt["ids"].get<std::vector<int32_t>>()) << prompt["pieces"];
  }
}

// Random text of every script; prompts whose messages hold the text of special tokens.
TEST(Tokenizer, Llama3EqualsTheOracle) { CheckGolden("llama3"); }
TEST(Tokenizer, Llama2EqualsTheOracle) { CheckGolden("llama2"); }

// The borders that transformers' sanitize_control_tokens puts around a special token of a message.
TEST(Tokenizer, MarksOfAMessageAreTextWithBordersAndARoleMayCompleteOne) {
  std::map<std::string, std::unique_ptr<Tokenizer>> tokenizers;
  int compared = 0;
  for (const Json& prompt : ReadJson(SourcePath("tests/goldens/tokenizer/marks.json"))) {
    const std::string name = prompt["tokenizer"];
    if (!FileExists(SharedPath("data/tokenizers/" + name + "/tokenizer.json"))) {
      GTEST_SKIP() << "data: the tokenizer of " << name << " is absent";
    }
    if (tokenizers[name] == nullptr) tokenizers[name] = *LoadTokenizer(SharedPath("data/tokenizers/" + name));
    TextPieces pieces;
    for (const Json& piece : prompt["pieces"]) {
      pieces.push_back({piece[1], piece[0] != "D", piece[0] == "R", piece[0] == "D"});
    }
    EXPECT_EQ(Encode(*tokenizers[name], pieces), prompt["ids"].get<std::vector<int32_t>>()) << prompt["pieces"];
    ++compared;
  }
  EXPECT_GT(compared, 180);
}

TEST(Tokenizer, EveryOptionOfTokenizerJsonEqualsTheOracle) {
  const Json golden = ReadJson(SourcePath("tests/goldens/tokenizer/small.json"));
  ASSERT_GT(golden.size(), 30u);
  for (const Json& one : golden) {
    const auto tokenizer = ParseTokenizerJson(one["tokenizer"].dump(), {});
    ASSERT_TRUE(tokenizer.ok()) << one["name"] << ": " << tokenizer.status();
    for (const Json& c : one["cases"]) {
      const auto ids = c["ids"].get<std::vector<int32_t>>();
      EXPECT_EQ(Encode(**tokenizer, {{c["text"], true}}), ids) << one["name"] << ": " << c["text"];
      EXPECT_EQ(Decode(**tokenizer, ids), c["decoded"].get<std::string>()) << one["name"] << ": " << c["text"];
    }
  }
}

// A byte-level vocabulary of all bytes, one merge and a special token.
Json SmallJson() {
  Json vocab;
  for (int byte = 0x21; byte <= 0x7E; ++byte) vocab[std::string(1, static_cast<char>(byte))] = byte - 0x21;
  vocab["ab"] = 94;
  vocab["\u0120"] = 95;
  Json json;
  json["model"] = {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"a b"}}};
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  json["added_tokens"] = {{{"id", 96}, {"content", "<s>"}, {"special", true}}};
  return json;
}

// As Hugging Face `tokenizers` does; a warning names the bytes.
TEST(Tokenizer, TextThatAByteLevelVocabularyLacksBecomesUnkOrIsDropped) {
  Json json = SmallJson();
  EXPECT_EQ(Encode(**ParseTokenizerJson(json.dump(), {}), {{"a\u00e9b", false}}), std::vector<int32_t>{94});
  json["model"]["unk_token"] = "!";
  EXPECT_EQ(Encode(**ParseTokenizerJson(json.dump(), {}), {{"a\u00e9b", false}}),
            (std::vector<int32_t>{'a' - 0x21, 0, 0, 'b' - 0x21}));
}

GgufVocab SmallGguf() {
  GgufVocab vocab;
  vocab.model = "gpt2";
  vocab.pre = "smollm";
  vocab.tokens = {"<s>", "a", "b", "ab", "1", "2", "12", "<u>"};
  vocab.token_types = {3, 1, 1, 1, 1, 1, 1, 4};
  vocab.merges = {"a b", "1 2"};
  vocab.bos_id = 0;
  vocab.add_bos = true;
  return vocab;
}

// Every step of every section, over texts of every script; the model's ids show where pieces end.
TEST(Tokenizer, EverySectionOfTokenizerJsonEqualsTheOracle) {
  const Json golden = ReadJson(SourcePath("tests/goldens/tokenizer/features.json"));
  ASSERT_EQ(golden["tokenizers"].size(), 97u);
  for (const Json& one : golden["tokenizers"]) {
    Json json = golden["base"];
    json.update(one["sections"]);
    const auto tokenizer = ParseTokenizerJson(json.dump(), {});
    ASSERT_TRUE(tokenizer.ok()) << one["name"] << ": " << tokenizer.status();
    for (size_t i = 0; i < golden["texts"].size(); ++i) {
      const std::string text = golden["texts"][i];
      std::vector<int32_t> ids((*tokenizer)->prefix_ids().begin(), (*tokenizer)->prefix_ids().end());
      const std::vector<int32_t> own = Encode(**tokenizer, {{text, true}});
      ids.insert(ids.end(), own.begin(), own.end());
      ids.insert(ids.end(), (*tokenizer)->suffix_ids().begin(), (*tokenizer)->suffix_ids().end());
      EXPECT_EQ(ids, one["ids"][i].get<std::vector<int32_t>>()) << one["name"] << ": " << golden["texts"][i];
    }
  }
}

// Models of SentencePiece with every setting of its normalizer, against SentencePiece.
TEST(Tokenizer, SentencePieceModelsEqualSentencePiece) {
  const Json golden = ReadJson(SourcePath("tests/goldens/tokenizer/sentencepiece.json"));
  ASSERT_EQ(golden.size(), 6u);
  for (const Json& one : golden) {
    std::string model;
    ASSERT_TRUE(absl::Base64Unescape(one["model"].get<std::string>(), &model));
    const auto tokenizer = ParseSentencePieceModel(model, {});
    ASSERT_TRUE(tokenizer.ok()) << one["name"] << ": " << tokenizer.status();
    for (const Json& c : one["cases"]) {
      EXPECT_EQ(Encode(**tokenizer, {{c["text"], false}}), c["ids"].get<std::vector<int32_t>>())
          << one["name"] << ": " << c["text"];
    }
  }
}

TEST(Tokenizer, SpecialTokensAreFoundWithinOneTrustedStretchOnly) {
  const auto tokenizer = *ParseTokenizerJson(SmallJson().dump(), {});
  EXPECT_EQ(Encode(*tokenizer, {{"<s>", true}}), std::vector<int32_t>{96});
  EXPECT_EQ(Encode(*tokenizer, {{"<", true}, {"", false}, {"s", true}, {">", true}}), std::vector<int32_t>{96});
  EXPECT_EQ(Encode(*tokenizer, {{"<s>", false}}).size(), 3u);
  EXPECT_EQ(Encode(*tokenizer, {{"<s", true}, {">", false}}).size(), 3u);
  EXPECT_EQ(Encode(*tokenizer, {{"<", false}, {"s>", true}}).size(), 3u);
  EXPECT_EQ(Encode(*tokenizer, {{"a", true}, {"b", false}}), std::vector<int32_t>{94})
      << "merges cross the borders of pieces";
}

TEST(Tokenizer, ANameMayCompleteASpecialTokenAndIsNoneByItself) {
  const auto tokenizer = *ParseTokenizerJson(SmallJson().dump(), {});
  const auto name = [](const char* text) { return TextPiece{text, true, true}; };
  EXPECT_EQ(Encode(*tokenizer, {{"<", true}, name("s"), {">", true}}), std::vector<int32_t>{96});
  EXPECT_EQ(Encode(*tokenizer, {{"<", true}, name("s>")}), std::vector<int32_t>{96});
  EXPECT_EQ(Encode(*tokenizer, {name("<s>")}).size(), 3u);
  EXPECT_EQ(Encode(*tokenizer, {name("<s"), name(">")}).size(), 3u);
  EXPECT_EQ(Encode(*tokenizer, {{"<", false}, name("s"), {">", true}}).size(), 3u);
}

TEST(Tokenizer, ASpecialTokenOfAMessageHasBordersThatNoMergeCrosses) {
  Json json = SmallJson();
  json["added_tokens"] = {{{"id", 97}, {"content", "bb"}, {"special", true}, {"lstrip", true}, {"rstrip", true}}};
  const auto tokenizer = *ParseTokenizerJson(json.dump(), {});
  const int32_t a = 'a' - 0x21, b = 'b' - 0x21;
  EXPECT_EQ(Encode(*tokenizer, {{"abb", false}}), (std::vector<int32_t>{94, b}));
  EXPECT_EQ(Encode(*tokenizer, {{"abb", false, false, true}}), (std::vector<int32_t>{a, b, b}));
  EXPECT_EQ(Encode(*tokenizer, {{"a bb a", false, false, true}}), (std::vector<int32_t>{a, 95, b, b, 95, a}));
  EXPECT_EQ(Encode(*tokenizer, {{"a", false, false, true}, {"bb", true}}), (std::vector<int32_t>{a, 97}));
}

// Upstream finds them there (goldens of "in_stripped_space"); in a message they are data, and the mark has them.
TEST(Tokenizer, ATokenInWhiteSpaceThatAnotherStrippedIsStillFound) {
  Json json = SmallJson();
  json["added_tokens"] = {{{"id", 96}, {"content", "<s>"}, {"special", true}, {"rstrip", true}},
                          {{"id", 97}, {"content", "\n"}, {"special", true}, {"rstrip", true}}};
  const auto tokenizer = *ParseTokenizerJson(json.dump(), {});
  const int32_t a = 'a' - 0x21;
  EXPECT_EQ(Encode(*tokenizer, {{"<s>\n\na", true}}), (std::vector<int32_t>{96, 97, 97, a}));
  EXPECT_EQ(Encode(*tokenizer, {{"<s>", true}, {"\n\na", false, false, true}}), (std::vector<int32_t>{96, a}));
  EXPECT_EQ(Encode(*tokenizer, {{"<s> ", true}, {" a", false}}), (std::vector<int32_t>{96, a}));
  const size_t many = 1 << 18;  // what one token went through is not gone through again by the next
  EXPECT_EQ(Encode(*tokenizer, {{std::string(many, '\n'), true}}).size(), many);
}

// As SentencePiece itself (normalizer.cc): what a text ends with goes, whoever made it visible.
TEST(Tokenizer, ExtraSpacesAtTheEndOfATextAreAlsoVisibleOnes) {
  for (const Json& one : ReadJson(SourcePath("tests/goldens/tokenizer/sentencepiece.json"))) {
    if (one["name"] != "spaces") continue;
    std::string model;
    ASSERT_TRUE(absl::Base64Unescape(one["model"].get<std::string>(), &model));
    const auto tokenizer = *ParseSentencePieceModel(model, {});
    const std::vector<int32_t> plain = Encode(*tokenizer, {{"ab", false}});
    for (const char* text : {"ab\u2581", "ab \u2581 ", "ab\u2581\u2581  "}) {
      EXPECT_EQ(Encode(*tokenizer, {{text, false}}), plain) << text;
    }
    EXPECT_TRUE(Encode(*tokenizer, {{"\u2581 ", false}}).empty());
    EXPECT_GT(Encode(*tokenizer, {{"\u2581ab", false}}).size(), plain.size()) << "but not at the start";
    return;
  }
  FAIL() << "no such golden";
}

TEST(Tokenizer, ASpecialTokenIsNoMergeAndNoWholePieceOfUntrustedText) {
  Json json = SmallJson();
  json["model"]["ignore_merges"] = true;
  json["added_tokens"] = {{{"id", 94}, {"content", "ab"}, {"special", true}}};
  const auto tokenizer = *ParseTokenizerJson(json.dump(), {});
  EXPECT_EQ(Encode(*tokenizer, {{"ab", true}}), std::vector<int32_t>{94});
  EXPECT_EQ(Encode(*tokenizer, {{"ab", false}}), (std::vector<int32_t>{'a' - 0x21, 'b' - 0x21}));
}

// As a pad_token '!' makes it: without the token the character would vanish from every text.
TEST(Tokenizer, ASpecialTokenOfOneCharacterIsStillThatCharacterOfAText) {
  Json json = SmallJson();
  const int32_t b = 'b' - 0x21;
  json["added_tokens"] = {{{"id", b}, {"content", "b"}, {"special", true}}};
  const auto tokenizer = *ParseTokenizerJson(json.dump(), {});
  EXPECT_EQ(Encode(*tokenizer, {{"cb", false}}), (std::vector<int32_t>{'c' - 0x21, b}));
  EXPECT_EQ(Encode(*tokenizer, {{"cb", true}}), (std::vector<int32_t>{'c' - 0x21, b}));
}

// A word of the vocabulary that a careless fine-tune named. What transformers 5.24 gives for "ab" and "cab" is the
// same, with split_special_tokens and without.
TEST(Tokenizer, APadOrUnknownTokenThatIsAWordIsStillThatWordOfAText) {
  constexpr int32_t ab = 94;
  for (const char* key : {"pad_token", "unk_token"}) {
    const std::string config = std::string("{\"") + key + "\": \"ab\"}";
    const auto tokenizer = *ParseTokenizerJson(SmallJson().dump(), {.config = config});
    EXPECT_EQ(Encode(*tokenizer, {{"cab", false}}), (std::vector<int32_t>{'c' - 0x21, ab})) << key;
    EXPECT_EQ(Encode(*tokenizer, {{"cab", true}}), (std::vector<int32_t>{'c' - 0x21, ab})) << key;
    EXPECT_TRUE(tokenizer->IsSpecial(ab)) << "skipped in output, as in transformers";
  }
}

// A mark is one whatever else it is: no text of a user becomes it, and the log says which one costs its word.
TEST(Tokenizer, AMarkThatIsAWordIsNoTokenOfAText) {
  for (const char* config : {R"({"eos_token": "ab"})", R"({"additional_special_tokens": ["ab"]})",
                             R"({"pad_token": "ab", "eos_token": "ab"})"}) {
    ::testing::internal::CaptureStderr();
    const auto tokenizer = *ParseTokenizerJson(SmallJson().dump(), {.config = config});
    EXPECT_EQ(Encode(*tokenizer, {{"cab", false}}), (std::vector<int32_t>{'c' - 0x21, 'a' - 0x21, 'b' - 0x21}));
    EXPECT_EQ(Encode(*tokenizer, {{"ab", true}}), std::vector<int32_t>{94});
    EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("special tokens 'ab' too: here none becomes"));
  }
}

TEST(Tokenizer, OffsetsAreThoseOfTheFirstByte) {
  const auto tokenizer = *ParseTokenizerJson(SmallJson().dump(), {});
  std::vector<int32_t> ids = {7};
  std::vector<uint32_t> offsets;
  ASSERT_TRUE(tokenizer->Encode(TextPieces{{"c ab", false}, {"<s>d", true}}, ids, &offsets).ok());
  EXPECT_EQ(ids, (std::vector<int32_t>{7, 'c' - 0x21, 95, 94, 96, 'd' - 0x21}));
  EXPECT_EQ(offsets, (std::vector<uint32_t>{0, 1, 2, 4, 7}));
}

TEST(Tokenizer, OffsetsAreThoseOfTheTextBeforeItWasNormalized) {
  Json json = SmallJson();
  json["normalizer"] = {{"type", "Sequence"},
                        {"normalizers",
                         {{{"type", "NFKC"}},
                          {{"type", "Lowercase"}},
                          {{"type", "Replace"}, {"pattern", {{"Regex", "x+"}}}, {"content", "yz"}},
                          {{"type", "Strip"}}}}};
  json["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers",
                            {{{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", false}},
                             {{"type", "Split"}, {"pattern", {{"Regex", "y"}}}, {"behavior", "Isolated"}}}}};
  const auto tokenizer = *ParseTokenizerJson(json.dump(), {});
  std::vector<int32_t> ids;
  std::vector<uint32_t> offsets;
  const std::string text = " \uff21Bxxc";  // a full-width A has three bytes
  ASSERT_TRUE(tokenizer->Encode(TextPieces{{text, false}}, ids, &offsets).ok());
  EXPECT_EQ(ids, (std::vector<int32_t>{95, 94, 'y' - 0x21, 'z' - 0x21, 'c' - 0x21}));
  EXPECT_EQ(offsets, (std::vector<uint32_t>{1, 1, 5, 5, 7}));
}

TEST(Tokenizer, ATextThatItsNormalizerGrowsTooMuchIsResourceExhausted) {
  Json json = SmallJson();
  json["normalizer"] = {{"type", "Replace"}, {"pattern", {{"Regex", "a"}}}, {"content", std::string(100, 'b')}};
  const auto tokenizer = *ParseTokenizerJson(json.dump(), {});
  std::vector<int32_t> ids;
  EXPECT_TRUE(tokenizer->Encode(TextPieces{{"a a a", false}}, ids).ok());
  const absl::Status status = tokenizer->Encode(TextPieces{{std::string(1000, 'a'), false}}, ids);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("more than 17024 bytes of a text, 16 times its own"));
}

TEST(Tokenizer, TextThatIsNoUtf8IsInvalidArgumentWithTheByte) {
  const auto tokenizer = *ParseTokenizerJson(SmallJson().dump(), {});
  std::vector<int32_t> ids = {7};
  const absl::Status status = tokenizer->Encode(TextPieces{{"ab", false}, {"c\xff", false}}, ids);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "text is no UTF-8 at byte 3");
  EXPECT_EQ(ids, std::vector<int32_t>{7}) << "nothing is appended";
}

TEST(Tokenizer, APatternWithoutBoundIsResourceExhausted) {
  Json json = SmallJson();
  json["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers",
                            {{{"type", "Split"}, {"pattern", {{"Regex", "(a+)+$"}}}, {"behavior", "Isolated"}},
                             {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  const auto tokenizer = ParseTokenizerJson(json.dump(), {});
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::vector<int32_t> ids;
  EXPECT_EQ((*tokenizer)->Encode(TextPieces{{std::string(64, 'a') + "b", false}}, ids).code(),
            absl::StatusCode::kResourceExhausted);
}

absl::Status SplitBy(const std::string& regex, const std::string& text, std::vector<ByteRange>& pieces) {
  const auto pattern = SplitPattern::Compile({{regex}});
  EXPECT_TRUE(pattern.ok()) << pattern.status();
  return pattern->Split(text, pieces);
}

// The bound is one of the text: each match of these alone takes few steps, or none that PCRE2 counts.
TEST(Tokenizer, APatternWhoseMatchesAddUpIsResourceExhausted) {
  std::string groups;
  for (int i = 0; i < 1000; ++i) groups += std::string(20, 'x') + "z";
  const std::string run(1 << 20, 'x');
  std::vector<ByteRange> pieces;
  for (const auto& [regex, text] : std::vector<std::pair<std::string, std::string>>{{"(x+x+)+y|.", groups},
                                                                                    {"(?:(?=x*+)x)+y|.", run},
                                                                                    {"(?:x?){30}y|.", run},
                                                                                    {"(?:(?:x*)*)*y|.", run},
                                                                                    {"(?<=x)(?=x*$)y|.", run},
                                                                                    {"(x+x+)+y|.", run},
                                                                                    {".*?y|.", run},
                                                                                    {"x*y|.", run},
                                                                                    {"x*+y|.", run},
                                                                                    {"x*+[yz]", run},
                                                                                    {"(?=x*+y)x|.", run}}) {
    const absl::Status status = SplitBy(regex, text, pieces);
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << regex;
    EXPECT_THAT(std::string(status.message()), HasSubstr("takes more steps than a text of this length has")) << regex;
  }
}

// What a matcher would do without counting, or what means another thing in Oniguruma, is refused where the pattern is
// read.
TEST(Tokenizer, APatternThatCannotBeBoundedIsRefusedWithItsPlace) {
  for (const auto& [regex, message] :
       std::vector<std::pair<const char*, const char*>>{{"(*SKIP)a", "'(*SKIP)a' at byte 0: a verb"},
                                                        {"a(*COMMIT)", "'(*COMMIT)' at byte 1: a verb"},
                                                        {"(*LIMIT_MATCH=9999999)a", "a verb"},
                                                        {"(*NO_JIT)a", "a verb"},
                                                        {"a(?C1)", "at byte 1: this kind of group"},
                                                        {"(a)(?R)", "'(?R)' at byte 3: this kind of group"},
                                                        {"(a)(?1)", "this kind of group"},
                                                        {"(?<n>a)(?&n)", "this kind of group"},
                                                        {"(?<n>a)(?P>n)", "this kind of group"},
                                                        {"(?<n>a)\\g<n>", "this escape"},
                                                        {"(a)\\1", "'\\1' at byte 3: a reference back"},
                                                        {"(?<n>a)\\k<n>", "this escape"},
                                                        {"a\\Kb", "'\\Kb' at byte 1: this escape"},
                                                        {"\\Ga", "this escape"},
                                                        {"(?~a)", "this kind of group"},
                                                        {"(?(1)a|b)", "this kind of group"},
                                                        {"a(?i)b", "flags within a group"},
                                                        {"[a&&b]", "an intersection of classes"},
                                                        {"[a[b]]", "a class within a class"},
                                                        {"[\\W]", "a complement within a class"},
                                                        {"[a", "a class without end"},
                                                        {"(a", "parenthesis"},
                                                        {"a)", "parenthesis"},
                                                        {"a{70000}", "too big"},
                                                        {"((a{1000}){1000}){1000}", "too large"},
                                                        {"(?<=a+)b", "lookbehind"},
                                                        {"\\xe9", "this escape"},
                                                        {"\\p{Nope}", "unknown"},
                                                        {"\\", "a backslash at the end"},
                                                        {"a\xff", "\\xff"}}) {
    const absl::Status status = SplitPattern::Compile({{"b"}, {regex}}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << regex;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << regex;
    EXPECT_FALSE(FindInvalidUtf8(std::string(status.message()))) << regex;
  }
}

// A published pattern goes back over a run of spaces for each of its alternatives, and is done.
TEST(Tokenizer, LongRunsOfSpacesAreWithinTheBound) {
  const char* llama3 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  std::string lines;
  for (int i = 0; i < 10000; ++i) lines += std::string(70, ' ') + "!" + std::string(70, ' ') + "\n";
  for (const std::string& text : {std::string(1 << 20, ' '), std::string(1 << 20, ' ') + "x", lines}) {
    std::vector<ByteRange> pieces;
    EXPECT_TRUE(SplitBy(std::string(Gpt2Pattern()), text, pieces).ok());
    EXPECT_TRUE(SplitBy(llama3, text, pieces).ok());
  }
}

// Text is looked at through windows; where they end must not show.
TEST(Tokenizer, AMatchOfAnyLengthAtAnyPlaceIsFound) {
  for (size_t before : {0, 1, 62, 63, 64, 65, 127, 128, 255, 256, 1000}) {
    for (size_t size : {1, 2, 63, 64, 65, 255, 256, 257, 5000}) {
      std::string text;
      for (size_t i = 0; i < before; ++i) text += "\u00e9";
      const auto begin = static_cast<uint32_t>(text.size());
      text += std::string(size, '7');
      const auto end = static_cast<uint32_t>(text.size());
      for (const char* after : {"", "\u00e9", "\u00e9 \u00e9"}) {
        std::vector<ByteRange> pieces;
        const absl::Status status = SplitBy("(?<!7)\\p{N}+(?!\\p{N})", text + after, pieces);
        ASSERT_TRUE(status.ok()) << status;
        const size_t index = before > 0 ? 1 : 0;
        ASSERT_EQ(pieces.size(), index + 1 + (*after ? 1 : 0)) << before << " " << size;
        EXPECT_EQ(pieces[index].begin, begin);
        EXPECT_EQ(pieces[index].end, end);
      }
    }
  }
}

// A loop over pairs of characters would take 10^12 steps, far beyond the time limit that the test runs under.
TEST(Tokenizer, AMegabyteWithoutASpaceEncodesAndReturns) {
  if (!FileExists(SharedPath("data/tokenizers"))) GTEST_SKIP() << "data: the tokenizers are absent";
  std::string text;
  for (uint32_t x = 1; text.size() < (1 << 20); x = x * 1664525 + 1013904223) {
    text += static_cast<char>('a' + (x >> 24) % 26);
  }
  for (const char* name : {"llama2", "llama3"}) {
    const auto tokenizer = LoadTokenizer(SharedPath(std::string("data/tokenizers/") + name));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    std::vector<int32_t> ids;
    ASSERT_TRUE((*tokenizer)->Encode(TextPieces{{text, false}}, ids).ok()) << name;
    std::string back;
    for (int32_t id : ids) back += (*tokenizer)->TokenBytes(id);
    if ((*tokenizer)->StripsLeadingSpace()) back.erase(0, 1);
    EXPECT_EQ(back, text) << name;
    EXPECT_LT(ids.size(), text.size()) << name << ": pieces merge";
  }
}

struct BadFile {
  const char* what;
  std::function<void(Json&)> spoil;
  absl::StatusCode code;
  const char* message;
};

Json Replace(const std::string& from, const std::string& to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}
Json Chain(const char* list_key, const Json& step, size_t count) {
  return {{"type", "Sequence"}, {list_key, std::vector<Json>(count, step)}};
}

TEST(Tokenizer, BadTokenizerJsonGivesItsDocumentedError) {
  constexpr auto kDataLoss = absl::StatusCode::kDataLoss;
  constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
  const std::vector<BadFile> files = {
      {"negative id", [](Json& j) { j["model"]["vocab"]["x1"] = -1; }, kDataLoss, "model.vocab: token 'x1' with id -1"},
      {"huge id", [](Json& j) { j["model"]["vocab"]["x1"] = 2147483648; }, kDataLoss, "with id 2147483648"},
      {"float id", [](Json& j) { j["model"]["vocab"]["x1"] = 1.5; }, kDataLoss, "'x1' has the id 1.5"},
      {"duplicate id", [](Json& j) { j["model"]["vocab"]["x1"] = 3; }, kDataLoss, "the id is that of"},
      {"long token", [](Json& j) { j["model"]["vocab"][std::string(5000, 'x')] = 200; }, kDataLoss, "5000 bytes"},
      {"no vocab", [](Json& j) { j["model"].erase("vocab"); }, kDataLoss, "model.vocab"},
      {"no model", [](Json& j) { j.erase("model"); }, kDataLoss, "model: missing"},
      {"no object", [](Json& j) { j = Json::array(); }, kDataLoss, "model: missing"},
      {"other model", [](Json& j) { j["model"]["type"] = "WordPiece"; }, kUnimplemented, "WordPiece"},
      {"dropout", [](Json& j) { j["model"]["dropout"] = 0.1; }, kUnimplemented, "dropout"},
      {"suffix", [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, kUnimplemented, "end_of_word_suffix"},
      {"unknown unk", [](Json& j) { j["model"]["unk_token"] = "<unk>"; }, kDataLoss, "unk_token"},
      {"no merges", [](Json& j) { j["model"]["merges"] = 3; }, kDataLoss, "model.merges"},
      {"merge of one", [](Json& j) { j["model"]["merges"] = {"ab"}; }, kDataLoss, "model.merges[0]"},
      {"merge of three", [](Json& j) { j["model"]["merges"] = {"a b c"}; }, kDataLoss, "model.merges[0]"},
      {"merge of unknown",
       [](Json& j) {
         j["model"]["merges"] = {"a b", "b zz"};
       },
       kDataLoss, "model.merges[1]"},
      {"merge to unknown",
       [](Json& j) {
         j["model"]["merges"] = Json::array({Json::array({"b", "a"})});
       },
       kDataLoss, "what they make is no token"},
      {"merge of numbers",
       [](Json& j) {
         j["model"]["merges"] = {{1, 2}};
       },
       kDataLoss, "model.merges[0]"},
      {"huge added", [](Json& j) { j["added_tokens"][0]["id"] = 1 << 30; }, kDataLoss,
       "added_tokens[0]: id 1073741824"},
      {"added without id", [](Json& j) { j["added_tokens"][0].erase("id"); }, kDataLoss, "added_tokens[0]: id -1"},
      {"added another's id", [](Json& j) { j["added_tokens"][0]["id"] = 5; }, kDataLoss, "the id is that of"},
      {"added with flags of another kind", [](Json& j) { j["added_tokens"][0]["lstrip"] = 1; }, kDataLoss,
       "lstrip is 1"},
      {"normalizer",
       [](Json& j) {
         j["normalizer"] = {{"type", "BertNormalizer"}};
       },
       kUnimplemented, "normalizer: 'BertNormalizer' is not supported"},
      {"nested normalizer",
       [](Json& j) {
         j["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "Sequence"}}}}};
       },
       kDataLoss, "normalizer.normalizers[0]: no list 'normalizers'"},
      {"nested deeper",
       [](Json& j) {
         Json step = {{"type", "NFC"}};
         for (int i = 0; i < 20; ++i) step = {{"type", "Sequence"}, {"normalizers", Json::array({step})}};
         j["normalizer"] = step;
       },
       kDataLoss, "a Sequence nested deeper than 8 levels"},
      {"nested wide",
       [](Json& j) {
         const Json inner = {{"type", "Sequence"}, {"normalizers", std::vector<Json>(30, {{"type", "NFC"}})}};
         j["normalizer"] = {{"type", "Sequence"}, {"normalizers", {inner, inner}}};
       },
       kDataLoss, "normalizer.normalizers[1].normalizers[2]: more than 32 steps"},
      {"charsmap that is no base64",
       [](Json& j) {
         j["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "%"}};
       },
       kDataLoss, "precompiled_charsmap is no base64"},
      {"charsmap without a trie",
       [](Json& j) {
         j["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA"}};
       },
       kDataLoss, "normalizer: precompiled character map: 3 bytes"},
      {"charsmap whose trie is longer than it",
       [](Json& j) {
         j["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "BAAAAA=="}};
       },
       kDataLoss, "a trie of 4 bytes in 0"},
      {"regex of a normalizer",
       [](Json& j) {
         j["normalizer"] = {{"type", "Replace"}, {"pattern", {{"Regex", "(*SKIP)a"}}}, {"content", "x"}};
       },
       kUnimplemented, "normalizer: split pattern '(*SKIP)a': '(*SKIP)a' at byte 0: a verb is not supported"},
      {"long chain",
       [](Json& j) {
         j["normalizer"] = {{"type", "Sequence"},
                            {"normalizers", std::vector<Json>(1000, {{"type", "Prepend"}, {"prepend", "x"}})}};
       },
       kDataLoss, "normalizer: 1000 steps"},
      {"empty replace",
       [](Json& j) {
         j["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", "x"}};
       },
       kDataLoss, "Replace of an empty text"},
      {"replace bomb", [](Json& j) { j["normalizer"] = Replace("a", std::string(1000, 'x')); }, kDataLoss,
       "normalizer: the steps up to here grow a text 1000 times, at most 16"},
      {"chain of replaces", [](Json& j) { j["normalizer"] = Chain("normalizers", Replace("a", "aaaa"), 32); },
       kDataLoss, "normalizer.normalizers[2]: the steps up to here grow a text 64 times"},
      {"chain of prepends",
       [](Json& j) {
         j["normalizer"] = Chain("normalizers", {{"type", "Prepend"}, {"prepend", "xxx"}}, 32);
       },
       kDataLoss, "normalizer.normalizers[2]: the steps up to here grow a text 64 times"},
      {"chain of replaces in the decoder", [](Json& j) { j["decoder"] = Chain("decoders", Replace("a", "aaaa"), 32); },
       kDataLoss, "decoder.decoders[2]: the steps up to here grow a text 64 times"},
      {"tokens that stand for much",
       [](Json& j) {
         j.erase("pre_tokenizer");
         for (int i = 0; i < 1100; ++i) j["model"]["vocab"][std::to_string(i) + std::string(4000, 'a')] = 1000 + i;
         j["decoder"] = Replace("a", std::string(16, 'a'));
       },
       kDataLoss, "decoder: the tokens stand for more than 67108864 bytes"},
      {"replaces before Metaspace",
       [](Json& j) {
         j["normalizer"] = Replace("a", std::string(16, 'a'));
         j["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "always"}};
       },
       kDataLoss, "pre_tokenizer: the steps up to here grow a text 96 times"},
      {"pre-tokenizer",
       [](Json& j) {
         j["pre_tokenizer"] = {{"type", "UnicodeScripts"}};
       },
       kUnimplemented, "UnicodeScripts"},
      {"bad regex",
       [](Json& j) {
         j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}};
       },
       kUnimplemented, "split pattern '(a'"},
      {"decoder",
       [](Json& j) {
         j["decoder"] = {{"type", "CTC"}};
       },
       kUnimplemented, "decoder: 'CTC'"},
      {"post-processor",
       [](Json& j) {
         j["post_processor"] = {{"type", "Odd"}};
       },
       kUnimplemented, "post_processor: 'Odd'"},
      {"template without text",
       [](Json& j) {
         j["post_processor"] = {{"type", "TemplateProcessing"}, {"single", Json::array()}};
       },
       kDataLoss, "post_processor"},
      {"template of an unknown token",
       [](Json& j) {
         j["post_processor"] = {{"type", "TemplateProcessing"},
                                {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
                                {"special_tokens", {{"<s>", {{"ids", {4000}}}}}}};
       },
       kDataLoss, "4000 is no token's id"},
      {"two that add tokens",
       [](Json& j) {
         const Json template_step = {{"type", "TemplateProcessing"},
                                     {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
                                     {"special_tokens", {{"<s>", {{"ids", {96}}}}}}};
         j["post_processor"] = {{"type", "Sequence"}, {"processors", {template_step, template_step}}};
       },
       kUnimplemented, "post_processor.processors[1]: a second one that adds tokens is not supported"},
  };
  ASSERT_TRUE(ParseTokenizerJson(SmallJson().dump(), {}).ok());
  for (const BadFile& file : files) {
    Json json = SmallJson();
    file.spoil(json);
    const absl::Status status = ParseTokenizerJson(json.dump(), {}).status();
    EXPECT_EQ(status.code(), file.code) << file.what << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(file.message)) << file.what;
    EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.json")) << file.what;
  }
}

// Readers differ in which of two keys counts: a second "model" emptied the vocabulary.
TEST(Tokenizer, AKeyThatIsThereTwiceIsDataLoss) {
  std::string text = SmallJson().dump();
  text.insert(1, R"("model": {"type": "BPE", "vocab": {}, "merges": []}, )");
  const absl::Status status = ParseTokenizerJson(text, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("key \"model\" is there twice"));
}

TEST(Tokenizer, ATruncatedTokenizerJsonIsDataLossAtEveryLength) {
  const std::string text = SmallJson().dump();
  for (size_t size = 0; size < text.size(); size += 7) {
    EXPECT_EQ(ParseTokenizerJson(text.substr(0, size), {}).status().code(), absl::StatusCode::kDataLoss) << size;
  }
}

TEST(Tokenizer, TokenizerConfigNamesTheEndsOfAText) {
  const std::string json = SmallJson().dump();
  const auto tokenizer =
      ParseTokenizerJson(json, {.config = R"({"bos_token": "<s>", "eos_token": {"content": "ab"}, "pad_token": "<none>",
                           "added_tokens_decoder": {"97": {"content": "<new>", "special": true}}})"});
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->bos_id(), 96);
  EXPECT_EQ((*tokenizer)->eos_id(), 94);
  EXPECT_EQ((*tokenizer)->TokenBytes(97), "<new>");
  EXPECT_TRUE((*tokenizer)->IsSpecial(97));
  EXPECT_TRUE((*tokenizer)->IsSpecial(94)) << "a token of the vocabulary that is named is special";
  EXPECT_EQ(Encode(**tokenizer, {{"ab", true}}), std::vector<int32_t>{94});
  EXPECT_EQ(Encode(**tokenizer, {{"ab", false}}), (std::vector<int32_t>{'a' - 0x21, 'b' - 0x21}));
  EXPECT_EQ(Encode(**tokenizer, {{"<none>", true}}), std::vector<int32_t>{98}) << "a new name gets the next id";
  EXPECT_EQ((*tokenizer)->vocab_size(), 99);
  for (const char* bad : {"{", R"({"bos_token": 3})", R"({"eos_token": []})", "[]",
                          R"({"added_tokens_decoder": {"x": {"content": "y"}}})", R"({"added_tokens_decoder": []})",
                          R"({"additional_special_tokens": "x"})", R"({"additional_special_tokens": [3]})"}) {
    const absl::Status status = ParseTokenizerJson(json, {.config = bad}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer_config.json")) << bad;
  }
}

// transformers 5 reads neither flag beside a tokenizer.json.
TEST(Tokenizer, BesideATokenizerJsonThePostProcessorAloneSaysWhatIsAround) {
  Json json = SmallJson();
  const TokenizerCompanions all = {.config = R"({"bos_token": "<s>", "eos_token": "<s>", "add_bos_token": true,
                                                 "add_eos_token": true})"};
  const TokenizerCompanions none = {.config = R"({"bos_token": "<s>", "add_bos_token": false})"};
  EXPECT_TRUE((*ParseTokenizerJson(json.dump(), all))->prefix_ids().empty());
  EXPECT_TRUE((*ParseTokenizerJson(json.dump(), all))->suffix_ids().empty());
  json["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
                            {"special_tokens", {{"<s>", {{"ids", {96}}}}}}};
  EXPECT_THAT((*ParseTokenizerJson(json.dump(), none))->prefix_ids(), ::testing::ElementsAre(96));
  EXPECT_THAT((*ParseTokenizerJson(json.dump(), all))->prefix_ids(), ::testing::ElementsAre(96));
  EXPECT_TRUE((*ParseTokenizerJson(json.dump(), all))->suffix_ids().empty());
}

TEST(Tokenizer, ATokenWithoutTextIsThereAndIsNeverMade) {
  Json json = SmallJson();
  json["model"]["vocab"][""] = 97;
  json["added_tokens"].push_back({{"id", 98}, {"content", ""}, {"special", true}});
  json["added_tokens"].push_back({{"id", 99}, {"content", ""}});
  const auto tokenizer = ParseTokenizerJson(json.dump(), {.config = R"({"bos_token": "", "eos_token": ""})"});
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 100);
  EXPECT_EQ(Encode(**tokenizer, {{"abc", true}}), (std::vector<int32_t>{94, 'c' - 0x21}));
  for (int32_t id : {97, 98, 99}) EXPECT_EQ((*tokenizer)->TokenBytes(id), "");
  EXPECT_EQ((*tokenizer)->bos_id(), std::nullopt);
  EXPECT_TRUE((*tokenizer)->end_ids().empty());
  GgufVocab gguf = SmallGguf();
  for (int i = 0; i < 2; ++i) {
    gguf.tokens.push_back("");
    gguf.token_types.push_back(i == 0 ? 1 : 3);
  }
  const auto of_gguf = MakeGgufTokenizer(gguf);
  ASSERT_TRUE(of_gguf.ok()) << of_gguf.status();
  EXPECT_EQ((*of_gguf)->vocab_size(), 10);
  EXPECT_EQ(Encode(**of_gguf, {{"ab<u>", true}}), (std::vector<int32_t>{3, 7}));
  EXPECT_EQ((*of_gguf)->TokenBytes(9), "");
}

TEST(Tokenizer, AddedTokensOfTheConfigHaveABound) {
  const Json good = ReadJson(SourcePath("tests/goldens/tokenizer/small.json"))[0]["tokenizer"];
  Json decoder = Json::object();
  for (int i = 0; i <= 65536; ++i) decoder[std::to_string(1000 + i)] = {{"content", "<" + std::to_string(i) + ">"}};
  const std::string config = Json{{"added_tokens_decoder", decoder}}.dump();
  const absl::Status status = ParseTokenizerJson(good.dump(), {.config = config}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("added_tokens_decoder has 65537 entries, at most 65536"));
}

TEST(Tokenizer, AFolderWithoutATokenizerIsNotFound) {
  EXPECT_EQ(LoadTokenizer(SourcePath("tests")).status().code(), absl::StatusCode::kNotFound);
}

using testing::ProtoBytes;
using testing::ProtoNumber;
using testing::SentencePiece;
const std::string kBpeSpec = testing::LlamaSentencePieceSpec();

TEST(Tokenizer, BadTokenizerModelGivesItsDocumentedError) {
  const std::string good = SentencePiece("<unk>", 0, 2) + SentencePiece("<s>", 0, 3) + SentencePiece("</s>", 0, 3) +
                           SentencePiece("a", -1, 1) + kBpeSpec;
  ASSERT_TRUE(ParseSentencePieceModel(good, {}).ok()) << ParseSentencePieceModel(good, {}).status();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::pair<std::string, absl::StatusCode>> files = {
      {"", absl::StatusCode::kDataLoss},
      {kBpeSpec, absl::StatusCode::kDataLoss},                           // no pieces
      {good + "\x0b", absl::StatusCode::kDataLoss},                      // a group
      {good + "\x0a\xff\xff\xff\xff\x07", absl::StatusCode::kDataLoss},  // a length of 2 GiB
      {good + std::string(11, '\xff'), absl::StatusCode::kDataLoss},     // a number without end
      {good + SentencePiece("b", nan, 1), absl::StatusCode::kDataLoss},
      {good + SentencePiece("b", 0, 7), absl::StatusCode::kDataLoss},
      {good + SentencePiece("b", 0, 0), absl::StatusCode::kDataLoss},
      {good + SentencePiece("a", 0, 1), absl::StatusCode::kDataLoss},  // twice
      {good + SentencePiece("", 0, 1), absl::StatusCode::kDataLoss},
      {good + SentencePiece("\xff", 0, 1), absl::StatusCode::kDataLoss},
      {good + SentencePiece("<0xZZ>", 0, 6), absl::StatusCode::kDataLoss},
      {good + SentencePiece(std::string(2000, 'b'), 0, 1), absl::StatusCode::kDataLoss},
      {good + ProtoBytes(2, ProtoNumber(41, 99)), absl::StatusCode::kDataLoss},     // bos_id
      {good + ProtoBytes(2, ProtoNumber(3, 1)), absl::StatusCode::kUnimplemented},  // unigram
      {good + ProtoBytes(3, ProtoBytes(2, "map")), absl::StatusCode::kDataLoss},    // a character map of 3 bytes
  };
  for (const auto& [bytes, code] : files) {
    const absl::Status status = ParseSentencePieceModel(bytes, {}).status();
    EXPECT_EQ(status.code(), code) << status << " " << ::testing::PrintToString(bytes);
    EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.model"));
  }
}

TEST(Tokenizer, GgufVocabularies) {
  const auto tokenizer = MakeGgufTokenizer(SmallGguf());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(Encode(**tokenizer, {{"ab12<s><u>", true}}), (std::vector<int32_t>{3, 4, 5, 0, 7}))
      << "smollm splits digits";
  EXPECT_THAT((*tokenizer)->prefix_ids(), ::testing::ElementsAre(0));
  GgufVocab gpt2 = SmallGguf();
  gpt2.pre = "gpt-2";
  EXPECT_EQ(Encode(**MakeGgufTokenizer(gpt2), {{"12", false}}), std::vector<int32_t>{6});

  GgufVocab scored;
  scored.model = "llama";
  scored.tokens = {"<unk>", "<s>", "<0x41>", "\u2581", "a", "b", "ab", "\u2581ab"};
  scored.scores = {0, 0, 0, -3, -4, -5, -1, -2};
  scored.token_types = {2, 3, 6, 1, 1, 1, 1, 1};
  scored.bos_id = 1;
  scored.unk_id = 0;
  const auto spaced = *MakeGgufTokenizer(scored);
  EXPECT_EQ(Encode(*spaced, {{"abA\u00e9", false}}), (std::vector<int32_t>{7, 2, 0}));
  EXPECT_THAT(spaced->prefix_ids(), ::testing::ElementsAre(1));
  EXPECT_TRUE(spaced->StripsLeadingSpace());
  scored.add_space_prefix = false;
  EXPECT_EQ(Encode(**MakeGgufTokenizer(scored), {{"ab", false}}), std::vector<int32_t>{6});
}

std::vector<int32_t> Ends(const GgufVocab& vocab) {
  const auto tokenizer = MakeGgufTokenizer(vocab);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::vector<int32_t> ends((*tokenizer)->end_ids().begin(), (*tokenizer)->end_ids().end());
  std::ranges::sort(ends);
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  return ends;
}

// llama.cpp's list (src/llama-vocab.cpp, special_eog_ids).
TEST(Tokenizer, EndsOfAGenerationAreFoundByTheirTextInEveryGguf) {
  GgufVocab base = SmallGguf();
  EXPECT_TRUE(Ends(base).empty());
  for (const char* text : {"<|eot_id|>",
                           "<|im_end|>",
                           "<|end|>",
                           "<|return|>",
                           "<|call|>",
                           "<|flush|>",
                           "<|calls|>",
                           "<end_of_turn>",
                           "<|endoftext|>",
                           "</s>",
                           "<|eom_id|>",
                           "<EOT>",
                           "_<EOT>",
                           "[EOT]",
                           "[EOS]",
                           "<|end_of_text|>",
                           "<end_of_utterance>",
                           "<eos>",
                           "<turn|>",
                           "<|tool_response>",
                           "<\uFF5Cend\u2581of\u2581sentence\uFF5C>",
                           "[e~[",
                           "<|fim_pad|>",
                           "[PAD]",
                           "<|fim_repo|>",
                           "<reponame>",
                           "<|file_sep|>"}) {
    for (const int64_t type : {1, 3, 4}) {  // as a normal token too: it becomes special
      GgufVocab vocab = base;
      vocab.tokens.push_back(text);
      vocab.token_types.push_back(type);
      EXPECT_EQ(Ends(vocab), std::vector<int32_t>{8}) << text;
      const auto tokenizer = *MakeGgufTokenizer(vocab);
      EXPECT_TRUE(tokenizer->IsSpecial(8)) << text;
      EXPECT_EQ(Encode(*tokenizer, {{text, true}}), std::vector<int32_t>{8}) << text;
    }
  }
  GgufVocab named = base;  // by the metadata
  named.eos_id = 0;
  named.eot_id = 1;
  named.eom_id = 2;
  named.fim_pad_id = 3;
  named.fim_rep_id = 4;
  named.fim_sep_id = 5;
  EXPECT_EQ(Ends(named), (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
  named.tokens[6] = "<|fim_pad|>";
  named.merges.clear();
  EXPECT_EQ(Ends(named), (std::vector<int32_t>{0, 1, 2, 3, 4, 5})) << "the metadata names another token for this";
}

TEST(Tokenizer, InSomeGgufVocabulariesAnEndClosesAPartOnly) {
  const auto ends = [](std::initializer_list<const char*> texts) {
    GgufVocab vocab = SmallGguf();
    for (const char* text : texts) {
      vocab.tokens.push_back(text);
      vocab.token_types.push_back(3);
    }
    return Ends(vocab);
  };
  EXPECT_EQ(ends({"<|end|>", "<|return|>"}), (std::vector<int32_t>{8, 9}));
  EXPECT_EQ(ends({"<|end|>", "<|return|>", "<|call|>"}), (std::vector<int32_t>{9, 10}));
  EXPECT_EQ(ends({"<|end|>", "<|flush|>", "<|calls|>"}), (std::vector<int32_t>{9, 10}));
  EXPECT_EQ(ends({"</s>", "<|tool_response>"}), std::vector<int32_t>{9});
}

// Each name that the page lists compiles; some are told apart by what they make of one text.
TEST(Tokenizer, EveryPreTokenizerOfAGgufThatTheDocsNameIsBuilt) {
  std::ifstream file(SourcePath("docs/tokenizers.md"));
  std::stringstream page;
  page << file.rdbuf();
  const std::string text = page.str();
  const size_t begin = text.find("GGUF: `tokenizer.ggml.pre` of "), end = text.find("; absent is", begin);
  ASSERT_NE(end, std::string::npos);
  std::stringstream names(text.substr(begin + 30, end - begin - 30));
  int count = 0;
  for (std::string name; std::getline(names, name, '`') && std::getline(names, name, '`'); ++count) {
    GgufVocab vocab = SmallGguf();
    vocab.pre = name;
    const auto tokenizer = MakeGgufTokenizer(vocab);
    EXPECT_TRUE(tokenizer.ok()) << name << ": " << tokenizer.status();
  }
  EXPECT_GT(count, 40);
  const auto ids = [](const char* pre, const char* of) {
    GgufVocab vocab = SmallGguf();
    vocab.pre = pre;
    return Encode(**MakeGgufTokenizer(vocab), {{of, false}});
  };
  EXPECT_EQ(ids("tekken", "12"), (std::vector<int32_t>{4, 5})) << "single digits";
  EXPECT_EQ(ids("gpt-4o", "12"), std::vector<int32_t>{6}) << "three digits";
  EXPECT_EQ(ids("deepseek-v3", "ab12"), (std::vector<int32_t>{3, 6}));
  EXPECT_EQ(ids("deepseek-coder", "12"), (std::vector<int32_t>{4, 5}));
}

TEST(Tokenizer, BadGgufVocabulariesGiveTheirDocumentedError) {
  const auto spoiled = [](const std::function<void(GgufVocab&)>& spoil) {
    GgufVocab vocab = SmallGguf();
    spoil(vocab);
    return MakeGgufTokenizer(std::move(vocab)).status();
  };
  EXPECT_THAT(std::string(spoiled([](GgufVocab& v) { v.pre = "odd-bpe"; }).message()), HasSubstr("'odd-bpe'"));
  EXPECT_EQ(spoiled([](GgufVocab& v) { v.pre = "odd-bpe"; }).code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(spoiled([](GgufVocab& v) { v.model = "t5"; }).code(), absl::StatusCode::kUnimplemented);
  const std::vector<std::function<void(GgufVocab&)>> corrupt = {
      [](GgufVocab& v) { v.tokens.clear(); },
      [](GgufVocab& v) { v.token_types.pop_back(); },
      [](GgufVocab& v) { v.token_types[0] = 9; },
      [](GgufVocab& v) { v.bos_id = 8; },
      [](GgufVocab& v) { v.eos_id = -2; },
      [](GgufVocab& v) { v.tokens[2] = "a"; },
      [](GgufVocab& v) { v.merges.push_back("ab"); },
      [](GgufVocab& v) { v.merges.push_back("b a"); },
      [](GgufVocab& v) { v.model = "llama"; },  // no scores
  };
  for (size_t i = 0; i < corrupt.size(); ++i) EXPECT_EQ(spoiled(corrupt[i]).code(), absl::StatusCode::kDataLoss) << i;
}

// In every source: text is looked up at each byte for as many bytes as a token may have.
TEST(Tokenizer, AddedTokensAreBoundedInLengthAndNumber) {
  const auto refused = [](const absl::Status& status, const std::string& message) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  };
  for (size_t size : {256, 257}) {
    const std::string text(size, '<');
    const std::string too_long = size == 256 ? "" : "bytes of text, at most 256";
    Json json = SmallJson();
    json["added_tokens"][0]["content"] = text;
    GgufVocab gguf = SmallGguf();
    gguf.tokens[7] = text;
    const std::string model = SentencePiece("<unk>", 0, 2) + SentencePiece("<s>", 0, 3) + SentencePiece(text, 0, 4) +
                              SentencePiece("a", -1, 1) + kBpeSpec;
    for (const absl::Status& status : {ParseTokenizerJson(json.dump(), {}).status(), MakeGgufTokenizer(gguf).status(),
                                       ParseSentencePieceModel(model, {}).status()}) {
      EXPECT_EQ(status.ok(), size == 256) << status;
      if (size == 257) refused(status, "with id");
      EXPECT_THAT(std::string(status.message()), HasSubstr(too_long));
    }
  }
  Json normalized = SmallJson();  // compared as 4 times 100 bytes
  normalized["added_tokens"][0] = {{"id", 96}, {"content", std::string(100, '<')}, {"normalized", true}};
  normalized["normalizer"] = Replace("<", "<<<<");
  refused(ParseTokenizerJson(normalized.dump(), {}).status(), "tokenizer.json: added token '");

  GgufVocab many = SmallGguf(), large = SmallGguf();
  for (int i = 0; i < 65536; ++i) {
    many.tokens.push_back("t" + std::to_string(i));
    many.token_types.push_back(4);
  }
  for (int i = 0; i < 40000; ++i) {
    large.tokens.push_back(std::string(200, 't') + std::to_string(i));
    large.token_types.push_back(4);
  }
  refused(MakeGgufTokenizer(many).status(), "tokenizer.ggml.tokens: added tokens: 65537 with");
  refused(MakeGgufTokenizer(large).status(), "at most 65536 with 4194304");
}

}  // namespace
}  // namespace quantd
