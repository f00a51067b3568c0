// Tensors that a checkpoint may have or lack, each on its own, and whole small checkpoints as people have them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "runtime/text_codec.h"
#include "tests/testing/gguf_writer.h"
#include "tests/testing/model_harness.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using testing::GgufWriter;
using testing::ModelHarness;

struct OptionalBias {
  const char* name;
  uint64_t rows;
};
constexpr OptionalBias kBiases[] = {{"attn_q", 64},   {"attn_k", 32}, {"attn_v", 32},  {"attn_output", 64},
                                    {"ffn_gate", 96}, {"ffn_up", 96}, {"ffn_down", 64}};

std::string Values(uint64_t count, float scale, uint32_t seed) {
  std::string bytes;
  for (uint64_t i = 0; i < count; ++i) {
    seed = seed * 1664525 + 1013904223;
    bytes += testing::LittleEndian(scale * (static_cast<float>(seed >> 8) / (1 << 23) - 1));
  }
  return bytes;
}

// A llama of AddTinyLlamaMetadata with all its weights, and the biases that `biases` names.
std::string TinyGguf(const std::vector<std::string>& biases, float bias_scale) {
  GgufWriter writer;
  testing::AddTinyLlamaMetadata(writer);
  writer.AddTensor("token_embd.weight", {64, 4}, 0, Values(256, 1, 1));
  writer.AddTensor("output_norm.weight", {64}, 0, Values(64, 1, 2));
  writer.AddTensor("blk.0.attn_norm.weight", {64}, 0, Values(64, 1, 3));
  writer.AddTensor("blk.0.ffn_norm.weight", {64}, 0, Values(64, 1, 4));
  for (const OptionalBias& layer : kBiases) {
    const uint64_t inputs = layer.name == std::string("ffn_down") ? 96 : 64;
    const std::string name = std::string("blk.0.") + layer.name;
    writer.AddTensor(name + ".weight", {inputs, layer.rows}, 0, Values(inputs * layer.rows, 0.2f, 5));
    if (std::ranges::find(biases, layer.name) != biases.end()) {
      writer.AddTensor(name + ".bias", {layer.rows}, 0, Values(layer.rows, bias_scale, 6));
    }
  }
  return writer.Finish();
}

std::vector<float> LogitsOf(const std::string& gguf) {
  testing::TempDir folder;
  LoadSpec spec;
  spec.keys = spec.values = KvFormat::kF32;
  auto harness = ModelHarness::Open(folder.Write("x.gguf", gguf), spec, 32);
  EXPECT_TRUE(harness.ok()) << harness.status();
  if (!harness.ok()) return {};
  const std::vector<int32_t> ids = {1, 3, 0, 2};
  return (*harness)->Logits(ids);
}

// llama.cpp makes each bias of this architecture optional on its own.
TEST(OptionalTensors, EachBiasOfAGgufCountsWhereItIsThere) {
  const std::vector<float> none = LogitsOf(TinyGguf({}, 0));
  ASSERT_FALSE(none.empty());
  for (const OptionalBias& layer : kBiases) {
    const std::vector<float> with = LogitsOf(TinyGguf({layer.name}, 1));
    EXPECT_EQ(with.size(), none.size()) << layer.name;
    EXPECT_NE(with, none) << layer.name << " reaches the logits";
    EXPECT_EQ(LogitsOf(TinyGguf({layer.name}, 0)), none) << layer.name << " of zeros is none";
  }
  const std::vector<float> qkv = LogitsOf(TinyGguf({"attn_q", "attn_k", "attn_v"}, 1));
  EXPECT_EQ(qkv.size(), none.size());
  EXPECT_NE(qkv, LogitsOf(TinyGguf({"attn_q", "attn_v"}, 1)));
}

// Greedy text of a checkpoint whose next token depends on the last one alone.
std::string Continue(const std::string& path, const std::string& prompt, int most, int32_t* last) {
  absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  auto harness = ModelHarness::Open(path, {}, 64);
  EXPECT_TRUE(harness.ok()) << harness.status();
  if (!checkpoint.ok() || !harness.ok()) return "";
  auto codec = TextCodec::Create(*checkpoint);
  EXPECT_TRUE(codec.ok()) << codec.status();
  if (!codec.ok()) return "";
  std::vector<int32_t> ids = (*codec)->EncodeText(prompt, {}).value().ids, output;
  while (std::ssize(output) < most) {
    const std::vector<float> logits = (*harness)->Logits(ids);
    const auto row = logits.end() - (*harness)->vocab();
    *last = static_cast<int32_t>(std::max_element(row, logits.end()) - row);
    const std::vector<int32_t>& ends = (*codec)->eos_token_ids();
    if (std::ranges::binary_search(ends, *last)) return (*codec)->Decode(output, /*skip_special_tokens=*/true);
    output.push_back(*last);
    ids.push_back(*last);
  }
  return "(no end) " + (*codec)->Decode(output, /*skip_special_tokens=*/true);
}

class FieldCheckpoint : public ::testing::TestWithParam<const char*> {};

TEST_P(FieldCheckpoint, ContinuesHelloAsItShould) {
  const std::string path = testing::SharedPath(std::string("data/field/") + GetParam());
  if (!testing::FileExists(path)) GTEST_SKIP() << "data: " << path;
  int32_t last = -1;
  EXPECT_EQ(Continue(path, "Hello", 8, &last), " there!");
  EXPECT_EQ(last, 276) << "</s>";
}

INSTANTIATE_TEST_SUITE_P(Field, FieldCheckpoint,
                         ::testing::Values("gguf-bias-qkv-only/bias-qkv.gguf", "index-leaves-out-tensor"),
                         [](const auto& param_info) {
                           return std::string(param_info.param).substr(0, 4) == "gguf" ? "GgufBiasQkvOnly"
                                                                                       : "IndexLeavesOutTensor";
                         });

}  // namespace
}  // namespace quantd
