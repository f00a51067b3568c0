// Any bytes as config.json and as generation_config.json: values in the ranges that the rest of the program relies on,
// or a Status.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "runtime/generation_config.h"
#include "runtime/llama_config.h"

namespace quantd {
namespace {

void ProbeConfig(std::string_view json) {
  const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(json);
  QD_CHECK(!absl::IsInternal(config.status()));
  if (!config.ok()) return;
  QD_CHECK(config->vocab_size > 0 && config->vocab_size <= INT32_MAX);
  QD_CHECK(config->hidden_size > 0 && config->intermediate_size > 0 && config->layers > 0);
  QD_CHECK(config->heads > 0 && config->kv_heads > 0 && config->heads % config->kv_heads == 0);
  QD_CHECK(config->head_dim > 0 && config->head_dim % 2 == 0 && config->max_position > 0);
  QD_CHECK(std::isfinite(config->rms_norm_eps) && std::isfinite(config->rope.theta) && config->rope.theta > 0);
  for (const int32_t id : config->eos_token_ids) QD_CHECK(id >= 0 && id < config->vocab_size);
}

void ProbeGenerationConfig(std::string_view json) {
  constexpr int64_t kVocabSize = 32;
  const absl::StatusOr<GenerationDefaults> defaults = ParseGenerationConfig(json, kVocabSize);
  QD_CHECK(!absl::IsInternal(defaults.status()));
  if (!defaults.ok()) return;
  QD_CHECK(std::isfinite(defaults->temperature) && defaults->temperature >= 0);
  QD_CHECK(defaults->top_p > 0 && defaults->top_p <= 1 && defaults->min_p >= 0 && defaults->min_p <= 1);
  QD_CHECK(defaults->top_k >= 0 && defaults->no_repeat_ngram_size >= 0);
  QD_CHECK(std::isfinite(defaults->repetition_penalty) && defaults->repetition_penalty > 0);
  QD_CHECK(std::isfinite(defaults->presence_penalty) && std::isfinite(defaults->frequency_penalty));
  QD_CHECK(defaults->max_new_tokens.value_or(1) >= 1 && defaults->max_length.value_or(1) >= 1);
  for (const auto* ids : {&defaults->suppress_tokens, &defaults->begin_suppress_tokens, &defaults->eos_token_ids}) {
    for (const int32_t id : *ids) QD_CHECK(id >= 0 && id < kVocabSize);
  }
}

}  // namespace
}  // namespace quantd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  quantd::ProbeConfig(json);
  quantd::ProbeGenerationConfig(json);
  return 0;
}
