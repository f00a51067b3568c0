// A Llama in a GGUF file as the rest of quantd knows checkpoints: HF names, HF config, canonical weights.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include <absl/status/statusor.h>

#include "runtime/chat_template_sources.h"
#include "runtime/gguf.h"
#include "runtime/tokenizer.h"
#include "runtime/weight_store.h"

namespace quantd {

struct GgufModel {
  std::unique_ptr<WeightStore> weights;
  std::string config_json;             // as LlamaForCausalLM's config.json
  std::string generation_config_json;  // of general.sampling.*; empty where there are none
  ChatTemplateSources chat_templates;
  std::optional<GgufVocab> vocab;                     // absent where the file has no tokenizer
  std::map<std::string, std::string> special_tokens;  // bos_token, eos_token, …: texts
};

// InvalidArgument, DataLoss, Unimplemented as ParseGguf; Unimplemented also: another architecture than llama, experts,
// a split file, partial rotation, a rope scaling that is neither linear nor yarn, a key of another family's graph.
// DataLoss: a metadata value missing, of another kind or out of range (named), a tensor whose name is not one of a
// Llama's.
absl::StatusOr<GgufModel> OpenGguf(std::unique_ptr<ByteSource> source);

}  // namespace quantd
