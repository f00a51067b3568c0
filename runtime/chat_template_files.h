// Where a checkpoint folder keeps its chat templates: as transformers 5 reads them
// (PreTrainedTokenizerBase._from_pretrained), and chat_template.json of processors, which it reads for those alone.
#pragma once

#include <map>
#include <string>

#include <absl/status/status.h>
#include <nlohmann/json_fwd.hpp>

namespace quantd {

// Jinja2 sources by name from, in this order: chat_template.jinja ("default") with additional_chat_templates/*.jinja,
// where there is any of them; `tokenizer_config`, which may be null; chat_template.json. In JSON `chat_template` is a
// source, an object of sources by name, or a list of {"name", "template"}. An empty source is no template. DataLoss: a
// value of another kind, a template without a name, a file that is too large.
absl::Status ReadChatTemplates(const std::string& folder, const nlohmann::json* tokenizer_config,
                               std::map<std::string, std::string>& templates);

}  // namespace quantd
