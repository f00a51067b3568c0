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
  EXPECT_EQ(checkpoint->chat_templates.at("default").value(), "one");

  folder_.Write(
      "tokenizer_config.json",
      R"({"bos_token":null,"chat_template":[{"name":"tool_use","template":"no"},{"name":"default","template":"two"}]})");
  EXPECT_EQ(OpenCheckpoint(folder_.path())->chat_templates.at("default").value(), "two");
  EXPECT_EQ(OpenCheckpoint(folder_.path())->chat_templates.at("tool_use").value(), "no");
  EXPECT_TRUE(OpenCheckpoint(folder_.path())->special_tokens.empty());

  folder_.Write("special_tokens_map.json", R"({"unk_token":{"content":"<unk>","special":true}})");
  EXPECT_EQ(OpenCheckpoint(folder_.path())->special_tokens.at("unk_token"), "<unk>");
  folder_.Write("tokenizer_config.json", R"({"added_tokens_decoder":{},"unk_token":"<own>"})");
  EXPECT_EQ(OpenCheckpoint(folder_.path())->special_tokens.at("unk_token"), "<own>");

  folder_.Write("tokenizer_config.json", R"({"chat_template":7})");
  EXPECT_THAT(std::string(OpenCheckpoint(folder_.path())->chat_templates.at("default").status().message()),
              HasSubstr("chat_template is 7"));
  folder_.Write("chat_template.jinja", "three");
  EXPECT_EQ(OpenCheckpoint(folder_.path())->chat_templates.at("default").value(), "three");
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

// What people point quantd at that is no checkpoint: each is told what it is.
TEST_F(CheckpointFolder, RecognisesDiffusionPipelinesAndTheirParts) {
  folder_.Write("config.json", R"({"_class_name":"FluxTransformer2DModel"})");
  Expect(absl::StatusCode::kUnimplemented, "a part of a diffusion pipeline, FluxTransformer2DModel");
  Remove("config.json");
  for (const char* pipeline : {"FluxPipeline", "CogVideoXPipeline"}) {
    folder_.Write("model_index.json", absl::StrCat(R"({"_class_name":")", pipeline, R"("})"));
    Expect(absl::StatusCode::kUnimplemented, absl::StrCat("is a diffusion pipeline, ", pipeline).c_str());
  }
  folder_.Write("model_index.json", "{");
  Expect(absl::StatusCode::kUnimplemented, "is a diffusion pipeline, unnamed");
}

TEST_F(CheckpointFolder, NamesTheArchitectureThatIsNotSupported) {
  folder_.Write("config.json", R"({"architectures":["Qwen2ForCausalLM"],"model_type":"qwen2"})");
  absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const absl::Status status = ParseLlamaConfig(checkpoint->config_json).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("Qwen2ForCausalLM"));
}

TEST_F(CheckpointFolder, SaysWhatAFolderWithoutAConfigurationIs) {
  Remove("config.json");
  Expect(absl::StatusCode::kInvalidArgument, "has no config.json, so it is no checkpoint; it has model.safetensors");
  Remove("model.safetensors");
  Expect(absl::StatusCode::kInvalidArgument, "is an empty folder; expected a GGUF file, or a folder with config.json");
  folder_.Write("params.json", "{}");
  Expect(absl::StatusCode::kUnimplemented, "original form of its maker (params.json)");
  folder_.Write("adapter_config.json", "{}");
  Expect(absl::StatusCode::kUnimplemented, "is an adapter");
  std::filesystem::create_directories(folder_.path() + "/small");
  folder_.Write("small/config.json", "{}");
  Expect(absl::StatusCode::kInvalidArgument, "is a folder of models: give one of small");
  folder_.Write("b.Q4_K_M.gguf", "");
  folder_.Write("a.Q4_0.gguf", "");
  Expect(absl::StatusCode::kInvalidArgument, "GGUF files: give one of a.Q4_0.gguf, b.Q4_K_M.gguf");
  std::filesystem::create_directories(folder_.path() + "/snapshots/0123abc");
  Expect(absl::StatusCode::kInvalidArgument, "in the cache of Hugging Face; give ");
}

TEST_F(CheckpointFolder, SaysUnderWhatNamesTheWeightsLie) {
  Remove("model.safetensors");
  folder_.Write("model.fp16.safetensors", OneTensor());
  Expect(absl::StatusCode::kInvalidArgument,
         "but model.fp16.safetensors; weights are read under those two names alone");
  Remove("model.fp16.safetensors");
  folder_.Write("consolidated.safetensors", OneTensor());
  Expect(absl::StatusCode::kInvalidArgument, "but consolidated.safetensors");
}

TEST(Checkpoint, SaysWhatAFileThatIsNoGgufIs) {
  struct Case {
    const char* name;
    std::string bytes;
    absl::StatusCode code;
    const char* message;
  };
  testing::SafetensorsWriter flux;
  flux.AddF32("double_blocks.0.img_attn.norm.key_norm.scale", std::vector<int64_t>{1}, std::vector<float>{1});
  const absl::StatusCode invalid = absl::StatusCode::kInvalidArgument, unimplemented = absl::StatusCode::kUnimplemented;
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";
  const Case cases[] = {{"x.safetensors", OneTensor(), invalid, "is one safetensors file"},
                        {"flux1-dev.safetensors", flux.Finish(), unimplemented, "of a diffusion model"},
                        {"x.pt", "PK", unimplemented, "x.pt: is a pickle, which is never read"},
                        {"pytorch_model.bin", "PK", unimplemented, "is a pickle"},
                        {"config.json", "{}", invalid, "is a JSON file: give the folder that holds it"},
                        {"old.bin.q4", "tjgg\x01", unimplemented, "is a GGML file of before GGUF"},
                        {"x.gguf", "", invalid, "x.gguf: is an empty file"},
                        {"x.gguf", "GGU", invalid, "is no GGUF file"},
                        {"x.gguf", pointer, absl::StatusCode::kDataLoss, "is a pointer of Git LFS"},
                        {"y.safetensors", pointer, absl::StatusCode::kDataLoss, "is a pointer of Git LFS"}};
  TempDir folder;
  for (const Case& c : cases) {
    const absl::Status status = OpenCheckpoint(folder.Write(c.name, c.bytes)).status();
    EXPECT_EQ(status.code(), c.code) << c.name << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message)) << c.name;
  }
}

TEST(Checkpoint, NamesFromOtherProgramsAreToldFromPaths) {
  const std::pair<const char*, const char*> names[] = {{"no-such-org/no-such-model", "the name of a model on a hub"},
                                                       {"llama3.2:1b", "the name of a model in Ollama"},
                                                       {"library/llama3.2:1b", "the name of a model in Ollama"},
                                                       {"https://huggingface.co/a/b", "a URL"},
                                                       {"hf://a/b", "a URL"}};
  for (const auto& [name, what] : names) {
    const absl::Status status = OpenCheckpoint(name).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(absl::StrCat("it looks like ", what, ", and models are not downloaded yet")))
        << name;
  }
  for (const char* path : {"/no/such/folder", "./no-such/folder", "no-such.gguf", "no-such", "a/b/c"}) {
    EXPECT_EQ(OpenCheckpoint(path).status().message(), absl::StrCat(path, ": No such file or directory"));
  }
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
