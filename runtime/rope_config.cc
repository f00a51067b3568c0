#include "runtime/rope_config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/json.h"
#include "runtime/json_members.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

using Kind = RopeScaling::Kind;
constexpr int64_t kMaxPosition = std::numeric_limits<int32_t>::max();
constexpr float kMaxFloat = std::numeric_limits<float>::max();
constexpr float kMaxFactor = 65536;

struct KnownKind {
  std::string_view name;
  Kind kind;
};
constexpr KnownKind kKinds[] = {{"default", Kind::kNone},
                                {"linear", Kind::kLinear},
                                {"dynamic", Kind::kDynamic},
                                {"yarn", Kind::kYarn},
                                {"llama3", Kind::kLlama3}};
constexpr std::string_view kKnownKeys[] = {"rope_type",        "type",
                                           "rope_theta",       "partial_rotary_factor",
                                           "factor",           "original_max_position_embeddings",
                                           "attention_factor", "beta_fast",
                                           "beta_slow",        "mscale",
                                           "mscale_all_dim",   "truncate",
                                           "low_freq_factor",  "high_freq_factor"};

// rope_scaling, which transformers prefers, or rope_parameters; null where neither says anything.
const Json* FindScaling(const Json& config, std::string& name, std::vector<std::string>& warnings) {
  const Json* scaling = FindMember(config, "rope_scaling");
  const Json* parameters = FindMember(config, "rope_parameters");
  if (scaling != nullptr && HasNoEffect(*scaling, 0)) scaling = nullptr;
  if (parameters != nullptr && HasNoEffect(*parameters, 0)) parameters = nullptr;
  if (scaling != nullptr && parameters != nullptr && *scaling != *parameters) {
    warnings.push_back("config.json: rope_scaling and rope_parameters differ, rope_scaling counts");
  }
  name = scaling != nullptr ? "config.json: rope_scaling" : "config.json: rope_parameters";
  return scaling != nullptr ? scaling : parameters;
}

// The number `key` of the two places, where both have it and differ: `inner` counts unless `outer_wins`.
void WarnOfTwo(const JsonMembers& inner, const JsonMembers& outer, const Json& a, const Json& b, const char* key,
               bool outer_wins, std::vector<std::string>& warnings) {
  const Json* inside = FindMember(a, key);
  const Json* outside = FindMember(b, key);
  if (inside == nullptr || outside == nullptr || *inside == *outside) return;
  warnings.push_back(absl::StrCat(inner.name(), ": ", key, " is ", Excerpt(*inside), ", beside the ", Excerpt(*outside),
                                  " of ", outer.name(), "; the latter ", outer_wins ? "counts" : "does not count"));
}

absl::StatusOr<Kind> ParseKind(const Json& object, JsonMembers& members, std::vector<std::string>& warnings) {
  const std::string type = members.String("type", "default");
  const std::string kind = members.String("rope_type", type);
  QD_RETURN_IF_ERROR(members.status());
  if (members.Has("type") && members.Has("rope_type") && type != kind) {
    warnings.push_back(absl::StrCat(members.name(), ": rope_type is ", Excerpt(object["rope_type"]), " and type ",
                                    Excerpt(object["type"]), ", rope_type counts"));
  }
  const auto known = std::ranges::find(kKinds, std::string_view(kind), &KnownKind::name);
  if (known != std::end(kKinds)) return known->kind;
  return absl::UnimplementedError(absl::StrCat(members.name(), ": rope type \"", Printable(kind),
                                               "\" is not supported (default, linear, dynamic, yarn, llama3)"));
}

absl::Status CheckKeys(const Json& object, const std::string& name, std::vector<std::string>& warnings) {
  for (const auto& [key, value] : object.items()) {
    if (std::ranges::find(kKnownKeys, std::string_view(key)) != std::end(kKnownKeys)) continue;
    if (value.is_object()) {
      return absl::UnimplementedError(
          absl::StrCat(name, ": parameters by kind of layer (", Printable(key), ") are not supported"));
    }
    if (key == "mrope_section" || key == "long_factor" || key == "short_factor") {
      return absl::UnimplementedError(absl::StrCat(name, ": ", key, " is not supported"));
    }
    warnings.push_back(absl::StrCat(name, ": unknown key \"", Printable(key), "\", ignored as by transformers"));
  }
  return absl::OkStatus();
}

// A number where it is there and not 0, else `fallback`: Python's `x or fallback`.
float FloatOr(JsonMembers& members, const char* key, float fallback, float max) {
  const float value = members.Float(key, 0, 0, max);
  return value == 0 ? fallback : value;
}

// get_mscale of _compute_yarn_parameters.
double Mscale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1; }

// A null is Python's None there, which is false; only an absent key is true.
bool IsTruncated(const Json& object, JsonMembers& members) {
  return members.Bool("truncate", !object.contains("truncate"));
}

void ReadYarn(const Json& object, JsonMembers& members, float theta, int64_t max_position, RopeScaling& scaling) {
  if (!members.Has("factor")) {
    scaling.factor = static_cast<float>(max_position) / static_cast<float>(scaling.original_max_position);
  }
  scaling.beta_fast = FloatOr(members, "beta_fast", 32, kMaxFactor);
  scaling.beta_slow = FloatOr(members, "beta_slow", 1, kMaxFactor);
  scaling.truncate = IsTruncated(object, members);
  const float mscale = members.Float("mscale", 0, 0, kMaxFactor);
  const float mscale_all = members.Float("mscale_all_dim", 0, 0, kMaxFactor);
  const double factor = static_cast<double>(scaling.factor);
  const bool both = mscale != 0 && mscale_all != 0;
  const double inferred =
      both ? Mscale(factor, static_cast<double>(mscale)) / Mscale(factor, static_cast<double>(mscale_all))
           : Mscale(factor, 1);
  scaling.attention_factor =
      members.Float("attention_factor", static_cast<float>(inferred), 0, kMaxFactor, /*above_min=*/true);
  // The ramp's bounds divide by its logarithm.
  if (!(theta > 1)) members.Fail(absl::StrCat("rope_theta is ", theta, ", yarn needs more than 1"));
}

void ReadLlama3(JsonMembers& members, RopeScaling& scaling) {
  for (const char* key : {"low_freq_factor", "high_freq_factor"}) {
    if (!members.Has(key)) members.Fail(absl::StrCat(key, " is missing"));
  }
  scaling.low_freq_factor = members.Float("low_freq_factor", 1, 0, kMaxFactor, /*above_min=*/true);
  scaling.high_freq_factor = members.Float("high_freq_factor", 4, 0, kMaxFactor, /*above_min=*/true);
  // The formula divides by their difference.
  if (scaling.high_freq_factor <= scaling.low_freq_factor)
    members.Fail("high_freq_factor is not above low_freq_factor");
}

// standardize_rope_params: the key beside the object wins, and what nobody says is max_position_embeddings.
int64_t OriginalPositions(JsonMembers& inner, JsonMembers& outer, int64_t max_position) {
  constexpr char kKey[] = "original_max_position_embeddings";
  if (outer.Has(kKey)) return outer.Int(kKey, 1, 1, kMaxPosition);
  return inner.Int(kKey, max_position, 1, kMaxPosition);
}

int64_t Stretched(int64_t tokens, float factor, int64_t at_least) {
  const double stretched = static_cast<double>(tokens) * static_cast<double>(factor);
  return std::max(at_least, static_cast<int64_t>(std::min(stretched, static_cast<double>(kMaxPosition))));
}

absl::Status ReadScaling(const Json& object, JsonMembers& inner, JsonMembers& outer, int64_t max_position,
                         int64_t head_dim, RopeConfig& rope) {
  RopeScaling& scaling = rope.scaling;
  scaling.factor = inner.Float("factor", 1, 0, kMaxFactor, /*above_min=*/true);
  scaling.original_max_position =
      scaling.kind == Kind::kDynamic ? max_position : OriginalPositions(inner, outer, max_position);
  if (!inner.Has("factor") && scaling.kind != Kind::kYarn) inner.Fail("factor is missing");
  if (scaling.kind == Kind::kYarn) ReadYarn(object, inner, rope.theta, max_position, scaling);
  if (scaling.kind == Kind::kLlama3) ReadLlama3(inner, scaling);
  if (scaling.kind == Kind::kDynamic && head_dim < 4) {
    inner.Fail(absl::StrCat("rope type dynamic needs a head_dim of at least 4, it is ", head_dim));
  }
  if (scaling.kind != Kind::kLlama3) {
    const int64_t trained = scaling.kind == Kind::kYarn ? scaling.original_max_position : max_position;
    rope.longest_context = Stretched(trained, scaling.factor, max_position);
  }
  QD_RETURN_IF_ERROR(outer.status());
  return inner.status();
}

}  // namespace

absl::StatusOr<RopeConfig> ParseRopeConfig(const Json& config, int64_t max_position, int64_t head_dim,
                                           std::vector<std::string>& warnings) {
  RopeConfig rope;
  rope.longest_context = max_position;
  JsonMembers outer(config, "config.json");
  rope.theta = outer.Float("rope_theta", rope.theta, 0, kMaxFloat, /*above_min=*/true);
  float rotated = outer.Float("partial_rotary_factor", 1, 0, 1);
  std::string name;
  if (const Json* object = FindScaling(config, name, warnings)) {
    if (!object->is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(name, " is ", Excerpt(*object), ", expected an object"));
    }
    JsonMembers inner(*object, name);
    WarnOfTwo(inner, outer, *object, config, "rope_theta", /*outer_wins=*/false, warnings);
    rope.theta = inner.Float("rope_theta", rope.theta, 0, kMaxFloat, /*above_min=*/true);
    rotated = inner.Float("partial_rotary_factor", rotated, 0, 1);
    QD_ASSIGN_OR_RETURN(rope.scaling.kind, ParseKind(*object, inner, warnings));
    QD_RETURN_IF_ERROR(CheckKeys(*object, name, warnings));
    if (rope.scaling.kind == Kind::kYarn || rope.scaling.kind == Kind::kLlama3) {
      WarnOfTwo(inner, outer, *object, config, "original_max_position_embeddings", /*outer_wins=*/true, warnings);
    }
    if (rope.scaling.kind != Kind::kNone) {
      QD_RETURN_IF_ERROR(ReadScaling(*object, inner, outer, max_position, head_dim, rope));
    }
    QD_RETURN_IF_ERROR(inner.status());
  }
  QD_RETURN_IF_ERROR(outer.status());
  if (rotated != 1.0f) {
    return absl::UnimplementedError("config.json: partial_rotary_factor other than 1 is not supported");
  }
  return rope;
}

}  // namespace quantd
