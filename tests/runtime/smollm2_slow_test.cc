// SmolLM2-135M-Instruct, a real chat model, against transformers with the same dequantized weights
// (tools/oracle/make_smollm2_goldens.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/text_codec.h"
#include "tests/testing/golden_tensors.h"
#include "tests/testing/model_harness.h"
#include "tests/testing/test_paths.h"
#include "tests/testing/worse_error.h"

namespace quantd {
namespace {

using testing::ModelHarness;
using testing::SourcePath;

const std::string kGoldens = SourcePath("tests/goldens/smollm2/");

#define SKIP_WITHOUT_SMOLLM2()                        \
  if (!testing::FileExists(testing::DemoModelPath())) \
  GTEST_SKIP() << "data: no SmolLM2 in the cache; tools/fetch_demo_model.sh gets it"

nlohmann::json Chats() {
  std::ifstream file(kGoldens + "chats.json");
  return nlohmann::json::parse(file);
}

std::unique_ptr<ModelHarness> OpenSmolLm2(DType activations, KvFormat kv) {
  LoadSpec spec;
  spec.activations = activations;
  spec.keys = spec.values = kv;
  auto harness = ModelHarness::Open(testing::DemoModelPath(), spec, 512);
  if (!harness.ok()) ADD_FAILURE() << harness.status();
  return harness.ok() ? *std::move(harness) : nullptr;
}

std::vector<int32_t> PromptAndAnswer(const nlohmann::json& chat) {
  std::vector<int32_t> ids = chat["prompt_ids"], answer = chat["answer_ids"];
  ids.insert(ids.end(), answer.begin(), answer.end() - 1);
  return ids;
}

TEST(SmolLm2, ChatPromptsEncodeAsTransformersDoes) {
  SKIP_WITHOUT_SMOLLM2();
  auto checkpoint = OpenCheckpoint(testing::DemoModelPath());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  auto codec = TextCodec::Create(*checkpoint);
  ASSERT_TRUE(codec.ok()) << codec.status();
  for (const auto& chat : Chats()) {
    ChatTemplateInput input;
    for (const auto& m : chat["messages"])
      input.messages.push_back(
          {.role = m["role"], .content = m["content"], .tool_calls = {}, .tool_call_id = {}, .name = {}});
    auto prompt = (*codec)->EncodeChat(input);
    ASSERT_TRUE(prompt.ok()) << prompt.status();
    EXPECT_EQ(prompt->ids, chat["prompt_ids"].get<std::vector<int32_t>>()) << prompt->rendered;
    std::vector<int32_t> answer = chat["answer_ids"];
    EXPECT_EQ((*codec)->Decode(answer, /*skip_special_tokens=*/true), chat["answer"].get<std::string>());
  }
}

// f32 on both sides, the same weights: the order of sums is all that differs. The best token is equal wherever its
// margin is not a near-tie (0.1), so the greedy answers are equal up to the first one.
TEST(SmolLm2, F32LogitsAndGreedyAnswersEqualTransformers) {
  SKIP_WITHOUT_SMOLLM2();
  auto harness = OpenSmolLm2(DType::kF32, KvFormat::kF32);
  ASSERT_NE(harness, nullptr);
  int compared = 0;
  double worst = 0;
  for (const auto& chat : Chats()) {
    const size_t prompt = chat["prompt_ids"].size();
    std::vector<float> logits = harness->Logits(PromptAndAnswer(chat));
    for (size_t k = 0; k < chat["steps"].size(); ++k) {
      const auto& step = chat["steps"][k];
      const float* row = logits.data() + (prompt + k - 1) * static_cast<size_t>(harness->vocab());
      const std::vector<int64_t> top = step["top_ids"];
      const std::vector<double> want = step["top_logits"];
      for (size_t i = 0; i < top.size(); ++i) {
        worst = testing::WorseError(worst, std::abs(row[top[i]] - want[i]) / step["max_abs"].get<double>());
      }
      if (want[0] - want[1] < 0.1) continue;
      ++compared;
      EXPECT_EQ(std::max_element(row, row + harness->vocab()) - row, top[0]) << "step " << k;
    }
  }
  std::printf("worst error %.2e of the largest logit; %d steps with a clear best token\n", worst, compared);
  EXPECT_LE(worst, 1e-3);
  EXPECT_GT(compared, 400);
}

// Calls fn(got, want, chat, step) for every sampled logit row of the first chats.
template <typename Fn>
void ForEachSample(ModelHarness& harness, const Fn& fn) {
  auto samples = testing::ReadGoldenTensors(kGoldens + "logit_samples.safetensors");
  nlohmann::json chats = Chats();
  for (size_t c = 0; c < 3; ++c) {
    std::vector<float> logits = harness.Logits(PromptAndAnswer(chats[c]));
    for (size_t s = 0; s < 16; ++s) {
      const std::vector<float>& want = samples.at("chat" + std::to_string(c) + "_step" + std::to_string(s)).f32;
      std::vector<float> got(want.size());
      const float* row = logits.data() + (chats[c]["prompt_ids"].size() + s - 1) * static_cast<size_t>(harness.vocab());
      for (size_t i = 0; i < want.size(); ++i) got[i] = row[s + 16 * i];
      fn(got, want, chats[c]["steps"][s]["max_abs"].get<double>());
    }
  }
}

TEST(SmolLm2, F32LogitsEqualTransformersOverTheVocabulary) {
  SKIP_WITHOUT_SMOLLM2();
  auto harness = OpenSmolLm2(DType::kF32, KvFormat::kF32);
  ASSERT_NE(harness, nullptr);
  ForEachSample(*harness, [](const std::vector<float>& got, const std::vector<float>& want, double most) {
    for (size_t i = 0; i < want.size(); ++i) ASSERT_LE(std::abs(got[i] - want[i]), 1e-3 * most);
  });
}

// bf16 keeps 8 bits: 0.03 of the largest logit, 0.1 rms.
TEST(SmolLm2, Bf16LogitsAreNearTransformers) {
  SKIP_WITHOUT_SMOLLM2();
  auto harness = OpenSmolLm2(DType::kBF16, KvFormat::kBF16);
  ASSERT_NE(harness, nullptr);
  double squares = 0, worst = 0;
  int64_t count = 0;
  ForEachSample(*harness, [&](const std::vector<float>& got, const std::vector<float>& want, double most) {
    for (size_t i = 0; i < want.size(); ++i) {
      const double error = got[i] - want[i];
      worst = testing::WorseError(worst, std::abs(error) / most);
      squares += error * error;
      ++count;
    }
  });
  std::printf("worst error %.3f of the largest logit, rms %.3f\n", worst,
              std::sqrt(squares / static_cast<double>(count)));
  EXPECT_LE(worst, 0.03);
  EXPECT_LE(std::sqrt(squares / static_cast<double>(count)), 0.1);
}

}  // namespace
}  // namespace quantd
