#include "server/convert.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/server/fakes.h"

namespace quantd {
namespace {

LayerReport Layer(std::string name, std::string scheme, std::string reason) {
  LayerReport layer;
  layer.name = std::move(name), layer.scheme = std::move(scheme), layer.reason = std::move(reason);
  return layer;
}

TEST(FallbacksTest, LayersThatDifferByNumberShareALine) {
  const std::vector<LayerReport> layers = {
      Layer("model.layers.0.mlp.up_proj.weight", "bf16", "fallback: K 56"),
      Layer("model.layers.0.mlp.down_proj.weight", "int8", "default"),
      Layer("model.layers.1.mlp.up_proj.weight", "bf16", "fallback: K 56"),
      Layer("model.layers.10.mlp.up_proj.weight", "bf16", "fallback: K 56"),
      Layer("model.layers.11.mlp.up_proj.weight", "bf16", "fallback: K 40"),
      Layer("lm_head.weight", "bf16", "fallback: K 56"),
  };
  EXPECT_THAT(Fallbacks(layers),
              ::testing::ElementsAre("model.layers.*.mlp.up_proj.weight, 3 layers: bf16 (K 56)",
                                     "model.layers.11.mlp.up_proj.weight: bf16 (K 40)", "lm_head.weight: bf16 (K 56)"));
}

TEST(FallbacksTest, TheLinesAreBounded) {
  std::vector<LayerReport> layers;
  for (int i = 0; i < 1000; ++i) layers.push_back(Layer("layer_" + std::to_string(i), "bf16", "fallback: x"));
  const std::vector<std::string> lines = Fallbacks(layers);
  ASSERT_EQ(lines.size(), kMaxFallbackLines + 1);
  EXPECT_EQ(lines.back(), "and 936 lines more");
}

TEST(FillModelTest, AFailureIsShortenedToWholeUtf8) {
  ModelInfo info;
  for (const char* word : {"x", "\u20ac"}) {
    std::string text;
    while (text.size() < 5000) text += word;
    info.failure = absl::DataLossError(text);
    v1::Model proto;
    FillModel(info, proto);
    EXPECT_EQ(proto.failure().size(), word[0] == 'x' ? 4096u + 3 : 4095u + 3);
    EXPECT_TRUE(proto.failure().ends_with("\u2026"));
  }
}

TEST(FillModelTest, TheContextIsWhatTheKvCacheCanHold) {
  ModelInfo info;
  info.limits.emplace();
  info.limits->max_context = 8192;
  info.limits->kv_blocks = 171;
  info.limits->kv_block_tokens = 32;
  v1::Model proto;
  FillModel(info, proto);
  EXPECT_EQ(proto.max_context(), 171u * 32);
  info.limits->kv_blocks = 1000;
  FillModel(info, proto);
  EXPECT_EQ(proto.max_context(), 8192u);
}

v1::Chat ChatOf(v1::ChatMessage message) {
  v1::Chat chat;
  *chat.add_messages() = std::move(message);
  return chat;
}

TEST(FillMemoryPlanTest, SaysWhatTheFilesSayAndWhichSettingWouldFit) {
  MemoryPlan plan;
  plan.use.bytes[0] = 100;
  plan.warnings = {"config.json: unknown keys"};
  plan.ways_to_fit = {{"kv_cache_bytes", "1MiB", 50}, {"quantize", "int8_weight_only", 40}};
  v1::MemoryPlan proto;
  FillMemoryPlan(plan, /*budget_bytes=*/60, /*used_bytes=*/0, proto);
  EXPECT_FALSE(proto.fits());
  EXPECT_THAT(proto.warnings(), ::testing::ElementsAre("config.json: unknown keys"));
  ASSERT_EQ(proto.ways_to_fit_size(), 2);
  EXPECT_EQ(proto.ways_to_fit(0).setting(), "kv_cache_bytes");
  EXPECT_EQ(proto.ways_to_fit(0).value(), "1MiB");
  EXPECT_EQ(proto.ways_to_fit(0).total_bytes(), 50u);
}

TEST(ParseChatTest, AContentThatIsNotSetIsNoContent) {
  v1::ChatMessage message;
  message.set_role("assistant");
  EXPECT_FALSE(ParseChat(ChatOf(message), "chat")->messages[0].content.has_value());
  message.set_content("");
  EXPECT_EQ(ParseChat(ChatOf(message), "chat")->messages[0].content, "");
}

TEST(ParseChatTest, WhatAMessageSaysBesideItsContentIsKept) {
  v1::ChatMessage message;
  message.set_role("assistant");
  message.set_reasoning_content("hm");
  message.set_extra_json(R"({"b": 1, "a": 2})");
  message.add_content_parts()->set_text("x");
  message.add_content_parts()->set_type("text");
  v1::Chat chat = ChatOf(message);
  chat.set_template_name("rag");
  const ChatTemplateInput input = ParseChat(chat, "chat").value();
  EXPECT_EQ(input.template_name, "rag");
  EXPECT_EQ(input.messages[0].reasoning_content, "hm");
  EXPECT_EQ(input.messages[0].extra_json, R"({"b": 1, "a": 2})");
  EXPECT_THAT(input.messages[0].content_parts, ::testing::ElementsAre("x", ""));
}

TEST(ParseChatTest, EachFieldIsRefusedAtItsPath) {
  const auto refused = [](const v1::Chat& chat) {
    const absl::Status status = ParseChat(chat, "chat").status();
    EXPECT_EQ(GetReason(status), "FIELD_INVALID") << status;
    return GetField(status);
  };
  v1::ChatMessage message;
  EXPECT_EQ(refused(ChatOf(message)), "chat.messages[0].role");
  message.set_role("user");
  message.add_content_parts()->set_type("image_url");
  EXPECT_EQ(refused(ChatOf(message)), "chat.messages[0].content_parts[0].type");
  message.set_content("x");
  EXPECT_EQ(refused(ChatOf(message)), "chat.messages[0].content_parts");
  message.clear_content_parts();
  v1::Chat chat = ChatOf(message);
  (*chat.mutable_template_args()->mutable_fields())["n"].set_number_value(std::nan(""));
  EXPECT_EQ(refused(chat), "chat.template_args.n");
}

std::shared_ptr<const TextCodec> CodecWith(std::string generation_config) {
  absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(testing::TinyModelPath());
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  checkpoint->generation_config_json = std::move(generation_config);
  absl::StatusOr<std::shared_ptr<const TextCodec>> codec = TextCodec::Create(*checkpoint);
  EXPECT_TRUE(codec.ok()) << codec.status();
  return *codec;
}

SamplingParams SamplingOf(const TextCodec& codec, const std::function<void(v1::Sampling&)>& change) {
  v1::GenerateRequest proto;
  proto.set_text("x");
  change(*proto.mutable_sampling());
  LlmLimits limits;
  limits.max_context = 64, limits.kv_blocks = 10, limits.kv_block_tokens = 16;
  limits.vocab_size = codec.tokenizer().vocab_size();
  absl::StatusOr<ParsedGenerate> parsed = ParseGenerate(proto, codec, limits, {});
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() ? parsed->request.sampling : SamplingParams();
}

TEST(ParseGenerateTest, PenaltiesAreTheRequestsElseTheCheckpoints) {
  const auto plain = CodecWith("{}");
  const auto file = CodecWith(
      R"({"repetition_penalty": 1.5, "presence_penalty": 0.5, "frequency_penalty": 0.25, "no_repeat_ngram_size": 3})");
  const auto none = [](v1::Sampling&) {};
  EXPECT_FALSE(SamplingOf(*plain, none).penalizes());
  const SamplingParams defaults = SamplingOf(*file, none);
  EXPECT_EQ(defaults.temperature, 0) << "penalties are for greedy choices too";
  EXPECT_EQ(defaults.repetition_penalty, 1.5f);
  EXPECT_EQ(defaults.presence_penalty, 0.5f);
  EXPECT_EQ(defaults.frequency_penalty, 0.25f);
  EXPECT_EQ(defaults.no_repeat_ngram_size, 3);
  const SamplingParams own = SamplingOf(*file, [](v1::Sampling& s) {
    s.set_repetition_penalty(1);
    s.set_presence_penalty(0);
    s.set_frequency_penalty(-2);
    s.set_no_repeat_ngram_size(0);
  });
  EXPECT_EQ(own.repetition_penalty, 1);
  EXPECT_EQ(own.presence_penalty, 0);
  EXPECT_EQ(own.frequency_penalty, -2);
  EXPECT_EQ(own.no_repeat_ngram_size, 0);
}

TEST(AtInputTest, ABadTextHasThePathOfItsField) {
  EXPECT_EQ(GetField(AtInput(absl::InvalidArgumentError("x"), "text")), "text");
  EXPECT_EQ(GetField(AtInput(WithField(absl::InvalidArgumentError("x"), "tools[0].parameters_json_schema"), "chat")),
            "chat.tools[0].parameters_json_schema");
  EXPECT_EQ(GetField(AtInput(absl::ResourceExhaustedError("x"), "chat")), "");
}

TEST(FallbacksTest, NumbersWithinANameStay) {
  EXPECT_THAT(Fallbacks({Layer("a.fc2.weight", "bf16", "fallback: x"), Layer("a.fc1.weight", "bf16", "fallback: x")}),
              ::testing::ElementsAre("a.fc2.weight: bf16 (x)", "a.fc1.weight: bf16 (x)"));
}

}  // namespace
}  // namespace quantd
