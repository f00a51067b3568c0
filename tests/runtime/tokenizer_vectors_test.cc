// The published tokenizers against vectors that other implementations gave (see the SOURCES.md beside the data).
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/file.h"
#include "runtime/gguf_checkpoint.h"
#include "runtime/json.h"
#include "runtime/stream_decoder.h"
#include "runtime/tokenizer.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using testing::FileExists;
using testing::SharedPath;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

std::vector<int32_t> Encode(const Tokenizer& tokenizer, const TextPieces& pieces) {
  std::vector<int32_t> ids;
  const absl::Status status = tokenizer.Encode(pieces, ids);
  EXPECT_TRUE(status.ok()) << status;
  return ids;
}
std::vector<int32_t> Encode(const Tokenizer& tokenizer, const std::string& text, bool parse_special) {
  return Encode(tokenizer, {{text, parse_special}});
}

// The text of a whole prompt.
std::string Decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  StreamDecoder decoder(tokenizer, {.skip_special_tokens = false, .at_text_start = true});
  std::string text;
  for (const int32_t id : ids) text += decoder.Append(id);
  return text + decoder.Flush();
}

// One JSON object a line, with `text` and `ids`, and where `special_key` names it, the ids with special tokens parsed.
void CheckVectors(const Tokenizer& tokenizer, const std::string& path, size_t expected_count,
                  const char* special_key = nullptr) {
  std::istringstream lines(ReadAll(path));
  std::string line;
  size_t count = 0;
  while (std::getline(lines, line)) {
    const Json vector = Json::parse(line);
    const std::string text = vector["text"];
    EXPECT_EQ(Encode(tokenizer, text, false), vector["ids"].get<std::vector<int32_t>>()) << text;
    if (special_key != nullptr) {
      EXPECT_EQ(Encode(tokenizer, text, true), vector[special_key].get<std::vector<int32_t>>()) << text;
    }
    if (::testing::Test::HasFailure()) return;  // one is enough to read
    ++count;
  }
  EXPECT_EQ(count, expected_count);
}

// llama.cpp's pairs: texts that a marker line ends, a line of ids for each.
void CheckLlamaCppVectors(const Tokenizer& tokenizer, const std::string& stem) {
  const std::string texts = ReadAll(stem + ".inp");
  const std::string marker = "\n__ggml_vocab_test__\n";
  std::istringstream lines(ReadAll(stem + ".out"));
  std::string line;
  size_t begin = 0;
  int count = 0;
  for (size_t end; (end = texts.find(marker, begin)) != std::string::npos; begin = end + marker.size(), ++count) {
    const std::string text = texts.substr(begin, end - begin);
    ASSERT_TRUE(std::getline(lines, line)) << "no line of ids for text " << count;
    std::istringstream numbers(line);
    std::vector<int32_t> ids;
    for (int32_t id; numbers >> id;) ids.push_back(id);
    EXPECT_EQ(Encode(tokenizer, text, false), ids) << "text " << count << ": " << text;
  }
  EXPECT_EQ(count, 46);
}

void CheckRoundTrip(const Tokenizer& tokenizer) {
  for (const char* name :
       {"tinyshakespeare.txt", "tinystories_sample.txt", "wikitext-2-raw-test.txt", "wikitext-2-test.txt"}) {
    const std::string text = ReadAll(SharedPath("data/corpora/") + name);
    ASSERT_FALSE(text.empty()) << name;
    EXPECT_TRUE(Decode(tokenizer, Encode(tokenizer, text, false)) == text) << name;
  }
}

std::unique_ptr<Tokenizer> Load(const std::string& folder) {
  auto tokenizer = LoadTokenizer(SharedPath(folder));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::unique_ptr<Tokenizer> LoadDemoModel() {
  auto source = OpenFile(testing::DemoModelPath());
  EXPECT_TRUE(source.ok()) << source.status();
  if (!source.ok()) return nullptr;
  auto model = OpenGguf(*std::move(source));
  EXPECT_TRUE(model.ok()) << model.status();
  if (!model.ok() || !model->vocab) return nullptr;
  auto tokenizer = MakeGgufTokenizer(*std::move(model->vocab));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

#define SKIP_WITHOUT(path) \
  if (!FileExists(path)) GTEST_SKIP() << "data: " << (path) << " is absent"

TEST(Llama2Tokenizer, TokenizerJsonGivesEveryVector) {
  SKIP_WITHOUT(SharedPath("data/tokenizers/llama2"));
  const auto tokenizer = Load("data/tokenizers/llama2");
  ASSERT_NE(tokenizer, nullptr);
  CheckVectors(*tokenizer, SharedPath("data/tokenizers/llama2/vectors.jsonl"), 1354);
  CheckLlamaCppVectors(*tokenizer, SharedPath("data/tokenizers/llama2/llamacpp"));
  EXPECT_EQ(tokenizer->vocab_size(), 32000);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  ASSERT_EQ(tokenizer->prefix_ids().size(), 1u);
  EXPECT_EQ(tokenizer->prefix_ids()[0], 1);
  EXPECT_TRUE(tokenizer->suffix_ids().empty());
  EXPECT_TRUE(tokenizer->StripsLeadingSpace());
  EXPECT_TRUE(tokenizer->IsSpecial(1));
  EXPECT_FALSE(tokenizer->IsSpecial(3));
  EXPECT_EQ(tokenizer->TokenBytes(13), "\n");
}

TEST(Llama2Tokenizer, TokenizerModelGivesEveryVector) {
  SKIP_WITHOUT(SharedPath("data/tokenizers/llama2"));
  const auto tokenizer =
      ParseSentencePieceModel(ReadAll(SharedPath("data/tokenizers/llama2/tokenizer.model")),
                              {.config = ReadAll(SharedPath("data/tokenizers/llama2/tokenizer_config.json"))});
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  CheckVectors(**tokenizer, SharedPath("data/tokenizers/llama2/vectors.jsonl"), 1354);
  CheckLlamaCppVectors(**tokenizer, SharedPath("data/tokenizers/llama2/llamacpp"));
}

TEST(Llama2Tokenizer, TokenizerModelAndTokenizerJsonAgree) {
  SKIP_WITHOUT(SharedPath("data/tokenizers/llama2"));
  const auto json = Load("data/tokenizers/llama2");
  const auto model =
      ParseSentencePieceModel(ReadAll(SharedPath("data/tokenizers/llama2/tokenizer.model")),
                              {.config = ReadAll(SharedPath("data/tokenizers/llama2/tokenizer_config.json"))});
  ASSERT_TRUE(json != nullptr && model.ok()) << model.status();
  ASSERT_EQ(json->vocab_size(), (*model)->vocab_size());
  for (int32_t id = 0; id < json->vocab_size(); ++id) {
    ASSERT_EQ(json->TokenBytes(id), (*model)->TokenBytes(id)) << id;
    ASSERT_EQ(json->IsSpecial(id), (*model)->IsSpecial(id)) << id;
  }
  EXPECT_EQ(json->bos_id(), (*model)->bos_id());
  EXPECT_EQ(json->eos_id(), (*model)->eos_id());
  const std::string text = ReadAll(SharedPath("data/corpora/wikitext-2-raw-test.txt"));
  EXPECT_EQ(Encode(*json, text, true), Encode(**model, text, true));
  EXPECT_EQ(Encode(*json, "<s>a</s> b<unk>", true), Encode(**model, "<s>a</s> b<unk>", true));
}

TEST(Llama2Tokenizer, RoundTripIsExact) {
  SKIP_WITHOUT(SharedPath("data/corpora"));
  const auto tokenizer = Load("data/tokenizers/llama2");
  ASSERT_NE(tokenizer, nullptr);
  CheckRoundTrip(*tokenizer);
}

TEST(Llama3Tokenizer, GivesEveryVector) {
  SKIP_WITHOUT(SharedPath("data/tokenizers/llama3"));
  const auto tokenizer = Load("data/tokenizers/llama3");
  ASSERT_NE(tokenizer, nullptr);
  CheckVectors(*tokenizer, SharedPath("data/tokenizers/llama3/vectors.jsonl"), 1464);
  CheckLlamaCppVectors(*tokenizer, SharedPath("data/tokenizers/llama3/llamacpp"));
  EXPECT_EQ(tokenizer->vocab_size(), 128256);
  EXPECT_EQ(tokenizer->TokenBytes(128009), "<|eot_id|>");
  EXPECT_EQ(tokenizer->eos_id(), 128009);
  ASSERT_EQ(tokenizer->prefix_ids().size(), 1u);
  EXPECT_EQ(tokenizer->prefix_ids()[0], 128000);
  EXPECT_FALSE(tokenizer->StripsLeadingSpace());
}

TEST(Llama3Tokenizer, TheTiktokenModelIsTheSameTokenizer) {
  SKIP_WITHOUT(SharedPath("data/tokenizers/llama3"));
  const auto json = Load("data/tokenizers/llama3");
  const std::string model = ReadAll(SharedPath("data/tokenizers/llama3/tokenizer.model"));
  ASSERT_TRUE(IsTiktokenModel(model));
  const auto tiktoken = ParseTiktokenModel(model, {});
  ASSERT_TRUE(json != nullptr && tiktoken.ok()) << tiktoken.status();
  CheckVectors(**tiktoken, SharedPath("data/tokenizers/llama3/vectors.jsonl"), 1464);
  CheckLlamaCppVectors(**tiktoken, SharedPath("data/tokenizers/llama3/llamacpp"));
  ASSERT_EQ((*tiktoken)->vocab_size(), json->vocab_size());
  for (int32_t id = 0; id < json->vocab_size(); ++id) {
    ASSERT_EQ((*tiktoken)->TokenBytes(id), json->TokenBytes(id)) << id;
    ASSERT_EQ((*tiktoken)->IsSpecial(id), json->IsSpecial(id)) << id;
  }
  const std::string text = ReadAll(SharedPath("data/corpora/wikitext-2-raw-test.txt"));
  EXPECT_EQ(Encode(**tiktoken, text, true), Encode(*json, text, true));
  ASSERT_EQ((*tiktoken)->prefix_ids().size(), 1u);
  EXPECT_EQ((*tiktoken)->prefix_ids()[0], 128000);
  EXPECT_EQ((*tiktoken)->eos_id(), 128001);
  EXPECT_EQ(std::vector<int32_t>((*tiktoken)->end_ids().begin(), (*tiktoken)->end_ids().end()),
            (std::vector<int32_t>{128009, 128001}));
}

// Later releases keep the list and give other names to some of the reserved tokens.
TEST(Llama3Tokenizer, TheTiktokenModelTakesTheNamesOfItsConfig) {
  SKIP_WITHOUT(SharedPath("data/tokenizers/llama3"));
  const std::string model = ReadAll(SharedPath("data/tokenizers/llama3/tokenizer.model"));
  const auto tiktoken = ParseTiktokenModel(model, {.config = R"({"eos_token": "<|eot_id|>", "added_tokens_decoder": {
                  "128000": {"content": "<|begin_of_text|>", "special": true},
                  "128008": {"content": "<|eom_id|>", "special": true},
                  "128009": {"content": "<|eot_id|>", "special": true}}})"});
  ASSERT_TRUE(tiktoken.ok()) << tiktoken.status();
  EXPECT_EQ((*tiktoken)->TokenBytes(128008), "<|eom_id|>");
  EXPECT_EQ((*tiktoken)->eos_id(), 128009);
  EXPECT_EQ((*tiktoken)->vocab_size(), 128010);
  const auto bad =
      ParseTiktokenModel(model, {.config = R"({"added_tokens_decoder": {"5": {"content": "<x>", "special": true}}})"});
  EXPECT_EQ(bad.status().code(), absl::StatusCode::kDataLoss) << bad.status();
}

TEST(Llama3Tokenizer, ChatsAreWhatMetasOwnTestsAssert) {
  SKIP_WITHOUT(SharedPath("data/tokenizers/llama3"));
  const auto tokenizer = Load("data/tokenizers/llama3");
  ASSERT_NE(tokenizer, nullptr);
  const Json vectors = Json::parse(ReadAll(SharedPath("data/tokenizers/llama3/chat_vectors.json")));
  const auto append_message = [](const Json& message, TextPieces& pieces) {
    pieces.push_back({"<|start_header_id|>", true});
    pieces.push_back({message["role"], false});
    pieces.push_back({"<|end_header_id|>\n\n", true});
    pieces.push_back({message["content"], false});
    pieces.push_back({"<|eot_id|>", true});
  };
  const std::string sentence = vectors["encode_bos_eos"]["text"];
  EXPECT_EQ(Encode(*tokenizer, {{"<|begin_of_text|>", true}, {sentence, false}, {"<|end_of_text|>", true}}),
            vectors["encode_bos_eos"]["ids"].get<std::vector<int32_t>>());
  TextPieces message;
  append_message(vectors["message"], message);
  EXPECT_EQ(Encode(*tokenizer, message), vectors["message"]["ids"].get<std::vector<int32_t>>());
  TextPieces dialog = {{"<|begin_of_text|>", true}};
  for (const Json& one : vectors["dialog"]["messages"]) append_message(one, dialog);
  dialog.push_back({"<|start_header_id|>assistant<|end_header_id|>\n\n", true});
  EXPECT_EQ(Encode(*tokenizer, dialog), vectors["dialog"]["ids"].get<std::vector<int32_t>>());
}

TEST(Llama3Tokenizer, RoundTripIsExact) {
  SKIP_WITHOUT(SharedPath("data/corpora"));
  const auto tokenizer = Load("data/tokenizers/llama3");
  ASSERT_NE(tokenizer, nullptr);
  CheckRoundTrip(*tokenizer);
}

TEST(SmolLM2Tokenizer, GgufVocabularyGivesEveryVector) {
  SKIP_WITHOUT(testing::DemoModelPath());
  SKIP_WITHOUT(SharedPath("data/smollm2/vectors.jsonl"));
  const auto tokenizer = LoadDemoModel();
  ASSERT_NE(tokenizer, nullptr);
  CheckVectors(*tokenizer, SharedPath("data/smollm2/vectors.jsonl"), 270, "ids_special");
  EXPECT_TRUE(tokenizer->prefix_ids().empty());
  EXPECT_EQ(tokenizer->vocab_size(), 49152);
  EXPECT_EQ(tokenizer->TokenBytes(2), "<|im_end|>");
}

TEST(SmolLM2Tokenizer, RoundTripIsExact) {
  SKIP_WITHOUT(testing::DemoModelPath());
  SKIP_WITHOUT(SharedPath("data/corpora"));
  const auto tokenizer = LoadDemoModel();
  ASSERT_NE(tokenizer, nullptr);
  CheckRoundTrip(*tokenizer);
}

}  // namespace
}  // namespace quantd
