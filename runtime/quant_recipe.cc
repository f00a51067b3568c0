#include "runtime/quant_recipe.h"

#include <algorithm>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace quantd {
namespace {

QuantScheme Bf16() { return QuantScheme{}; }

// The scheme itself, or what stands in for it where it does not fit K inputs.
QuantRecipe::Choice Fit(const QuantScheme& scheme, int64_t k, std::string reason) {
  if (scheme.activation == ActivationFormat::kInt8PerToken && k <= 16) {
    return {Bf16(), absl::StrCat("fallback: ", k, " inputs are too few for quantized activations")};
  }
  if (!scheme.quantized() || scheme.group_k == 0 || k % scheme.group_k == 0) return {scheme, std::move(reason)};
  std::string why = absl::StrCat("fallback: K ", k, " is no multiple of group ", scheme.group_k);
  for (int group : {128, 64, 32}) {
    if (group >= scheme.group_k || k % group != 0) continue;
    QuantScheme smaller = scheme;
    smaller.group_k = group;
    return {smaller, why};
  }
  return {Bf16(), why};
}

}  // namespace

bool GlobMatch(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || (pattern[p] != '*' && pattern[p] == name[n]))) {
      ++p, ++n;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++, resume = n;
    } else if (star != std::string_view::npos) {
      p = star + 1, n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

absl::StatusOr<QuantRecipe> QuantRecipe::Parse(const std::string& weights,
                                               const std::vector<std::pair<std::string, std::string>>& rules) {
  QuantRecipe recipe;
  if (!weights.empty()) {
    recipe.has_default_ = true;
    QD_ASSIGN_OR_RETURN(recipe.default_, ParseQuantScheme(weights));
  }
  for (const auto& [pattern, name] : rules) {
    QD_ASSIGN_OR_RETURN(QuantScheme scheme, ParseQuantScheme(name));
    recipe.rules_.emplace_back(pattern, scheme);
  }
  return recipe;
}

QuantRecipe::Choice QuantRecipe::Choose(std::string_view layer, WeightRole role, int64_t k,
                                        const QuantScheme& stored) const {
  for (const auto& [pattern, scheme] : rules_) {
    if (GlobMatch(pattern, layer)) return Fit(scheme, k, absl::StrCat("rule ", pattern));
  }
  if (!has_default_ || role == WeightRole::kEmbedding) return {stored, "checkpoint"};
  if (role == WeightRole::kTiedTable && default_.weight == WeightFormat::kInt4) {
    QuantScheme int8;
    int8.weight = WeightFormat::kInt8;
    int8.param_dtype = DType::kF32;
    return {int8, "tied table: int8 for int4"};
  }
  return Fit(default_, k, "default");
}

absl::Status QuantRecipe::CheckRules(const std::vector<std::string>& layers) const {
  for (const auto& [glob, scheme] : rules_) {
    const bool matches = std::any_of(layers.begin(), layers.end(),
                                     [&pattern = glob](const std::string& layer) { return GlobMatch(pattern, layer); });
    if (!matches) {
      return WithField(absl::InvalidArgumentError(absl::StrCat("rules: pattern \"", glob,
                                                               "\" matches no layer of the model, whose last is ",
                                                               layers.empty() ? "missing" : layers.back())),
                       "spec.quantization.rules");
    }
  }
  return absl::OkStatus();
}

}  // namespace quantd
