// A checkpoint on disk: a GGUF file, or a folder as Hugging Face lays it out.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include <absl/status/statusor.h>

#include "runtime/chat_template_sources.h"
#include "runtime/tokenizer.h"
#include "runtime/weight_store.h"

namespace quantd {

struct Checkpoint {
  std::string path;
  std::string format;  // "gguf" or "safetensors"
  std::unique_ptr<WeightStore> weights;
  std::string config_json;             // HF config.json; written from the metadata for a GGUF
  std::string generation_config_json;  // may be empty
  ChatTemplateSources chat_templates;
  std::unique_ptr<Tokenizer> tokenizer;               // null where the checkpoint holds no tokenizer at all
  std::string why_no_tokenizer;                       // then: what is missing, and what is there
  std::map<std::string, std::string> special_tokens;  // bos_token, eos_token, …: texts, for the chat template
  std::string revision;                               // hex hash of config and tensor headers
};

// kOptional: a folder without weights opens too, with a store that assumes them to be as config.json says, of its dtype
// (bf16 where it says none). Such a checkpoint can be planned, not loaded.
enum class WeightFiles : uint8_t { kRequired, kOptional };

// NotFound: no such path. InvalidArgument: not a checkpoint. PermissionDenied. DataLoss: a file is corrupt (file,
// place, found, expected). Unimplemented: an architecture, tensor type, quantization or pickle that is not supported
// (named).
absl::StatusOr<Checkpoint> OpenCheckpoint(const std::string& path, WeightFiles weights = WeightFiles::kRequired);

}  // namespace quantd
