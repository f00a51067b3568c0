#include "runtime/generation_config.h"

#include <algorithm>
#include <limits>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/json.h"
#include "runtime/json_members.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

constexpr JsonLimits kLimits = {.bytes = 4 << 20, .depth = 32};
constexpr char kOwnFile[] = "generation_config.json", kModelFile[] = "config.json";
constexpr size_t kMostEos = 1024, kMostSuppressed = 16384;

// What a key that is not built would do.
enum class Effect : uint8_t {
  kOutput,    // changes the output
  kSampling,  // the same, only where do_sample is true
  kNone,      // says how to compute, what to return or how to write the file: not what is generated
};
struct OtherKey {
  std::string_view name;
  Effect effect;
  double neutral = 0;  // the number that does nothing; false, "" and what is empty do nothing either
};
// Every key of transformers 5.24's GenerationConfig that Read does not take, and those that it dropped.
constexpr OtherKey kOtherKeys[] = {{"num_beams", Effect::kOutput, 1},
                                   {"num_beam_groups", Effect::kOutput, 1},
                                   {"num_return_sequences", Effect::kOutput, 1},
                                   {"penalty_alpha", Effect::kOutput},
                                   {"diversity_penalty", Effect::kOutput},
                                   {"dola_layers", Effect::kOutput},
                                   {"constraints", Effect::kOutput},
                                   {"force_words_ids", Effect::kOutput},
                                   {"stop_strings", Effect::kOutput},
                                   {"max_time", Effect::kOutput},
                                   {"sequence_bias", Effect::kOutput},
                                   {"guidance_scale", Effect::kOutput, 1},
                                   {"encoder_repetition_penalty", Effect::kOutput, 1},
                                   {"encoder_no_repeat_ngram_size", Effect::kOutput},
                                   {"forced_bos_token_id", Effect::kOutput, -1},
                                   {"forced_eos_token_id", Effect::kOutput, -1},
                                   {"remove_invalid_values", Effect::kOutput},
                                   {"exponential_decay_length_penalty", Effect::kOutput},
                                   {"token_healing", Effect::kOutput},
                                   {"watermarking_config", Effect::kOutput},
                                   {"typical_p", Effect::kSampling, 1},
                                   {"epsilon_cutoff", Effect::kSampling},
                                   {"eta_cutoff", Effect::kSampling},
                                   {"top_h", Effect::kSampling, 1},
                                   {"early_stopping", Effect::kNone},  // of beams, as length_penalty
                                   {"length_penalty", Effect::kNone},
                                   {"renormalize_logits", Effect::kNone},
                                   {"use_mtp", Effect::kNone},  // speculation gives the same tokens
                                   {"speculation_type", Effect::kNone},
                                   {"is_assistant", Effect::kNone},
                                   {"num_assistant_tokens", Effect::kNone},
                                   {"num_assistant_tokens_schedule", Effect::kNone},
                                   {"assistant_confidence_threshold", Effect::kNone},
                                   {"assistant_early_exit", Effect::kNone},
                                   {"assistant_ensemble_weight", Effect::kNone},
                                   {"assistant_lookbehind", Effect::kNone},
                                   {"target_lookbehind", Effect::kNone},
                                   {"prompt_lookup_num_tokens", Effect::kNone},
                                   {"max_matching_ngram_size", Effect::kNone},
                                   {"use_cache", Effect::kNone},
                                   {"cache_implementation", Effect::kNone},
                                   {"cache_config", Effect::kNone},
                                   {"max_cache_len", Effect::kNone},
                                   {"return_legacy_cache", Effect::kNone},
                                   {"prefill_chunk_size", Effect::kNone},
                                   {"compile_config", Effect::kNone},
                                   {"disable_compile", Effect::kNone},
                                   {"continuous_batching_config", Effect::kNone},
                                   {"low_memory", Effect::kNone},
                                   {"output_attentions", Effect::kNone},
                                   {"output_hidden_states", Effect::kNone},
                                   {"output_scores", Effect::kNone},
                                   {"output_logits", Effect::kNone},
                                   {"return_dict_in_generate", Effect::kNone},
                                   {"pad_token_id", Effect::kNone},
                                   {"bos_token_id", Effect::kNone},
                                   {"decoder_start_token_id", Effect::kNone},
                                   {"transformers_version", Effect::kNone},
                                   {"_from_model_config", Effect::kNone},
                                   {"_commit_hash", Effect::kNone}};
constexpr std::string_view kReadKeys[] = {"do_sample",
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
                                          "min_length"};

void WarnOfOtherKeys(const Json& json, std::string_view file, bool samples, std::vector<std::string>& warnings) {
  for (const auto& [key, value] : json.items()) {
    if (std::ranges::find(kReadKeys, std::string_view(key)) != std::end(kReadKeys)) continue;
    const auto known = std::ranges::find(kOtherKeys, std::string_view(key), &OtherKey::name);
    if (known == std::end(kOtherKeys)) {
      if (file != kOwnFile) continue;  // the rest of a config.json is the model's
      warnings.push_back(
          absl::StrCat(ToAbsl(file), ": unknown key \"", Printable(key), "\", ignored as by transformers"));
    } else if (known->effect == Effect::kOutput || (known->effect == Effect::kSampling && samples)) {
      if (HasNoEffect(value, known->neutral)) continue;
      warnings.push_back(
          absl::StrCat(ToAbsl(file), ": ", key, " ", Excerpt(value), " is not supported and has no effect"));
    }
  }
}

// transformers warns of the same.
void WarnOfSamplingKeys(const Json& json, std::string_view file, std::vector<std::string>& warnings) {
  constexpr std::pair<const char*, double> kKeys[] = {{"temperature", 1}, {"top_k", 50}, {"top_p", 1}, {"min_p", 0}};
  for (const auto& [key, neutral] : kKeys) {
    const Json* value = FindMember(json, key);
    if (value == nullptr || HasNoEffect(*value, neutral)) continue;
    warnings.push_back(
        absl::StrCat(ToAbsl(file), ": ", key, " ", Excerpt(*value), " has no effect without do_sample true"));
  }
}

std::vector<int32_t> SortedIds(std::vector<int32_t> ids) {
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

// NoBadWordsLogitsProcessor: a word of one token is never chosen, unless it ends the output.
absl::Status ReadBadWords(const Json& json, const std::string& file, int64_t vocab_size, GenerationDefaults& defaults) {
  const Json* words = FindMember(json, "bad_words_ids");
  if (words == nullptr) return absl::OkStatus();
  const auto wrong = [&](const Json& value) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": bad_words_ids holds ", Excerpt(value), ", expected lists of token ids"));
  };
  if (!words->is_array() || words->size() > kMostSuppressed) return wrong(*words);
  int64_t longer = 0;
  std::vector<int64_t> single;
  for (const Json& word : *words) {
    if (!word.is_array() || word.empty() ||
        !std::all_of(word.begin(), word.end(), [](const Json& id) { return AsInt(id).has_value(); })) {
      return wrong(word);
    }
    if (word.size() > 1) {
      ++longer;
    } else {
      single.push_back(*AsInt(word.front()));
    }
  }
  for (const int32_t id :
       IdsOfVocabulary(single, vocab_size, absl::StrCat(file, ": bad_words_ids"), defaults.warnings)) {
    if (std::ranges::find(defaults.eos_token_ids, id) == defaults.eos_token_ids.end()) {
      defaults.suppress_tokens.push_back(id);
    }
  }
  if (longer > 0) {
    defaults.warnings.push_back(absl::StrCat(file, ": ", longer,
                                             " of bad_words_ids have several tokens, which is not supported and has "
                                             "no effect"));
  }
  return absl::OkStatus();
}

void ReadSampling(const Json& json, JsonMembers& members, GenerationDefaults& defaults) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  defaults.says_do_sample = members.Has("do_sample");
  if (members.Bool("do_sample", false)) {
    // GenerationConfig's own defaults; its top_k of 50 holds where the file says nothing.
    defaults.temperature = members.Float("temperature", 1, 0, 100);
    defaults.top_k = static_cast<int32_t>(std::max<int64_t>(0, members.Int("top_k", 50, -1, kMax)));  // -1: vLLM's 0
    defaults.top_p = members.Float("top_p", 1, 0, 1, /*above_min=*/true);
    defaults.min_p = members.Float("min_p", 0, 0, 1);
  } else {
    WarnOfSamplingKeys(json, members.name(), defaults.warnings);
  }
  // Bounds that no use comes near; a request has narrower ones.
  defaults.repetition_penalty = members.Float("repetition_penalty", 1, 0, 100, /*above_min=*/true);
  defaults.presence_penalty = members.Float("presence_penalty", 0, -100, 100);
  defaults.frequency_penalty = members.Float("frequency_penalty", 0, -100, 100);
  defaults.no_repeat_ngram_size =
      static_cast<int32_t>(std::max<int64_t>(0, members.Int("no_repeat_ngram_size", 0, -kMax, kMax)));
}

constexpr int64_t kMaxLength = std::numeric_limits<int64_t>::max();

std::optional<int64_t> MostTokens(JsonMembers& members, const char* key) {
  if (!members.Has(key)) return std::nullopt;
  return members.Int(key, 1, 1, kMaxLength);
}

// Below 0 is 0 (generation/utils.py builds no processor for either).
std::optional<int64_t> LeastTokens(JsonMembers& members, const char* key) {
  if (!members.Has(key)) return std::nullopt;
  return std::max<int64_t>(0, members.Int(key, 0, -kMaxLength, kMaxLength));
}

absl::StatusOr<GenerationDefaults> Read(std::string_view text, const std::string& file, int64_t vocab_size) {
  GenerationDefaults defaults;
  QD_ASSIGN_OR_RETURN(const JsonDocument document, ParseJson(text, file, kLimits));
  const Json& json = *document;
  if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat(file, ": is no object"));
  JsonMembers members(json, file);
  ReadSampling(json, members, defaults);
  const auto ids = [&](const char* key, size_t most) {
    return IdsOfVocabulary(members.Ids(key, most), vocab_size, absl::StrCat(file, ": ", key), defaults.warnings);
  };
  if (file == kOwnFile) defaults.eos_token_ids = ids("eos_token_id", kMostEos);  // the model has those of config.json
  defaults.suppress_tokens = ids("suppress_tokens", kMostSuppressed);
  defaults.begin_suppress_tokens = SortedIds(ids("begin_suppress_tokens", kMostSuppressed));
  defaults.max_new_tokens = MostTokens(members, "max_new_tokens");
  defaults.max_length = MostTokens(members, "max_length");
  defaults.min_new_tokens = LeastTokens(members, "min_new_tokens");
  defaults.min_length = LeastTokens(members, "min_length");
  QD_RETURN_IF_ERROR(members.status());
  // transformers 4 wrote its default there, and took it for none.
  if (file == kModelFile && defaults.max_length == 20) defaults.max_length.reset();
  QD_RETURN_IF_ERROR(ReadBadWords(json, file, vocab_size, defaults));
  defaults.suppress_tokens = SortedIds(std::move(defaults.suppress_tokens));
  if (std::ssize(defaults.suppress_tokens) >= vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": suppress_tokens leaves no token of the vocabulary"));
  }
  WarnOfOtherKeys(json, file, members.Bool("do_sample", false), defaults.warnings);
  return defaults;
}

}  // namespace

bool IsGenerationKey(std::string_view key) {
  return std::ranges::find(kReadKeys, key) != std::end(kReadKeys) ||
         std::ranges::find(kOtherKeys, key, &OtherKey::name) != std::end(kOtherKeys);
}

std::vector<int32_t> IdsOfVocabulary(const std::vector<int64_t>& ids, int64_t vocab_size, std::string_view what,
                                     std::vector<std::string>& warnings) {
  std::vector<int32_t> inside;
  int64_t outside = 0, example = 0;
  for (const int64_t id : ids) {
    if (id >= 0 && id < vocab_size) {
      inside.push_back(static_cast<int32_t>(id));
    } else if (++outside == 1) {
      example = id;
    }
  }
  if (outside > 0) {
    warnings.push_back(absl::StrCat(ToAbsl(what), " has ", outside, " of ", ids.size(),
                                    " ids outside the vocabulary of ", vocab_size, " (", example,
                                    "), which never occur"));
  }
  return inside;
}

absl::StatusOr<GenerationDefaults> ParseGenerationConfig(std::string_view generation_config_json, int64_t vocab_size) {
  return Read(generation_config_json, kOwnFile, vocab_size);
}

absl::StatusOr<GenerationDefaults> ParseGenerationKeys(std::string_view config_json, int64_t vocab_size) {
  return Read(config_json, kModelFile, vocab_size);
}

}  // namespace quantd
