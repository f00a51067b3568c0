#include "runtime/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/llama_config.h"
#include "tests/testing/gguf_writer.h"
#include "tests/testing/safetensors_writer.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using ::testing::HasSubstr;
using testing::TempDir;

constexpr char kConfig[] = R"({"architectures":["LlamaForCausalLM"],"model_type":"llama"})";

std::string OneTensor(const char* name = "model.norm.weight") {
  testing::SafetensorsWriter writer;
  writer.AddF32(name, std::vector<int64_t>{2}, std::vector<float>{1, 2});
  return writer.Finish();
}

class CheckpointFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_.Write("config.json", kConfig);
    folder_.Write("model.safetensors", OneTensor());
  }
  void Expect(absl::StatusCode code, const char* message) {
    const absl::Status status = OpenCheckpoint(folder_.path()).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
  void Remove(const char* name) { std::filesystem::remove(folder_.path() + "/" + name); }
  TempDir folder_;
};

TEST_F(CheckpointFolder, OpensWithoutATokenizer) {
  absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->path, folder_.path());
  EXPECT_EQ(checkpoint->format, "safetensors");
  EXPECT_EQ(checkpoint->config_json, kConfig);
  EXPECT_EQ(checkpoint->generation_config_json, "");
  EXPECT_TRUE(checkpoint->chat_templates.empty());
  EXPECT_EQ(checkpoint->tokenizer, nullptr);
  EXPECT_NE(checkpoint->weights->Find("model.norm.weight"), nullptr);
}

TEST_F(CheckpointFolder, ReadsTemplateAndSpecialTokens) {
  folder_.Write("generation_config.json", R"({"do_sample":true})");
  folder_.Write("tokenizer_config.json",
                R"({"bos_token":"<s>","eos_token":{"content":"</s>","lstrip":false},"pad_token":null,"unk_token":"?",
                    "add_bos_token":true,"image_token":"<i>","extra_special_tokens":{"audio":"<a>"},
                    "additional_special_tokens":["<x>"],"chat_template":"one"})");
  absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->generation_config_json, R"({"do_sample":true})");
  EXPECT_EQ(
      checkpoint->special_tokens,
      (std::map<std::string, std::string>{
          {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "?"}, {"image_token", "<i>"}, {"audio", "<a>"}}));
  EXPECT_EQ(checkpoint->chat_templates.at("default"), "one");

  folder_.Write(
      "tokenizer_config.json",
      R"({"bos_token":null,"chat_template":[{"name":"tool_use","template":"no"},{"name":"default","template":"two"}]})");
  EXPECT_EQ(OpenCheckpoint(folder_.path())->chat_templates.at("default"), "two");
  EXPECT_EQ(OpenCheckpoint(folder_.path())->chat_templates.at("tool_use"), "no");
  EXPECT_TRUE(OpenCheckpoint(folder_.path())->special_tokens.empty());

  folder_.Write("special_tokens_map.json", R"({"unk_token":{"content":"<unk>","special":true}})");
  EXPECT_EQ(OpenCheckpoint(folder_.path())->special_tokens.at("unk_token"), "<unk>");
  folder_.Write("tokenizer_config.json", R"({"added_tokens_decoder":{},"unk_token":"<own>"})");
  EXPECT_EQ(OpenCheckpoint(folder_.path())->special_tokens.at("unk_token"), "<own>");

  folder_.Write("tokenizer_config.json", R"({"chat_template":7})");
  Expect(absl::StatusCode::kDataLoss, "chat_template is 7");
  folder_.Write("chat_template.jinja", "three");
  EXPECT_EQ(OpenCheckpoint(folder_.path())->chat_templates.at("default"), "three");
  folder_.Write("tokenizer_config.json", "{");
  Expect(absl::StatusCode::kDataLoss, "tokenizer_config.json");
}

TEST_F(CheckpointFolder, RevisionFollowsConfigAndTensors) {
  const std::string first = OpenCheckpoint(folder_.path())->revision;
  EXPECT_EQ(first.size(), 16u);
  EXPECT_EQ(OpenCheckpoint(folder_.path())->revision, first);
  folder_.Write("model.safetensors", OneTensor("model.other.weight"));
  const std::string second = OpenCheckpoint(folder_.path())->revision;
  EXPECT_NE(second, first);
  folder_.Write("config.json", "{}");
  EXPECT_NE(OpenCheckpoint(folder_.path())->revision, second);
}

TEST_F(CheckpointFolder, RefusesQuantizedByOthers) {
  folder_.Write("config.json", R"({"quantization_config":{"quant_method":"awq"}})");
  Expect(absl::StatusCode::kUnimplemented, "quant_method \"awq\"");
  folder_.Write("config.json", R"({"compression_config":{"quant_method":"compressed-tensors"}})");
  Expect(absl::StatusCode::kUnimplemented, "compressed-tensors");
  folder_.Write("config.json", kConfig);
  folder_.Write("quantize_config.json", "{}");
  Expect(absl::StatusCode::kUnimplemented, "quantize_config.json");
}

TEST_F(CheckpointFolder, RefusesPicklesWithTheWayOut) {
  Remove("model.safetensors");
  folder_.Write("pytorch_model.bin", "pickle");
  Expect(absl::StatusCode::kUnimplemented, "pytorch_model.bin is a pickle");
  Expect(absl::StatusCode::kUnimplemented, "safe_serialization=True");
}

TEST_F(CheckpointFolder, RefusesWhatIsIncompleteOrCorrupt) {
  Remove("model.safetensors");
  Expect(absl::StatusCode::kInvalidArgument, "neither model.safetensors nor");
  folder_.Write("model.safetensors", OneTensor().substr(0, 20));
  Expect(absl::StatusCode::kDataLoss, "model.safetensors");
  folder_.Write("model.safetensors", OneTensor());
  folder_.Write("config.json", "{\"a\":");
  Expect(absl::StatusCode::kDataLoss, "config.json");
  folder_.Write("config.json", "[]");
  Expect(absl::StatusCode::kDataLoss, "config.json: is no object");
  folder_.Write("config.json", std::string(5 << 20, ' '));
  Expect(absl::StatusCode::kDataLoss, "config.json: 5242880 bytes");
  Remove("config.json");
  Expect(absl::StatusCode::kInvalidArgument, "has no config.json");
}

TEST(Checkpoint, NamesAPathThatIsNoCheckpoint) {
  TempDir folder;
  EXPECT_EQ(OpenCheckpoint(folder.path() + "/none").status().code(), absl::StatusCode::kNotFound);
  const absl::Status text = OpenCheckpoint(folder.Write("x.txt", "just text")).status();
  EXPECT_EQ(text.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(text.message()), HasSubstr("x.txt: is no GGUF file"));
  EXPECT_EQ(OpenCheckpoint("/dev/null").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Checkpoint, OpensGgufWithoutATokenizer) {
  TempDir folder;
  testing::GgufWriter writer;
  testing::AddTinyLlamaMetadata(writer);
  absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(folder.Write("m.gguf", writer.Finish()));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->format, "gguf");
  EXPECT_EQ(checkpoint->tokenizer, nullptr);
  EXPECT_TRUE(ParseLlamaConfig(checkpoint->config_json).ok());
}

TEST(Checkpoint, OpensSmolLm2) {
  const std::string path = testing::DemoModelPath();
  if (!testing::FileExists(path)) GTEST_SKIP() << "data: " << path;
  absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ASSERT_NE(checkpoint->tokenizer, nullptr);
  EXPECT_EQ(checkpoint->tokenizer->vocab_size(), 49152);
  ASSERT_TRUE(checkpoint->tokenizer->eos_id().has_value());
  EXPECT_EQ(checkpoint->tokenizer->TokenBytes(*checkpoint->tokenizer->eos_id()),
            checkpoint->special_tokens.at("eos_token"));
}

TEST(Checkpoint, OpensStories15M) {
  const std::string path = testing::SharedPath("data/stories15M/hf-bf16");
  if (!testing::FileExists(path)) GTEST_SKIP() << "data: " << path;
  absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ASSERT_NE(checkpoint->tokenizer, nullptr);
  EXPECT_EQ(checkpoint->tokenizer->vocab_size(), 32000);
  EXPECT_EQ(checkpoint->special_tokens.at("bos_token"), "<s>");
  EXPECT_TRUE(ParseLlamaConfig(checkpoint->config_json).ok());
  EXPECT_THAT(checkpoint->generation_config_json, HasSubstr("max_length"));
}

}  // namespace
}  // namespace quantd
