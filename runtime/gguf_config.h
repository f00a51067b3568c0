// The configuration of a Llama in a GGUF file, written as Hugging Face's files have it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/gguf_metadata.h"
#include "runtime/tokenizer.h"

namespace quantd {

// Unimplemented: another architecture than llama (a diffusion model is told as one), experts, a part of a split file.
// DataLoss: no architecture.
absl::Status CheckGgufArchitecture(GgufMetadata& metadata);

struct GgufConfig {
  std::string config_json;             // as LlamaForCausalLM's config.json
  std::string generation_config_json;  // of general.sampling.*; empty where there are none
  int64_t layers = 0, heads = 0, kv_heads = 0;
  std::vector<std::string> warnings;  // keys that do nothing, or not what they say
};
// Ranges that matter to the model alone are ParseLlamaConfig's to check. `vocab` is null where the file has no
// tokenizer. DataLoss: a value missing, of another kind or out of range (named). Unimplemented: partial rotation, a
// rope scaling that is neither linear nor yarn, a key of another family's graph.
absl::StatusOr<GgufConfig> WriteGgufConfig(const GgufFile& file, GgufMetadata& metadata, const GgufVocab* vocab);

}  // namespace quantd
