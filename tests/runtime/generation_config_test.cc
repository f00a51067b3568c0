#include "runtime/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace quantd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

absl::StatusOr<GenerationDefaults> Parse(std::string_view text) { return ParseGenerationConfig(text, 256); }

TEST(GenerationConfig, GreedyUnlessItSamples) {
  for (const char* text : {"{}", R"({"temperature":0.7,"top_k":5})", R"({"do_sample":false,"temperature":0.7})"}) {
    const absl::StatusOr<GenerationDefaults> defaults = Parse(text);
    ASSERT_TRUE(defaults.ok()) << defaults.status();
    EXPECT_EQ(defaults->temperature, 0.0f) << text;
    EXPECT_EQ(defaults->top_k, 0) << text;
  }
}

TEST(GenerationConfig, SamplesAsTransformersDoes) {
  const absl::StatusOr<GenerationDefaults> bare = Parse(R"({"do_sample":true})");
  ASSERT_TRUE(bare.ok()) << bare.status();
  EXPECT_EQ(bare->temperature, 1.0f);
  EXPECT_EQ(bare->top_k, 50);
  EXPECT_EQ(bare->top_p, 1.0f);
  const absl::StatusOr<GenerationDefaults> all =
      Parse(R"({"do_sample":true,"temperature":0.6,"top_p":0.9,"top_k":0,"min_p":0.05,"eos_token_id":[200,201]})");
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->temperature, 0.6f);
  EXPECT_EQ(all->top_p, 0.9f);
  EXPECT_EQ(all->top_k, 0);
  EXPECT_EQ(all->min_p, 0.05f);
  EXPECT_EQ(all->eos_token_ids, (std::vector<int32_t>{200, 201}));
}

TEST(GenerationConfig, RefusesBadValues) {
  for (const char* text : {"[]",
                           R"({"do_sample":"yes"})",
                           R"({"do_sample":2})",
                           R"({"do_sample":true,"temperature":-1})",
                           R"({"do_sample":true,"top_p":0})",
                           R"({"do_sample":true,"top_p":1.5})",
                           R"({"do_sample":true,"top_k":-2})",
                           R"({"do_sample":true,"min_p":2})",
                           R"({"eos_token_id":{}})",
                           R"({"eos_token_id":[1.5]})",
                           R"({"repetition_penalty":0})",
                           R"({"repetition_penalty":"1.1"})",
                           R"({"presence_penalty":101})",
                           R"({"frequency_penalty":[]})",
                           R"({"no_repeat_ngram_size":"x"})",
                           R"({"suppress_tokens":["a"]})",
                           R"({"begin_suppress_tokens":{}})",
                           R"({"bad_words_ids":7})",
                           R"({"bad_words_ids":[7]})",
                           R"({"bad_words_ids":[[]]})",
                           R"({"bad_words_ids":[["a"]]})",
                           R"({"max_new_tokens":0})",
                           R"({"max_length":-1})",
                           R"({"min_new_tokens":"x"})",
                           R"({"min_length":1.5})"}) {
    EXPECT_EQ(Parse(text).status().code(), kInvalid) << text;
  }
}

TEST(GenerationConfig, PenaltiesSuppressedTokensAndLengthsHoldForGreedyToo) {
  const absl::StatusOr<GenerationDefaults> all = Parse(
      R"({"repetition_penalty":1.1,"presence_penalty":0.5,"frequency_penalty":0.25,"no_repeat_ngram_size":3,
          "suppress_tokens":[7,1,7],"begin_suppress_tokens":[220,2],"bad_words_ids":[[9],[2]],"eos_token_id":2,
          "max_new_tokens":64,"max_length":100,"min_new_tokens":2,"min_length":10})");
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->temperature, 0.0f);
  EXPECT_EQ(all->repetition_penalty, 1.1f);
  EXPECT_EQ(all->presence_penalty, 0.5f);
  EXPECT_EQ(all->frequency_penalty, 0.25f);
  EXPECT_EQ(all->no_repeat_ngram_size, 3);
  EXPECT_THAT(all->suppress_tokens, ElementsAre(1, 7, 9));  // a bad word that ends the output may still end it
  EXPECT_THAT(all->begin_suppress_tokens, ElementsAre(2, 220));
  EXPECT_EQ(all->max_new_tokens, 64);
  EXPECT_EQ(all->max_length, 100);
  EXPECT_EQ(all->min_new_tokens, 2);
  EXPECT_EQ(all->min_length, 10);
  EXPECT_THAT(all->warnings, IsEmpty());
}

TEST(GenerationConfig, AFileThatSaysNothingOfSamplingIsKnown) {
  EXPECT_FALSE(Parse(R"({"eos_token_id":2})")->says_do_sample);
  EXPECT_TRUE(Parse(R"({"do_sample":false})")->says_do_sample);
  EXPECT_TRUE(Parse(R"({"do_sample":true})")->says_do_sample);
}

TEST(GenerationConfig, ANullIsAKeyThatIsNotThere) {
  for (const char* key : {"do_sample",
                          "temperature",
                          "top_k",
                          "top_p",
                          "min_p",
                          "repetition_penalty",
                          "presence_penalty",
                          "frequency_penalty",
                          "no_repeat_ngram_size",
                          "suppress_tokens",
                          "begin_suppress_tokens",
                          "bad_words_ids",
                          "eos_token_id",
                          "max_new_tokens",
                          "max_length",
                          "min_new_tokens",
                          "min_length",
                          "num_beams",
                          "stop_strings",
                          "watermarking_config",
                          "typical_p",
                          "early_stopping",
                          "use_cache"}) {
    const auto found = Parse("{\"" + std::string(key) + "\": null}");
    ASSERT_TRUE(found.ok()) << key << ": " << found.status();
    EXPECT_FALSE(found->says_do_sample) << key;
    EXPECT_THAT(found->warnings, IsEmpty()) << key;
    EXPECT_TRUE(ParseGenerationKeys("{\"" + std::string(key) + "\": null}", 256).ok()) << key;
  }
}

TEST(GenerationConfig, IdsOutsideTheVocabularyAreWarnings) {
  const absl::StatusOr<GenerationDefaults> defaults =
      Parse(R"({"eos_token_id":[2,256],"suppress_tokens":[-1,5],"begin_suppress_tokens":[9223372036854775807]})");
  ASSERT_TRUE(defaults.ok()) << defaults.status();
  EXPECT_THAT(defaults->eos_token_ids, ElementsAre(2));
  EXPECT_THAT(defaults->suppress_tokens, ElementsAre(5));
  EXPECT_THAT(defaults->begin_suppress_tokens, IsEmpty());
  EXPECT_THAT(defaults->warnings,
              ElementsAre(HasSubstr("eos_token_id"), HasSubstr("suppress_tokens"), HasSubstr("begin_suppress_tokens")));
}

TEST(GenerationConfig, WhatIsNotBuiltIsNamedInAWarning) {
  struct Case {
    const char* text;
    const char* warning;
  };
  const Case cases[] = {{R"({"num_beams":4})", "num_beams 4 is not supported"},
                        {R"({"stop_strings":["END"]})", "stop_strings"},
                        {R"({"max_time":2.5})", "max_time 2.5"},
                        {R"({"sequence_bias":[[[5],-10.0]]})", "sequence_bias"},
                        {R"({"guidance_scale":1.5})", "guidance_scale 1.5"},
                        {R"({"forced_eos_token_id":2})", "forced_eos_token_id 2"},
                        {R"({"forced_bos_token_id":0})", "forced_bos_token_id 0"},
                        {R"({"encoder_repetition_penalty":1.2})", "encoder_repetition_penalty 1.2"},
                        {R"({"exponential_decay_length_penalty":[10,1.5]})", "exponential_decay_length_penalty"},
                        {R"({"watermarking_config":{"bias":2.5}})", "watermarking_config"},
                        {R"({"penalty_alpha":0.6})", "penalty_alpha 0.6"},
                        {R"({"token_healing":true})", "token_healing true"},
                        {R"({"bad_words_ids":[[4,5],[6]]})", "1 of bad_words_ids have several tokens"},
                        {R"({"do_sample":true,"typical_p":0.9})", "typical_p 0.9"},
                        {R"({"do_sample":true,"eta_cutoff":0.0003})", "eta_cutoff"},
                        {R"({"temperature":0.7})", "temperature 0.7 has no effect without do_sample true"},
                        {R"({"do_sample":false,"top_p":0.9})", "top_p 0.9 has no effect"},
                        {R"({"repetition_penality":1.3})", "unknown key \"repetition_penality\""},
                        {R"({"a\u0007b":1})", "unknown key \"a\\x07b\""}};
  for (const Case& c : cases) {
    const absl::StatusOr<GenerationDefaults> defaults = Parse(c.text);
    ASSERT_TRUE(defaults.ok()) << c.text << defaults.status();
    EXPECT_THAT(defaults->warnings, ElementsAre(HasSubstr(c.warning))) << c.text;
  }
}

TEST(GenerationConfig, WhatDoesNothingIsNoWarning) {
  for (const char* text :
       {R"({"num_beams":1,"num_return_sequences":1,"typical_p":1.0,"eta_cutoff":0.0,"guidance_scale":1,
            "forced_eos_token_id":null,"remove_invalid_values":false,"constraints":[],"temperature":1.0,"top_k":50})",
        R"({"_from_model_config":true,"bos_token_id":1,"pad_token_id":[2],"transformers_version":"4.30.0",
            "use_cache":false,"cache_implementation":"static","output_scores":true,"length_penalty":2.0})",
        R"({"do_sample":false,"typical_p":0.9,"epsilon_cutoff":0.1})"}) {
    const absl::StatusOr<GenerationDefaults> defaults = Parse(text);
    ASSERT_TRUE(defaults.ok()) << text << defaults.status();
    EXPECT_THAT(defaults->warnings, IsEmpty()) << text;
  }
}

TEST(GenerationConfig, WithoutTheFileConfigJsonSaysIt) {
  constexpr char kConfig[] =
      R"({"do_sample":true,"temperature":0.6,"max_length":4096,"repetition_penalty":1.2,"num_beams":2,
          "eos_token_id":2,"hidden_size":64,"pad_token_id":0})";
  const absl::StatusOr<GenerationDefaults> legacy = ParseGenerationKeys(kConfig, 256);
  ASSERT_TRUE(legacy.ok()) << legacy.status();
  EXPECT_EQ(legacy->temperature, 0.6f);
  EXPECT_EQ(legacy->max_length, 4096);
  EXPECT_EQ(legacy->repetition_penalty, 1.2f);
  EXPECT_THAT(legacy->warnings, ElementsAre("config.json: num_beams 2 is not supported and has no effect"));
  EXPECT_EQ(ParseGenerationKeys(R"({"max_length":20})", 256)->max_length, std::nullopt);
}

TEST(GenerationConfig, SuppressingEveryTokenIsRefused) {
  const absl::Status status = ParseGenerationConfig(R"({"suppress_tokens":[0,1,2]})", 3).status();
  EXPECT_EQ(status.code(), kInvalid);
  EXPECT_THAT(std::string(status.message()), HasSubstr("leaves no token"));
}

// As transformers takes them; -1 for top_k is vLLM's.
TEST(GenerationConfig, ValuesThatOtherWritersSpellOtherwiseAreReadAsTheyMean) {
  EXPECT_EQ(Parse(R"({"do_sample":1,"temperature":0.5})")->temperature, 0.5f);
  EXPECT_EQ(Parse(R"({"do_sample":0,"temperature":0.5})")->temperature, 0.0f);
  EXPECT_EQ(Parse(R"({"do_sample":true,"top_k":-1})")->top_k, 0);
  EXPECT_EQ(Parse(R"({"do_sample":true,"top_k":40.0})")->top_k, 40);
  EXPECT_EQ(Parse(R"({"max_new_tokens":64.0})")->max_new_tokens, 64);
  EXPECT_EQ(Parse(R"({"min_length":-1,"min_new_tokens":-1})")->min_length, 0);
  EXPECT_EQ(Parse(R"({"no_repeat_ngram_size":-1})")->no_repeat_ngram_size, 0);
  EXPECT_EQ(Parse(R"({"suppress_tokens":[3.0]})")->suppress_tokens, std::vector<int32_t>{3});
}

}  // namespace
}  // namespace quantd
