// Where a checkpoint folder keeps its chat templates: as transformers 5 reads them
// (PreTrainedTokenizerBase._from_pretrained), and chat_template.json of processors, which it reads for those alone.
#pragma once

#include <string>

#include <absl/status/status.h>
#include <nlohmann/json_fwd.hpp>

#include "runtime/chat_template_sources.h"

namespace quantd {

// Jinja2 sources by name from, in this order: chat_template.jinja ("default") with additional_chat_templates/*.jinja,
// where there is any of them; `tokenizer_config`, which may be null; chat_template.json. In JSON `chat_template` is a
// source, an object of sources by name, or a list of {"name", "template"}. An empty source is no template. What cannot
// be read is a status under its name, and what has no name a warning in the log: a model is good for text without.
// DataLoss: more than ChatTemplates::kMaxTemplates. ResourceExhausted: no descriptors, no memory.
absl::Status ReadChatTemplates(const std::string& folder, const nlohmann::json* tokenizer_config,
                               ChatTemplateSources& templates);

}  // namespace quantd
