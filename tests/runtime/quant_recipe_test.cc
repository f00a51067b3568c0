#include "runtime/quant_recipe.h"

#include <gtest/gtest.h>

namespace quantd {
namespace {

QuantRecipe Parse(const std::string& weights, std::vector<std::pair<std::string, std::string>> rules = {}) {
  auto recipe = QuantRecipe::Parse(weights, rules);
  EXPECT_TRUE(recipe.ok()) << recipe.status();
  return *recipe;
}

const QuantScheme kStored = {.weight = WeightFormat::kF16};

TEST(GlobMatchTest, StarAndQuestionMark) {
  EXPECT_TRUE(GlobMatch("*", ""));
  EXPECT_TRUE(GlobMatch("model.layers.*.mlp.*", "model.layers.12.mlp.up_proj"));
  EXPECT_TRUE(GlobMatch("*.k_proj", "model.layers.0.self_attn.k_proj"));
  EXPECT_TRUE(GlobMatch("a?c", "abc"));
  EXPECT_FALSE(GlobMatch("a?c", "ac"));
  EXPECT_FALSE(GlobMatch("*.k_proj", "model.layers.0.self_attn.k_proj.x"));
  EXPECT_FALSE(GlobMatch("", "a"));
  // A pattern that backtracks: linear in practice, never exponential.
  EXPECT_FALSE(GlobMatch("*a*a*a*a*a*a*a*a*b", std::string(2000, 'a')));
}

TEST(QuantRecipeTest, EmptyKeepsTheCheckpoint) {
  QuantRecipe::Choice choice = Parse("").Choose("lm_head", WeightRole::kLinear, 64, kStored);
  EXPECT_EQ(choice.scheme, kStored);
  EXPECT_EQ(choice.reason, "checkpoint");
}

TEST(QuantRecipeTest, ARuleThatMatchesNoLayerIsNamed) {
  const QuantRecipe recipe = Parse("bf16", {{"*.k_proj", "bf16"}, {"*.k_prok", "bf16"}});
  const absl::Status status = recipe.CheckRules({"a.k_proj", "a.q_proj"});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "rules: pattern \"*.k_prok\" matches no layer of the model, whose last is a.q_proj");
  EXPECT_TRUE(recipe.CheckRules({"a.k_proj", "a.k_prok"}).ok());
}

TEST(QuantRecipeTest, DefaultAppliesToLinearsAndNotToGatherTables) {
  QuantRecipe recipe = Parse("int8_weight_only");
  EXPECT_EQ(recipe.Choose("lm_head", WeightRole::kLinear, 64, kStored).scheme.weight, WeightFormat::kInt8);
  EXPECT_EQ(recipe.Choose("model.embed_tokens", WeightRole::kEmbedding, 64, kStored).scheme, kStored);
}

TEST(QuantRecipeTest, TiedTableIsInt8UnderInt4) {
  QuantRecipe::Choice choice =
      Parse("int4_weight_only,group_size=64").Choose("model.embed_tokens", WeightRole::kTiedTable, 64, kStored);
  EXPECT_EQ(choice.scheme.weight, WeightFormat::kInt8);
  EXPECT_EQ(choice.reason, "tied table: int8 for int4");
}

TEST(QuantRecipeTest, FirstRuleThatMatchesWins) {
  QuantRecipe recipe = Parse("int8_weight_only", {{"*.down_proj", "bf16"}, {"*", "f32"}});
  EXPECT_EQ(recipe.Choose("x.down_proj", WeightRole::kLinear, 64, kStored).scheme.weight, WeightFormat::kBF16);
  EXPECT_EQ(recipe.Choose("model.embed_tokens", WeightRole::kEmbedding, 64, kStored).scheme.weight, WeightFormat::kF32);
}

TEST(QuantRecipeTest, GroupFallsBackToTheLargestThatDivides) {
  QuantRecipe recipe = Parse("int4_weight_only,group_size=128");
  QuantRecipe::Choice choice = recipe.Choose("x", WeightRole::kLinear, 288, kStored);
  EXPECT_EQ(choice.scheme.group_k, 32);
  EXPECT_EQ(choice.reason, "fallback: K 288 is no multiple of group 128");
  EXPECT_EQ(recipe.Choose("x", WeightRole::kLinear, 56, kStored).scheme.weight, WeightFormat::kBF16);
}

TEST(QuantRecipeTest, TooFewInputsForQuantizedActivations) {
  QuantRecipe recipe = Parse("int8_dynamic_activation_int8_weight");
  EXPECT_EQ(recipe.Choose("x", WeightRole::kLinear, 16, kStored).scheme.weight, WeightFormat::kBF16);
  EXPECT_EQ(recipe.Choose("x", WeightRole::kLinear, 17, kStored).scheme.activation, ActivationFormat::kInt8PerToken);
}

TEST(QuantRecipeTest, UnknownSchemeIsRefusedByName) {
  auto recipe = QuantRecipe::Parse("int3_weight_only", {});
  EXPECT_EQ(recipe.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(recipe.status().message().find("int3_weight_only"), absl::string_view::npos);
}

}  // namespace
}  // namespace quantd
