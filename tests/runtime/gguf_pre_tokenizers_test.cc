// Where the pre-tokenizers that a GGUF names cut text, against llama.cpp's own splitter and, for those of which it runs
// an approximation, against the pattern of the models' own tokenizer.json (tools/oracle/make_pre_tokenizer_goldens.py).
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/byte_alphabet.h"
#include "runtime/json.h"
#include "runtime/tokenizer.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using Offsets = std::vector<uint32_t>;

std::string InAlphabet(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += ByteAlphabetCharacter(static_cast<uint8_t>(byte));
  return text;
}

// Every byte, and every part of `text` with every merge that makes it: each piece becomes one token.
GgufVocab VocabularyOf(const std::string& text) {
  GgufVocab vocab;
  vocab.model = "gpt2";
  std::set<std::string> parts;
  for (int byte = 0; byte < 256; ++byte) parts.insert(std::string(1, static_cast<char>(byte)));
  for (size_t begin = 0; begin < text.size(); ++begin) {
    for (size_t size = 2; begin + size <= text.size(); ++size) parts.insert(text.substr(begin, size));
  }
  for (const std::string& part : parts) {
    vocab.tokens.push_back(InAlphabet(part));
    for (size_t cut = 1; cut < part.size(); ++cut) {
      vocab.merges.push_back(InAlphabet(part.substr(0, cut)) + " " + InAlphabet(part.substr(cut)));
    }
  }
  return vocab;
}

TEST(GgufPreTokenizers, CutTextAsTheirModelsDo) {
  std::ifstream file(testing::SourcePath("tests/goldens/tokenizer/pre_tokenizers.json"));
  std::stringstream golden_text;
  golden_text << file.rdbuf();
  const Json golden = Json::parse(golden_text.str());
  const Json& texts = golden["texts"];
  ASSERT_GT(texts.size(), 150u);
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string text = texts[i];
    GgufVocab vocab = VocabularyOf(text);
    for (const Json& of : golden["pre_tokenizers"]) {
      vocab.pre = of["pre"];
      const auto tokenizer = MakeGgufTokenizer(vocab);
      ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
      std::vector<int32_t> ids;
      Offsets offsets;
      const absl::Status status = (*tokenizer)->Encode(TextPieces{{text, false}}, ids, &offsets);
      ASSERT_TRUE(status.ok()) << status;
      const Json& expected = of.contains("published") ? of["published"] : of["llama_cpp"];
      EXPECT_EQ(offsets, expected[i].get<Offsets>()) << vocab.pre << ": " << texts[i];
    }
  }
}

}  // namespace
}  // namespace quantd
