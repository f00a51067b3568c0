// What generation_config.json says of requests that say nothing (transformers generation/configuration_utils.py,
// GenerationConfig; its meaning: generation/utils.py, _get_logits_processor).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

namespace quantd {

// As transformers' generate(): do_sample false or absent means greedy (temperature 0) whatever temperature, top_k,
// top_p and min_p say; with do_sample true, those that the file lacks are GenerationConfig's (temperature 1, top_k 50,
// top_p 1). Everything else counts for greedy choices too.
struct GenerationDefaults {
  bool says_do_sample = false;  // the file decides between greedy and sampling, either way
  float temperature = 0.0f, top_p = 1.0f, min_p = 0.0f;
  int32_t top_k = 0;
  float repetition_penalty = 1.0f;                          // 1 = off; over the prompt and the output
  float presence_penalty = 0.0f, frequency_penalty = 0.0f;  // over the output; transformers has no such keys
  int32_t no_repeat_ngram_size = 0;                         // 0 = off; over the prompt and the output
  // Ids below the vocabulary's size, sorted, each once.
  std::vector<int32_t> suppress_tokens;               // never chosen; single-token bad_words_ids are among them
  std::vector<int32_t> begin_suppress_tokens;         // not chosen as the first of an output
  std::vector<int32_t> eos_token_ids;                 // added to the config's
  std::optional<int64_t> max_new_tokens, max_length;  // at least 1; the lengths count the prompt, and give way to
  std::optional<int64_t> min_new_tokens, min_length;  // the numbers of new tokens where both are there
  std::vector<std::string> warnings;                  // keys that do not do what they say, by name
};

// Of generation_config.json. DataLoss: no JSON. InvalidArgument: a value out of range or of another kind (names the
// key). Ids outside the vocabulary of `vocab_size`, and keys that change the output and are not built, are warnings.
absl::StatusOr<GenerationDefaults> ParseGenerationConfig(std::string_view generation_config_json, int64_t vocab_size);
// The same of a config.json, where a folder without generation_config.json says it.
absl::StatusOr<GenerationDefaults> ParseGenerationKeys(std::string_view config_json, int64_t vocab_size);

// Whether transformers knows `key` as one of a GenerationConfig.
bool IsGenerationKey(std::string_view key);

// The ids of `ids` below `vocab_size`, in order. A warning names `what` and the others.
std::vector<int32_t> IdsOfVocabulary(const std::vector<int64_t>& ids, int64_t vocab_size, std::string_view what,
                                     std::vector<std::string>& warnings);

}  // namespace quantd
