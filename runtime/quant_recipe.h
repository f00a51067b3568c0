// Which scheme each weight of a model gets: a default, ordered rules, and what happens where a scheme does not fit.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>

#include "kernels/quant.h"

namespace quantd {

enum class WeightRole : uint8_t {
  kLinear,
  kEmbedding,  // a gather table: stays as it is stored unless a rule names it
  kTiedTable,  // embedding and output head at once: int4 by default becomes int8, which a table of rare rows needs
};

// True where `name` matches `pattern`, in which * stands for any text and ? for any one character.
bool GlobMatch(std::string_view pattern, std::string_view name);

class QuantRecipe {
 public:
  // `weights` empty: every tensor as the checkpoint stores it. InvalidArgument: an unknown scheme.
  static absl::StatusOr<QuantRecipe> Parse(const std::string& weights,
                                           const std::vector<std::pair<std::string, std::string>>& rules);

  struct Choice {
    QuantScheme scheme;
    std::string reason;  // "checkpoint", "default", "rule PATTERN", "tied table: …", "fallback: …"
  };
  // `layer` is the tensor's name without ".weight". Where a group does not divide K the largest smaller one of 128, 64,
  // 32 that does is taken, else bf16, as int8_dynamic_activation_int8_weight does for K <= 16 (torchao's limit).
  Choice Choose(std::string_view layer, WeightRole role, int64_t k, const QuantScheme& stored) const;

  // InvalidArgument: a rule that matches none of `layers`, which is a typing error.
  absl::Status CheckRules(const std::vector<std::string>& layers) const;

 private:
  bool has_default_ = false;
  QuantScheme default_;
  std::vector<std::pair<std::string, QuantScheme>> rules_;
};

}  // namespace quantd
