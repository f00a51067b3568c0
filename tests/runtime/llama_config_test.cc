#include "runtime/llama_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

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
  EXPECT_EQ(config->rope.theta, 10000.0f);
  EXPECT_EQ(config->rope.scaling.kind, RopeScaling::Kind::kNone);
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
  EXPECT_EQ(config->rope.theta, 500000.0f);
  EXPECT_TRUE(config->attention_bias && config->mlp_bias && config->tie_word_embeddings);
  EXPECT_EQ(config->eos_token_ids, (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(ParseLlamaConfig(Config(R"({"eos_token_id":7})"))->eos_token_ids, std::vector<int32_t>{7});
  EXPECT_TRUE(ParseLlamaConfig(Config(R"({"architectures":null,"model_type":"llama"})")).ok());
}

// Values of another kind than transformers writes, of which one reading does no harm: it loads them so too.
TEST(LlamaConfig, ValuesThatOtherWritersSpellOtherwiseAreReadAsTheyMean) {
  const absl::StatusOr<LlamaConfig> plain = ParseLlamaConfig(Config("{}"));
  ASSERT_TRUE(plain.ok()) << plain.status();
  for (const char* changes :
       {R"({"architectures":"LlamaForCausalLM"})", R"({"architectures":[],"model_type":"llama"})",
        R"({"architectures":7,"model_type":"llama"})", R"({"vocab_size":32.0,"hidden_size":64.0})",
        R"({"tie_word_embeddings":0,"attention_bias":0,"mlp_bias":null})", R"({"rope_scaling":false})",
        R"({"rope_scaling":[]})", R"({"rope_scaling":{},"rope_parameters":{}})", R"({"rope_parameters":false})",
        R"({"sliding_window":false})", R"({"sliding_window":null,"use_sliding_window":"no"})",
        R"({"use_sliding_window":"false"})",
        R"({"use_cache":"yes","torch_dtype":7,"dtype":[],"initializer_range":"x"})",
        R"({"bos_token_id":[1,2],"pad_token_id":-1,"unk_token_id":"x"})", R"({"transformers_version":4.2})"}) {
    const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(Config(changes));
    ASSERT_TRUE(config.ok()) << changes << ": " << config.status();
    EXPECT_EQ(config->vocab_size, plain->vocab_size) << changes;
    EXPECT_EQ(config->tie_word_embeddings, plain->tie_word_embeddings) << changes;
    EXPECT_EQ(config->rope.theta, plain->rope.theta) << changes;
    EXPECT_EQ(config->rope.scaling.kind, plain->rope.scaling.kind) << changes;
    EXPECT_EQ(config->sliding_window, 0) << changes;
    EXPECT_TRUE(config->warnings.empty()) << changes << ": " << config->warnings[0];
  }
  EXPECT_EQ(ParseLlamaConfig(Config(R"({"eos_token_id":[3.0,7]})"))->eos_token_ids, (std::vector<int32_t>{3, 7}));
  EXPECT_EQ(ParseLlamaConfig(Config(R"({"eos_token_id":3.5})")).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(LlamaConfig, RopeInEverySpelling) {
  const char* linear[] = {R"({"rope_scaling":{"type":"linear","factor":4}})",
                          R"({"rope_scaling":{"rope_type":"linear","factor":4.0}})",
                          R"({"rope_parameters":{"rope_type":"linear","factor":4.0,"rope_theta":10000.0}})"};
  for (const char* patch : linear) {
    const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(Config(patch));
    ASSERT_TRUE(config.ok()) << patch << config.status();
    EXPECT_EQ(config->rope.scaling.kind, RopeScaling::Kind::kLinear) << patch;
    EXPECT_EQ(config->rope.scaling.factor, 4.0f) << patch;
  }
  const absl::StatusOr<LlamaConfig> plain =
      ParseLlamaConfig(Config(R"({"rope_parameters":{"rope_type":"default","rope_theta":250000}})"));
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->rope.scaling.kind, RopeScaling::Kind::kNone);
  EXPECT_EQ(plain->rope.theta, 250000.0f);
  const absl::StatusOr<LlamaConfig> llama3 =
      ParseLlamaConfig(Config(R"({"rope_scaling":{"factor":32.0,"high_freq_factor":4.0,
      "low_freq_factor":1.0,"original_max_position_embeddings":8192,"rope_type":"llama3"}})"));
  ASSERT_TRUE(llama3.ok()) << llama3.status();
  EXPECT_EQ(llama3->rope.scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(llama3->rope.scaling.factor, 32.0f);
  EXPECT_EQ(llama3->rope.scaling.low_freq_factor, 1.0f);
  EXPECT_EQ(llama3->rope.scaling.high_freq_factor, 4.0f);
  EXPECT_EQ(llama3->rope.scaling.original_max_position, 8192);
}

TEST(LlamaConfig, TheRopeGapsHaveTransformersValues) {
  const auto rope = [](const char* patch) {
    const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(Config(patch));
    EXPECT_TRUE(config.ok()) << patch << config.status();
    return config.ok() ? config->rope : RopeConfig{};
  };
  constexpr char kLlama3[] = R"("rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4)";
  const auto llama3 = [&](const std::string& inside, const std::string& beside) {
    return rope(
        ("{\"max_position_embeddings\":512,\"rope_scaling\":{" + std::string(kLlama3) + inside + "}" + beside + "}")
            .c_str());
  };
  EXPECT_EQ(llama3("", "").scaling.original_max_position, 512) << "neither says it";
  EXPECT_EQ(llama3("", R"(,"original_max_position_embeddings":64)").scaling.original_max_position, 64);
  EXPECT_EQ(llama3(R"(,"original_max_position_embeddings":32)", R"(,"original_max_position_embeddings":64)")
                .scaling.original_max_position,
            64)
      << "the key beside the object wins";
  EXPECT_EQ(rope(R"({"rope_scaling":{"type":"linear","factor":0.5}})").scaling.factor, 0.5f);
  EXPECT_EQ(rope(R"({"rope_scaling":{"type":"linear","rope_type":"dynamic","factor":2}})").scaling.kind,
            RopeScaling::Kind::kDynamic);
  EXPECT_EQ(rope(R"({"rope_theta":5,"rope_parameters":{"rope_theta":7}})").theta, 7.0f);
  EXPECT_EQ(rope(R"({"rope_theta":5,"rope_scaling":{},"rope_parameters":{"type":"linear","factor":2}})").scaling.kind,
            RopeScaling::Kind::kLinear);
  const RopeConfig both = rope(R"({"rope_scaling":{"type":"linear","factor":2},"rope_parameters":{"rope_theta":7}})");
  EXPECT_EQ(both.scaling.kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ(both.theta, 10000.0f) << "rope_scaling stands in rope_parameters' place, with all it has";
}

TEST(LlamaConfig, YarnInfersWhatIsNotSaid) {
  const auto yarn = [](const std::string& more) {
    const std::string patch = R"({"max_position_embeddings":1024,"rope_scaling":{"rope_type":"yarn")" + more + "}}";
    const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(Config(patch.c_str()));
    EXPECT_TRUE(config.ok()) << config.status();
    return config.ok() ? config->rope : RopeConfig{};
  };
  const RopeConfig plain = yarn(R"(,"factor":4,"original_max_position_embeddings":256)");
  EXPECT_FLOAT_EQ(plain.scaling.attention_factor, 0.1f * std::log(4.0f) + 1);
  EXPECT_EQ(plain.scaling.beta_fast, 32.0f);
  EXPECT_EQ(plain.scaling.beta_slow, 1.0f);
  EXPECT_TRUE(plain.scaling.truncate);
  EXPECT_EQ(plain.longest_context, 1024);
  EXPECT_EQ(yarn(R"(,"factor":null,"original_max_position_embeddings":128)").scaling.factor, 8.0f);
  EXPECT_EQ(yarn(R"(,"factor":4)").scaling.original_max_position, 1024);
  EXPECT_EQ(yarn(R"(,"factor":4)").longest_context, 4096);
  EXPECT_EQ(yarn(R"(,"factor":4,"attention_factor":1.5)").scaling.attention_factor, 1.5f);
  EXPECT_FLOAT_EQ(yarn(R"(,"factor":40,"mscale":1,"mscale_all_dim":0.5)").scaling.attention_factor,
                  (0.1f * std::log(40.0f) + 1) / (0.05f * std::log(40.0f) + 1));
  EXPECT_EQ(yarn(R"(,"factor":4,"beta_fast":0,"beta_slow":2,"truncate":false)").scaling.beta_fast, 32.0f);
  EXPECT_FALSE(yarn(R"(,"factor":4,"truncate":false)").scaling.truncate);
}

TEST(LlamaConfig, ATruncateOfNullIsPythonsNoneWhichIsFalse) {
  std::string json = Config(R"({"rope_scaling":{"rope_type":"yarn","factor":4,"truncate":"?"}})");
  json.replace(json.find(R"("?")"), 3, "null");
  const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FALSE(config->rope.scaling.truncate);
}

TEST(LlamaConfig, AnOriginalLengthMayBeWrittenAsAFloat) {
  const auto original = [](const std::string& length, bool inside) {
    const std::string key = R"(,"original_max_position_embeddings":)" + length;
    const std::string patch =
        R"({"rope_scaling":{"rope_type":"yarn","factor":2)" + (inside ? key : "") + "}" + (inside ? "" : key) + "}";
    const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(Config(patch.c_str()));
    return config.ok() ? config->rope.scaling.original_max_position : -1;
  };
  for (const bool inside : {true, false}) {
    EXPECT_EQ(original("32.0", inside), 32);
    EXPECT_EQ(original("8.192e3", inside), 8192);
    for (const char* bad : {"32.5", "0.0", "-4.0", "1e300", "2147483648.0", "\"32\""}) {
      EXPECT_EQ(original(bad, inside), -1) << bad;
    }
  }
}

TEST(LlamaConfig, TwoPlacesThatDisagreeAreWarnings) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"rope_scaling":{"type":"linear","rope_type":"dynamic","factor":2}})", "rope_type counts"},
      {R"({"rope_theta":5,"rope_parameters":{"rope_theta":7}})", "rope_theta is 7, beside the 5 of config.json"},
      {R"({"rope_scaling":{"type":"linear","factor":2},"rope_parameters":{"rope_theta":10000.0}})",
       "rope_scaling and rope_parameters differ"},
      {R"({"original_max_position_embeddings":64,"rope_scaling":{"rope_type":"yarn","factor":2,
           "original_max_position_embeddings":32}})",
       "original_max_position_embeddings is 32, beside the 64"},
      {R"({"rope_scaling":{"type":"linear","factor":2,"fcator":3}})", "unknown key \"fcator\""},
      {R"({"hidden_layers":3,"attention_heads":2})",
       "unknown keys, ignored as by transformers: attention_heads, hidden_layers"},
  };
  for (const auto& [patch, message] : cases) {
    const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(Config(patch));
    ASSERT_TRUE(config.ok()) << patch << config.status();
    EXPECT_THAT(config->warnings, ::testing::ElementsAre(HasSubstr(message))) << patch;
  }
  for (const char* same : {R"({"rope_theta":7,"rope_parameters":{"rope_theta":7.0}})",
                           R"({"rope_scaling":{"type":"linear","rope_type":"linear","factor":2}})"}) {
    EXPECT_TRUE(ParseLlamaConfig(Config(same))->warnings.empty()) << same;
  }
}

TEST(LlamaConfig, AMistralHasItsFamilysDefaults) {
  constexpr char kMistral[] =
      R"({"architectures":["MistralForCausalLM"],"num_attention_heads":8,"attention_bias":true})";
  const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(Config(kMistral));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->kv_heads, 8);
  EXPECT_EQ(config->max_position, 131072);
  EXPECT_EQ(config->sliding_window, 4096);
  EXPECT_FALSE(config->attention_bias) << "the class has no such key";
  EXPECT_TRUE(
      ParseLlamaConfig(Config(R"({"architectures":null,"model_type":"mistral","num_attention_heads":8})")).ok());
}

TEST(LlamaConfig, AWindowIsReadHoweverItIsSaid) {
  const std::pair<const char*, int64_t> cases[] = {
      {R"({"sliding_window":16})", 16},
      {R"({"sliding_window":null})", 0},
      {R"({})", 0},
      {R"({"sliding_window":16,"use_sliding_window":false})", 0},
      {R"({"sliding_window":16,"layer_types":["full_attention","full_attention"]})", 0},
      {R"({"sliding_window":16,"layer_types":["full_attention","sliding_attention"]})", 16}};
  for (const auto& [patch, window] : cases) {
    const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(Config(patch));
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->sliding_window, window) << patch;
  }
  // A null in the text of a Mistral is no window; Config() would drop the key.
  std::string text = Config(R"({"architectures":["MistralForCausalLM"],"num_key_value_heads":4})");
  text.back() = ',';
  EXPECT_EQ(ParseLlamaConfig(text + R"("sliding_window":null})")->sliding_window, 0);
}

TEST(LlamaConfig, KeysOfOtherGraphsThatDoNothingLoad) {
  const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(Config(
      R"({"attn_logit_softcapping":0,"logits_scaling":1.0,"attention_multiplier":0.25,"qk_norm":false,"num_experts":0,
          "rope_interleaved":false,"clip_qkv":0,"residual_multiplier":1,"query_pre_attn_scalar":16,"pretraining_tp":2,
          "partial_rotary_factor":1.0,"position_embedding_type":"rope","is_encoder_decoder":false,"hidden_act":"swish",
          "temperature":0.7,"use_cache":false,"transformers.js_config":{"dtype":"q4"},"torch_dtype":"float16"})"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->warnings.empty()) << config->warnings[0];
}

TEST(LlamaConfig, RefusesBadValues) {
  struct Case {
    const char* patch;
    absl::StatusCode code;
    const char* message;
  };
  const Case cases[] = {
      {R"({"architectures":["Qwen2ForCausalLM"]})", kUnimplemented,
       "architectures is [\"Qwen2ForCausalLM\"], supported are LlamaForCausalLM and MistralForCausalLM"},
      {R"({"architectures":["LlamaForCausalLM","LlamaModel"]})", kUnimplemented, "architectures"},
      {R"({"architectures":[]})", kUnimplemented, "architectures names none and model_type is \"\""},
      {R"({"architectures":[7]})", kUnimplemented, "architectures is [7]"},
      {R"({"architectures":"GPT2LMHeadModel"})", kUnimplemented, "architectures is \"GPT2LMHeadModel\""},
      {R"({"architectures":null})", kUnimplemented, "architectures names none and model_type is \"\""},
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
      {R"({"attention_bias":2})", kInvalid, "attention_bias is 2"},
      {R"({"eos_token_id":"</s>"})", kInvalid, "eos_token_id"},
      {R"({"eos_token_id":[1,2.5]})", kInvalid, "eos_token_id"},
      {R"({"rope_scaling":"linear"})", kInvalid, "rope_scaling is \"linear\", expected an object"},
      {R"({"rope_scaling":{"type":"longrope","factor":2}})", kUnimplemented,
       "rope type \"longrope\" is not supported (default, linear, dynamic, yarn, llama3)"},
      {R"({"rope_scaling":{"type":"su","factor":2}})", kUnimplemented, "rope type \"su\""},
      {R"({"rope_scaling":{"type":7}})", kInvalid, "type is 7"},
      {R"({"rope_scaling":{"type":"dynamic"}})", kInvalid, "factor is missing"},
      {R"({"head_dim":2,"rope_scaling":{"type":"dynamic","factor":2}})", kInvalid, "head_dim of at least 4"},
      {R"({"rope_scaling":{"type":"yarn","factor":2},"rope_theta":1})", kInvalid, "yarn needs more than 1"},
      {R"({"rope_scaling":{"type":"yarn","factor":2,"attention_factor":0}})", kInvalid, "attention_factor is 0"},
      {R"({"rope_scaling":{"type":"yarn","factor":2,"original_max_position_embeddings":0}})", kInvalid,
       "original_max_position_embeddings is 0"},
      {R"({"rope_parameters":{"full_attention":{"rope_type":"default"}}})", kUnimplemented, "by kind of layer"},
      {R"({"rope_scaling":{"type":"default","mrope_section":[1,2]}})", kUnimplemented, "mrope_section"},
      {R"({"rope_scaling":{"type":"linear"}})", kInvalid, "factor is missing"},
      {R"({"rope_scaling":{"type":"linear","factor":0}})", kInvalid, "factor is 0"},
      {R"({"rope_scaling":{"rope_type":"llama3","factor":8}})", kInvalid, "low_freq_factor is missing"},
      {R"({"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4,"original_max_position_embeddings":8192}})",
       kInvalid, "high_freq_factor is not above low_freq_factor"},
      {R"({"rope_parameters":{"rope_theta":0}})", kInvalid, "rope_theta is 0"},
      {R"({"rope_parameters":{"partial_rotary_factor":0.5}})", kUnimplemented, "partial_rotary_factor"},
      {R"({"partial_rotary_factor":0.5})", kUnimplemented, "partial_rotary_factor"},
      {R"({"layer_types":["full_attention","chunked_attention"]})", kUnimplemented, "layer_types holds \"chunked_"},
      {R"({"sliding_window":-1})", kInvalid, "sliding_window is -1"},
      {R"({"attn_logit_softcapping":50.0})", kUnimplemented, "attn_logit_softcapping 50.0 is not supported"},
      {R"({"final_logit_softcapping":30})", kUnimplemented, "final_logit_softcapping 30"},
      {R"({"attention_multiplier":0.5})", kUnimplemented, "attention_multiplier 0.5"},
      {R"({"logits_scaling":8.0})", kUnimplemented, "logits_scaling 8.0"},
      {R"({"embedding_multiplier":12})", kUnimplemented, "embedding_multiplier 12"},
      {R"({"residual_multiplier":0.22})", kUnimplemented, "residual_multiplier 0.22"},
      {R"({"clip_qkv":8.0})", kUnimplemented, "clip_qkv 8.0"},
      {R"({"qk_norm":true})", kUnimplemented, "qk_norm true"},
      {R"({"num_local_experts":8})", kUnimplemented, "num_local_experts 8"},
      {R"({"no_rope_layers":[1,1,0]})", kUnimplemented, "no_rope_layers an array of 3"},
      {R"({"rope_interleaved":true})", kUnimplemented, "rope_interleaved true"},
      {R"({"position_embedding_type":"alibi"})", kUnimplemented, "position_embedding_type \"alibi\""},
      {R"({"quantization":{"bits":4}})", kUnimplemented, "quantization an object of 1"},
      {R"({"is_encoder_decoder":true})", kUnimplemented, "is_encoder_decoder true"},
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
