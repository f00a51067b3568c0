// The files of a checkpoint from which its tokenizer is read: which of them counts where there are several, and small
// models as people have them (../shared/data/field), each with the ids that transformers 5.24 gives.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/json.h"
#include "runtime/text_codec.h"
#include "runtime/tokenizer.h"
#include "tests/testing/sentencepiece_writer.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::SentencePiece;
using ::testing::StartsWith;
using Ids = std::vector<int32_t>;

Ids Encode(const Tokenizer& tokenizer, const std::string& text, bool parse_special) {
  Ids ids;
  const absl::Status status = tokenizer.Encode(TextPieces{{text, parse_special}}, ids);
  EXPECT_TRUE(status.ok()) << status;
  return ids;
}

// A model of eight pieces, ids 0 to 7, and the files beside it.
class CompanionsTest : public ::testing::Test {
 protected:
  CompanionsTest() {
    const std::string visible_space = "\u2581";
    model_ = SentencePiece("<unk>", 0, 2) + SentencePiece("<s>", 0, 3) + SentencePiece("</s>", 0, 3) +
             SentencePiece(visible_space, -1, 1) + SentencePiece("a", -2, 1) + SentencePiece("b", -3, 1) +
             SentencePiece("ab", -1, 1) + SentencePiece("<free>", 0, 4) + testing::LlamaSentencePieceSpec();
  }
  std::unique_ptr<Tokenizer> Load() {
    folder_.Write("tokenizer.model", model_);
    absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = LoadTokenizer(folder_.path());
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
  }
  void ExpectRefused(const std::string& file, const std::string& text, const std::string& message) {
    const std::string path = folder_.Write(file, text);
    folder_.Write("tokenizer.model", model_);
    const absl::Status status = LoadTokenizer(folder_.path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << text;
    std::filesystem::remove(path);
  }

  testing::TempDir folder_;
  std::string model_;
};

TEST_F(CompanionsTest, AddedTokensJsonAddsItsTokensWithItsIds) {
  folder_.Write("added_tokens.json", R"({"<|im_end|>": 9, "<|im_start|>": 8, "[PAD]": 12, "<s>": 1})");
  folder_.Write("tokenizer_config.json", R"({"eos_token": "<|im_end|>", "pad_token": "[PAD]"})");
  const auto tokenizer = Load();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->vocab_size(), 13);
  EXPECT_EQ(Encode(*tokenizer, "<|im_start|>ab<|im_end|>[PAD]", true), (Ids{8, 3, 6, 9, 12}));
  EXPECT_EQ(tokenizer->eos_id(), 9);
  EXPECT_THAT(tokenizer->end_ids(), ElementsAre(9));
  EXPECT_TRUE(tokenizer->IsSpecial(9)) << "named";
  EXPECT_TRUE(tokenizer->IsSpecial(12)) << "named";
  EXPECT_FALSE(tokenizer->IsSpecial(8)) << "named by no file";
  EXPECT_EQ(tokenizer->TokenBytes(8), "<|im_start|>");
  EXPECT_EQ(tokenizer->TokenBytes(10), "") << "a hole";
  for (const char* mark : {"<|im_start|>", "<|im_end|>", "[PAD]"}) {
    for (const int32_t id : Encode(*tokenizer, mark, false)) EXPECT_LT(id, 8) << "a mark that a user types: " << mark;
  }
}

TEST_F(CompanionsTest, SpecialTokensMapJsonNamesTokens) {
  folder_.Write("added_tokens.json", R"({"<new>": 8, "<old>": 9, "<x>": 10})");
  folder_.Write("tokenizer_config.json", R"({"eos_token": "<old>", "bos_token": "<s>"})");
  folder_.Write("special_tokens_map.json",
                R"({"eos_token": {"content": "<new>", "lstrip": true, "rstrip": false, "single_word": false,
                                  "normalized": true},
                    "additional_special_tokens": ["<x>", {"content": "<y>", "rstrip": true}]})");
  const auto tokenizer = Load();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->eos_id(), 8) << "the map wins over the configuration";
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_TRUE(tokenizer->IsSpecial(10));
  EXPECT_EQ(Encode(*tokenizer, "<x><y>", true), (Ids{10, 11})) << "a name that is no token gets the next id";
  EXPECT_TRUE(tokenizer->IsSpecial(11));
}

TEST_F(CompanionsTest, WhereTheConfigHasAddedTokensDecoderTheOlderFilesSayNothing) {
  folder_.Write("added_tokens.json", R"({"<old>": 8})");
  folder_.Write("special_tokens_map.json", R"({"eos_token": "<old>"})");
  folder_.Write("tokenizer_config.json",
                R"({"eos_token": "</s>", "added_tokens_decoder": {"8": {"content": "<new>", "special": true}}})");
  const auto tokenizer = Load();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->TokenBytes(8), "<new>");
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_EQ(tokenizer->vocab_size(), 9);
}

TEST_F(CompanionsTest, AnAddedTokenMayTakeTheIdOfAPiece) {
  folder_.Write("tokenizer_config.json",
                R"({"added_tokens_decoder": {"7": {"content": "<|im_start|>", "special": true}}})");
  const auto tokenizer = Load();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(Encode(*tokenizer, "<|im_start|>", true), Ids{7});
  EXPECT_EQ(tokenizer->TokenBytes(7), "<|im_start|>");
}

TEST_F(CompanionsTest, WithoutATokenizerJsonTheFlagsSayWhatIsAroundAText) {
  EXPECT_THAT(Load()->prefix_ids(), ElementsAre(1)) << "as Llama's own code";
  EXPECT_TRUE(Load()->suffix_ids().empty());
  folder_.Write("tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": true})");
  EXPECT_TRUE(Load()->prefix_ids().empty());
  EXPECT_THAT(Load()->suffix_ids(), ElementsAre(2));
}

TEST_F(CompanionsTest, ACorruptCompanionIsDataLossWithItsName) {
  ExpectRefused("added_tokens.json", "{", "added_tokens.json: no JSON");
  ExpectRefused("added_tokens.json", "[]", "added_tokens.json: is an array");
  ExpectRefused("added_tokens.json", R"({"<x>": "8"})", "added_tokens.json: '<x>' is \"8\", expected an id");
  ExpectRefused("added_tokens.json", R"({"<x>": -1})", "'<x>' is -1");
  ExpectRefused("added_tokens.json", R"({"<x>": 1048576})", "'<x>' is 1048576");
  ExpectRefused("special_tokens_map.json", R"({"eos_token": 3})", "special_tokens_map.json: eos_token is 3");
  ExpectRefused("special_tokens_map.json", R"({"additional_special_tokens": 3})", "additional_special_tokens is 3");
  Json many;
  for (int i = 0; i <= 65536; ++i) many["<" + std::to_string(i) + ">"] = 100 + i;
  ExpectRefused("added_tokens.json", many.dump(), "added_tokens.json has 65537 entries, at most 65536");
}

// Two kinds of file have this name; a third is what is there where neither was fetched.
TEST(TokenizerModelFile, ItsKindIsToldByItsContent) {
  const testing::TempDir folder;
  const auto load = [&](const std::string& bytes) {
    folder.Write("tokenizer.model", bytes);
    return LoadTokenizer(folder.path()).status();
  };
  const auto expect = [&](const std::string& bytes, absl::StatusCode code, const char* message) {
    const absl::Status status = load(bytes);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  };
  constexpr auto kDataLoss = absl::StatusCode::kDataLoss;
  expect("IQ== 0\nIg== 1\n", absl::StatusCode::kUnimplemented, "a tiktoken list of 2 ranks");
  expect("IQ== 0\nIg== 2\n", kDataLoss, "tokenizer.model: 2 ranks up to 2, expected each once");
  expect("IQ== 0\nIg== 0\n", kDataLoss, "line 2: rank 0 is there twice");
  expect("IQ== 0\nIQ== 1\n", kDataLoss, "line 2: tokens 0 and 1 have the same text");
  expect("IQ== 0\n%% 1\n", kDataLoss, "line 2: '%% 1', expected a base64 text and its rank");
  expect("IQ== 0\nIg== x\n", kDataLoss, "line 2: the rank is 'x'");
  expect("IQ== 0\nIg== 99999999999\n", kDataLoss, "line 2: the rank is '99999999999'");
  expect("IQ== 0\n 1\n", kDataLoss, "line 2: 0 bytes");
  expect("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", kDataLoss, "a pointer of Git LFS");
  expect("<!doctype html>", kDataLoss, "begins with '<!doctype html>': neither a SentencePiece model nor a tiktoken");
  expect(std::string("\x0a\xff\xff\xff", 4), kDataLoss, "tokenizer.model: byte");
}

// transformers reads neither beside a tokenizer.json. With a tokenizer.model alone they decide the ids.
TEST_F(CompanionsTest, AFlagOfAnotherKindIsRefusedWhereItCountsAndNowhereElse) {
  const std::string json =
      R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "<s>": 2}, "merges": []}, "added_tokens": [],
          "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}})";
  for (const char* key : {"add_bos_token", "add_eos_token", "legacy", "add_prefix_space", "tokenizer_class"}) {
    for (const char* value : {R"("yes")", "1", "[]", "{}", "null", "true"}) {
      const bool is_text = *value == '"', names_class = key == std::string_view("tokenizer_class");
      const bool fits =
          value == std::string_view("null") || (names_class ? is_text : value == std::string_view("true"));
      const std::string config = absl::StrCat("{\"bos_token\": \"<s>\", \"", key, "\": ", value, "}");
      ::testing::internal::CaptureStderr();
      const auto beside = ParseTokenizerJson(json, {.config = config});
      const std::string log = ::testing::internal::GetCapturedStderr();
      ASSERT_TRUE(beside.ok()) << config << ": " << beside.status();
      EXPECT_EQ(Encode(**beside, "ab", false), (Ids{0, 1}));
      EXPECT_TRUE((*beside)->prefix_ids().empty());
      EXPECT_EQ(log.find("not read beside a tokenizer.json") == std::string::npos, fits) << config << ": " << log;
      const absl::Status alone = ParseSentencePieceModel(model_, {.config = config}).status();
      EXPECT_EQ(alone.ok(), fits) << config << ": " << alone;
      if (!fits) {
        EXPECT_THAT(std::string(alone.message()), HasSubstr(absl::StrCat(key, " is ")));
      }
    }
  }
}

// Which file is missing is said by its name, whatever else of a tokenizer is there.
TEST(TokenizerFiles, WhatIsMissingIsNamed) {
  constexpr char kExpected[] = "expected tokenizer.json, tokenizer.model, or vocab.json with merges.txt";
  const std::pair<std::vector<const char*>, const char*> cases[] = {
      {{}, "has no tokenizer: expected"},
      {{"vocab.json"}, "vocab.json is there without merges.txt"},
      {{"vocab.json", "tokenizer_config.json", "special_tokens_map.json"}, "vocab.json is there without merges.txt"},
      {{"merges.txt", "tokenizer_config.json"}, "merges.txt is there without vocab.json"},
      {{"tokenizer_config.json"}, "tokenizer_config.json names tokens and has no vocabulary"},
      {{"special_tokens_map.json"}, "special_tokens_map.json names tokens"},
      {{"added_tokens.json"}, "added_tokens.json has only the tokens"},
      {{"tekken.json", "tokenizer_config.json"}, "tekken.json is a form of Mistral's"},
      {{"tokenizer.model.v3"}, "tokenizer.model.v3 is not read under that name"},
      {{"vocab.txt", "tokenizer_config.json"}, "vocab.txt is a WordPiece vocabulary"}};
  for (const auto& [files, message] : cases) {
    testing::TempDir folder;
    for (const char* file : files) folder.Write(file, "{}");
    const absl::Status status = LoadTokenizer(folder.path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
    EXPECT_THAT(std::string(status.message()), StartsWith(folder.path() + ": has no tokenizer: "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_THAT(std::string(status.message()), HasSubstr(kExpected));
  }
}

// As a download leaves it that failed; nothing else takes its place.
TEST(TokenizerFiles, AnEmptyVocabularyIsNoMissingOne) {
  for (const char* file : {"tokenizer.json", "tokenizer.model", "vocab.json"}) {
    testing::TempDir folder;
    folder.Write(file, "");
    folder.Write("merges.txt", "#version: 0.2\n");
    EXPECT_EQ(LoadTokenizer(folder.path()).status(),
              absl::DataLossError(folder.path() + "/" + file + ": is an empty file"));
  }
}

TEST(TokenizerFiles, APointerOfGitLfsIsCalledSo) {
  for (const char* file : {"tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json"}) {
    testing::TempDir folder;
    folder.Write("merges.txt", "#version: 0.2\n");
    folder.Write("tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer"})");
    folder.Write(file, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n");
    if (file == std::string("tokenizer_config.json")) folder.Write("tokenizer.json", "{}");
    const absl::Status status = LoadTokenizer(folder.path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), StartsWith(folder.path() + "/" + file));
    EXPECT_THAT(std::string(status.message()), HasSubstr("pointer of Git LFS"));
  }
}

class VocabAndMergesTest : public ::testing::Test {
 protected:
  VocabAndMergesTest() {
    vocab_ = {{"a", 0}, {"b", 1}, {"ab", 2}, {"\u0120", 3}, {"\u0120ab", 4}, {"<|endoftext|>", 5}};
    config_ = {{"tokenizer_class", "GPT2TokenizerFast"}};
  }
  absl::StatusOr<std::unique_ptr<Tokenizer>> Load() {
    folder_.Write("vocab.json", vocab_.dump());
    folder_.Write("merges.txt", merges_);
    folder_.Write("tokenizer_config.json", config_.dump());
    return LoadTokenizer(folder_.path());
  }
  testing::TempDir folder_;
  Json vocab_, config_;
  std::string merges_ = "#version: 0.2\na b\n\u0120 ab\n";
};

TEST_F(VocabAndMergesTest, AreAByteLevelTokenizer) {
  config_["add_eos_token"] = true;
  folder_.Write("added_tokens.json", R"({"<|im_end|>": 6})");
  const auto tokenizer = Load();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(Encode(**tokenizer, "ab ab<|im_end|><|endoftext|>", true), (Ids{2, 4, 6, 5}));
  EXPECT_EQ((*tokenizer)->bos_id(), 5) << "GPT2Tokenizer's own name";
  EXPECT_TRUE((*tokenizer)->prefix_ids().empty());
  EXPECT_THAT((*tokenizer)->suffix_ids(), ElementsAre(5));
  EXPECT_EQ((*tokenizer)->TokenBytes(4), " ab");
  merges_ = "#version: 0.2\r\na b\r\n\r\n\u0120 ab";  // lines of another system
  EXPECT_EQ(Encode(**Load(), "ab ab", false), (Ids{2, 4}));
}

TEST_F(VocabAndMergesTest, AnotherClassIsRefusedByItsName) {
  config_["tokenizer_class"] = "CLIPTokenizer";
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(Load().status().message()), HasSubstr("'CLIPTokenizer'"));
  config_.erase("tokenizer_class");
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kUnimplemented);
}

TEST_F(VocabAndMergesTest, CorruptFilesAreDataLossWithTheirNames) {
  const auto expect = [&](const char* message) {
    EXPECT_EQ(Load().status().code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(Load().status().message()), HasSubstr(message));
  };
  merges_ = "a b\nab\n";
  expect("merges.txt: line 2: 'ab'");
  merges_ = "a b\na b ab\n";
  expect("merges.txt: line 2");
  merges_ = "a x\n";
  expect("vocab.json and merges.txt: model.merges[0]: merge of 'a' and 'x': the second is no token");
  merges_ = "a \xff\n";
  expect("a character that stands for no byte");
  merges_ = "a b\n";
  vocab_["c"] = "x";
  expect("vocab.json and merges.txt: model.vocab: 'c' has the id \"x\"");
  vocab_ = Json::array();
  expect("model.vocab");
}

// What a folder or file of ../shared/data/field gives.
class FieldTest : public ::testing::Test {
 protected:
  void Open(const std::string& name) {
    const std::string path = testing::SharedPath("data/field/" + name);
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "data: " << path << " is absent";
    absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(path);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    absl::StatusOr<std::shared_ptr<const TextCodec>> codec = TextCodec::Create(*checkpoint);
    ASSERT_TRUE(codec.ok()) << codec.status();
    codec_ = *codec;
  }
  Ids Text(const std::string& text, bool parse_special = false) {
    return codec_->EncodeText(text, {.parse_special = parse_special, .add_special_tokens = {}}).value().ids;
  }
  Ids Chat(const std::string& content) {
    ChatTemplateInput input;
    input.messages.emplace_back();
    input.messages.back().role = "user";
    input.messages.back().content = content;
    input.add_generation_prompt = true;
    return codec_->EncodeChat(input).value().ids;
  }
  bool Ends(int32_t id) const { return std::ranges::count(codec_->eos_token_ids(), id) == 1; }

  std::shared_ptr<const TextCodec> codec_;
};

TEST_F(FieldTest, AddEosTokenBesideATokenizerJsonAddsNothing) {
  Open("add-bos-eos-flags/add-eos-true");
  if (codec_ == nullptr) return;
  EXPECT_EQ(Text("Hello there!"), (Ids{259, 264, 33}));
}
TEST_F(FieldTest, AddBosTokenBesideATokenizerJsonTakesNothing) {
  Open("add-bos-eos-flags/add-bos-false");
  if (codec_ == nullptr) return;
  EXPECT_EQ(Text("Hello there!"), (Ids{275, 259, 264, 33}));
}
TEST_F(FieldTest, EmptySpecialNamesNameNothing) {
  Open("empty-special-names");
  if (codec_ == nullptr) return;
  EXPECT_EQ(Text("Hello there!"), (Ids{275, 259, 264, 33}));
  EXPECT_TRUE(Ends(276)) << "by config.json";
}
TEST_F(FieldTest, AGgufTokenMayHaveNoText) {
  Open("gguf-empty-token-text/empty-token.gguf");
  if (codec_ == nullptr) return;
  EXPECT_EQ(codec_->tokenizer().TokenBytes(278), "");
}
TEST_F(FieldTest, AGgufEosBeyondTheVocabularyIsFoundByItsText) {
  Open("gguf-eos-id-beyond-vocabulary/eos-beyond.gguf");
  if (codec_ == nullptr) return;
  EXPECT_TRUE(Ends(276));
  EXPECT_FALSE(Ends(278));
}
TEST_F(FieldTest, AGgufEndsATurnWhereItsTemplateDoes) {
  Open("gguf-llama3-eot/llama3-instruct-no-eot.gguf");
  if (codec_ == nullptr) return;
  EXPECT_TRUE(Ends(280));
  EXPECT_TRUE(Ends(283));
}
TEST_F(FieldTest, AddedTokensJsonBesideASentencePieceModel) {
  const Ids chat = {421, 342, 381, 270, 13,  371, 389, 373, 355, 371, 420,
                    372, 13,  421, 261, 381, 381, 275, 375, 305, 375, 13};
  for (const char* name : {"spm-added-tokens-json/eos-added", "spm-added-tokens-json/eos-plain"}) {
    Open(name);
    if (codec_ == nullptr) return;
    EXPECT_EQ(Chat("once upon"), chat) << name;
    const Ids typed = Chat("<|im_end|><|im_start|>");
    EXPECT_EQ(std::ranges::count(typed, 420), 1) << name << ": the template's alone";
    EXPECT_EQ(std::ranges::count(typed, 421), 2) << name;
    EXPECT_EQ(Ends(420), name == std::string("spm-added-tokens-json/eos-added"));
  }
}
TEST_F(FieldTest, ATokenizerLongerThanItsModel) {
  Open("tokenizer-longer-than-model");
  if (codec_ == nullptr) return;
  EXPECT_EQ(Text("Hello there!"), (Ids{275, 259, 264, 33}));
  EXPECT_EQ(Text("<pad>", /*parse_special=*/true), (Ids{275, 278}));
}

}  // namespace
}  // namespace quantd
