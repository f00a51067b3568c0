#include "runtime/llama_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/json.h"

namespace quantd {
namespace {

using ::testing::HasSubstr;
constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kUnimplemented = absl::StatusCode::kUnimplemented;

// The smallest config.json, changed by `patch` (a merge patch: null removes a key).
std::string Config(const char* patch = "{}") {
  Json config =
      Json::parse(R"({"architectures":["LlamaForCausalLM"],"vocab_size":32,"hidden_size":64,"intermediate_size":96,
    "num_hidden_layers":2,"num_attention_heads":4})");
  config.merge_patch(Json::parse(patch));
  return config.dump();
}

TEST(LlamaConfig, Defaults) {
  const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(Config());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->kv_heads, 4);
  EXPECT_EQ(config->head_dim, 16);
  EXPECT_EQ(config->max_position, 2048);
  EXPECT_EQ(config->rms_norm_eps, 1e-6f);
  EXPECT_EQ(config->rope_theta, 10000.0f);
  EXPECT_EQ(config->rope_scaling.kind, RopeScaling::Kind::kNone);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_TRUE(config->eos_token_ids.empty());
}

TEST(LlamaConfig, ReadsWhatIsGiven) {
  const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(Config(
      R"({"num_key_value_heads":2,"head_dim":20,"max_position_embeddings":131072,"rms_norm_eps":1e-5,"rope_theta":500000,
          "attention_bias":true,"mlp_bias":true,"tie_word_embeddings":true,"bos_token_id":1,"eos_token_id":[2,3],
          "torch_dtype":"bfloat16","quantization_config":null,"rope_scaling":null})"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->kv_heads, 2);
  EXPECT_EQ(config->head_dim, 20);
  EXPECT_EQ(config->max_position, 131072);
  EXPECT_EQ(config->rms_norm_eps, 1e-5f);
  EXPECT_EQ(config->rope_theta, 500000.0f);
  EXPECT_TRUE(config->attention_bias && config->mlp_bias && config->tie_word_embeddings);
  EXPECT_EQ(config->eos_token_ids, (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(ParseLlamaConfig(Config(R"({"eos_token_id":7})"))->eos_token_ids, std::vector<int32_t>{7});
  EXPECT_TRUE(ParseLlamaConfig(Config(R"({"architectures":null,"model_type":"llama"})")).ok());
}

TEST(LlamaConfig, RopeInEverySpelling) {
  const char* linear[] = {R"({"rope_scaling":{"type":"linear","factor":4}})",
                          R"({"rope_scaling":{"rope_type":"linear","factor":4.0}})",
                          R"({"rope_parameters":{"rope_type":"linear","factor":4.0,"rope_theta":10000.0}})"};
  for (const char* patch : linear) {
    const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(Config(patch));
    ASSERT_TRUE(config.ok()) << patch << config.status();
    EXPECT_EQ(config->rope_scaling.kind, RopeScaling::Kind::kLinear) << patch;
    EXPECT_EQ(config->rope_scaling.factor, 4.0f) << patch;
  }
  const absl::StatusOr<LlamaConfig> plain =
      ParseLlamaConfig(Config(R"({"rope_parameters":{"rope_type":"default","rope_theta":250000}})"));
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->rope_scaling.kind, RopeScaling::Kind::kNone);
  EXPECT_EQ(plain->rope_theta, 250000.0f);
  const absl::StatusOr<LlamaConfig> llama3 =
      ParseLlamaConfig(Config(R"({"rope_scaling":{"factor":32.0,"high_freq_factor":4.0,
      "low_freq_factor":1.0,"original_max_position_embeddings":8192,"rope_type":"llama3"}})"));
  ASSERT_TRUE(llama3.ok()) << llama3.status();
  EXPECT_EQ(llama3->rope_scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(llama3->rope_scaling.factor, 32.0f);
  EXPECT_EQ(llama3->rope_scaling.low_freq_factor, 1.0f);
  EXPECT_EQ(llama3->rope_scaling.high_freq_factor, 4.0f);
  EXPECT_EQ(llama3->rope_scaling.original_max_position, 8192);
}

TEST(LlamaConfig, RefusesBadValues) {
  struct Case {
    const char* patch;
    absl::StatusCode code;
    const char* message;
  };
  const Case cases[] = {
      {R"({"architectures":["MistralForCausalLM"]})", kUnimplemented, "architectures"},
      {R"({"architectures":"LlamaForCausalLM"})", kUnimplemented, "architectures"},
      {R"({"architectures":null})", kUnimplemented, "neither architectures nor model_type"},
      {R"({"hidden_act":"gelu"})", kUnimplemented, "hidden_act \"gelu\""},
      {R"({"quantization_config":{"quant_method":"gptq"}})", kUnimplemented, "quant_method \"gptq\""},
      {R"({"quantization_config":{}})", kUnimplemented, "quant_method absent"},
      {R"({"vocab_size":null})", kInvalid, "vocab_size is missing"},
      {R"({"vocab_size":0})", kInvalid, "vocab_size is 0"},
      {R"({"vocab_size":2147483648})", kInvalid, "vocab_size is 2147483648"},
      {R"({"hidden_size":null})", kInvalid, "hidden_size is missing"},
      {R"({"hidden_size":0})", kInvalid, "hidden_size is 0"},
      {R"({"hidden_size":-64})", kInvalid, "hidden_size is -64"},
      {R"({"hidden_size":2147483648})", kInvalid, "hidden_size is 2147483648"},
      {R"({"hidden_size":"64"})", kInvalid, "hidden_size is \"64\""},
      {R"({"hidden_size":64.5})", kInvalid, "hidden_size is 64.5"},
      {R"({"hidden_size":18446744073709551615})", kInvalid, "hidden_size"},
      {R"({"hidden_size":66})", kInvalid, "hidden_size 66 is no multiple of num_attention_heads 4"},
      {R"({"intermediate_size":0})", kInvalid, "intermediate_size is 0"},
      {R"({"num_hidden_layers":0})", kInvalid, "num_hidden_layers is 0"},
      {R"({"num_hidden_layers":1000000})", kInvalid, "num_hidden_layers is 1000000"},
      {R"({"num_attention_heads":0})", kInvalid, "num_attention_heads is 0"},
      {R"({"num_key_value_heads":0})", kInvalid, "num_key_value_heads is 0"},
      {R"({"num_key_value_heads":3})", kInvalid, "num_attention_heads 4 is no multiple of num_key_value_heads 3"},
      {R"({"num_key_value_heads":8})", kInvalid, "no multiple of num_key_value_heads 8"},
      {R"({"head_dim":15})", kInvalid, "head_dim is 15, expected an even number"},
      {R"({"head_dim":0})", kInvalid, "head_dim is 0"},
      {R"({"hidden_size":60,"num_attention_heads":4})", kInvalid, "head_dim is 15"},
      {R"({"max_position_embeddings":0})", kInvalid, "max_position_embeddings is 0"},
      {R"({"rms_norm_eps":-1})", kInvalid, "rms_norm_eps is -1"},
      {R"({"rms_norm_eps":"small"})", kInvalid, "rms_norm_eps"},
      {R"({"rope_theta":0})", kInvalid, "rope_theta is 0"},
      {R"({"rope_theta":-1})", kInvalid, "rope_theta is -1"},
      {R"({"rope_theta":1e300})", kInvalid, "rope_theta is 1e+300"},
      {R"({"attention_bias":1})", kInvalid, "attention_bias is 1"},
      {R"({"eos_token_id":"</s>"})", kInvalid, "eos_token_id"},
      {R"({"eos_token_id":[1,2.5]})", kInvalid, "eos_token_id"},
      {R"({"rope_scaling":"linear"})", kInvalid, "rope_scaling is \"linear\", expected an object"},
      {R"({"rope_scaling":{"type":"yarn","factor":2}})", kUnimplemented, "rope type \"yarn\""},
      {R"({"rope_scaling":{"type":"dynamic","factor":2}})", kUnimplemented, "rope type \"dynamic\""},
      {R"({"rope_scaling":{"type":"linear"}})", kInvalid, "factor is missing"},
      {R"({"rope_scaling":{"type":"linear","factor":0}})", kInvalid, "factor is 0"},
      {R"({"rope_scaling":{"rope_type":"llama3","factor":8}})", kInvalid, "low_freq_factor is missing"},
      {R"({"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4}})", kInvalid,
       "original_max_position_embeddings is missing"},
      {R"({"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4,"original_max_position_embeddings":8192}})",
       kInvalid, "high_freq_factor is not above low_freq_factor"},
      {R"({"rope_parameters":{"rope_theta":0}})", kInvalid, "rope_theta is 0"},
      {R"({"rope_parameters":{"partial_rotary_factor":0.5}})", kUnimplemented, "partial_rotary_factor"},
  };
  for (const Case& c : cases) {
    const absl::Status status = ParseLlamaConfig(Config(c.patch)).status();
    EXPECT_EQ(status.code(), c.code) << c.patch << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message)) << c.patch;
  }
  EXPECT_EQ(ParseLlamaConfig("{").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ParseLlamaConfig("[]").status().code(), kInvalid);
}

TEST(LlamaConfig, EndIdsOutsideTheVocabularyAreWarnings) {
  const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(Config(R"({"eos_token_id":[2,32,-1]})"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->eos_token_ids, std::vector<int32_t>{2});
  ASSERT_EQ(config->warnings.size(), 1u);
  EXPECT_THAT(config->warnings[0], HasSubstr("eos_token_id has 2 of 3 ids outside the vocabulary of 32 (32)"));
}

}  // namespace
}  // namespace quantd
