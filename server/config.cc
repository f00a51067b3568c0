#include "server/config.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <set>

#include <yaml-cpp/yaml.h>

#include "base/strings.h"
#include "server/text_file.h"

namespace quantd {
namespace {

using Setter = std::function<absl::Status(const YAML::Node&)>;
using Keys = std::map<std::string_view, Setter>;
using Errors = std::vector<std::string>;

std::string At(const YAML::Node& node) { return absl::StrCat("line ", node.Mark().line + 1, ": "); }

absl::StatusOr<std::string> Scalar(const YAML::Node& node) {
  if (!node.IsScalar()) return absl::InvalidArgumentError("expected one value");
  return node.Scalar();
}

// A setter of `field` through `parse`, which takes a string_view and returns StatusOr of the field's type.
template <typename T, typename Parse>
Setter Set(T& field, Parse parse) {
  return [&field, parse](const YAML::Node& node) -> absl::Status {
    absl::StatusOr<std::string> text = Scalar(node);
    if (!text.ok()) return text.status();
    auto value = parse(std::string_view(*text));
    if (!value.ok()) return value.status();
    field = *std::move(value);
    return absl::OkStatus();
  };
}
Setter Text(std::string& field) {
  return Set(field, [](std::string_view s) { return absl::StatusOr<std::string>(std::string(s)); });
}
template <typename T>
Setter Integer(T& field, int64_t low, int64_t high) {
  return Set(field, [low, high](std::string_view text) -> absl::StatusOr<T> {
    int64_t value = 0;
    if (absl::SimpleAtoi(ToAbsl(text), &value) && value >= low && value <= high) return static_cast<T>(value);
    return absl::InvalidArgumentError(
        absl::StrCat("\"", ToAbsl(text), "\": expected a whole number from ", low, " to ", high));
  });
}
template <typename T>
Setter Size(T& field, int64_t low = 0, int64_t high = INT64_MAX) {
  return Set(field, [low, high](std::string_view text) -> absl::StatusOr<T> {
    absl::StatusOr<int64_t> bytes = ParseBytes(text);
    if (!bytes.ok()) return bytes.status();
    if (*bytes >= low && *bytes <= high) return static_cast<T>(*bytes);
    return absl::InvalidArgumentError(
        absl::StrCat("\"", ToAbsl(text), "\": expected ", FormatBytes(low), " to ", FormatBytes(high)));
  });
}
Setter Flag(bool& field) {
  return Set(field, [](std::string_view text) -> absl::StatusOr<bool> {
    if (text == "true") return true;
    if (text == "false") return false;
    return absl::InvalidArgumentError(absl::StrCat("\"", ToAbsl(text), "\": expected true or false"));
  });
}

// Applies `keys` to the mapping `node`.
void ApplyMap(const YAML::Node& node, std::string_view where, const Keys& keys, Errors& errors) {
  if (!node.IsMap()) {
    errors.push_back(absl::StrCat(At(node), ToAbsl(where), " is no mapping of keys to values"));
    return;
  }
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    const auto it = keys.find(key);
    if (it == keys.end()) {
      std::vector<std::string_view> known;
      for (const auto& [name, setter] : keys) known.push_back(name);
      const std::string_view near = Nearest(key, known);
      errors.push_back(absl::StrCat(At(entry.first), "unknown key \"", key, "\" in ", ToAbsl(where),
                                    near.empty() ? "" : absl::StrCat("; did you mean \"", ToAbsl(near), "\"?")));
    } else if (!seen.insert(key).second) {
      errors.push_back(absl::StrCat(At(entry.first), "key \"", key, "\" twice in ", ToAbsl(where)));
    } else if (absl::Status status = it->second(entry.second); !status.ok()) {
      errors.push_back(absl::StrCat(At(entry.second), key, ": ", status.message()));
    }
  }
}

// Calls `item` for each element of a sequence.
Setter Sequence(std::function<void(const YAML::Node&)> item) {
  return [item = std::move(item)](const YAML::Node& node) -> absl::Status {
    if (!node.IsSequence()) return absl::InvalidArgumentError("expected a list");
    for (const YAML::Node& element : node) item(element);
    return absl::OkStatus();
  };
}

absl::StatusOr<std::string> ParseScheme(std::string_view text) {
  absl::StatusOr<QuantScheme> scheme = ParseQuantScheme(text);
  if (!scheme.ok()) return scheme.status();
  return std::string(text);
}

void ApplyModel(const YAML::Node& node, ServerOptions& options, Errors& errors) {
  ModelOptions model;
  const auto add_rule = [&](const YAML::Node& rule) {
    std::string pattern, weights;
    ApplyMap(rule, "rules", {{"pattern", Text(pattern)}, {"weights", Set(weights, ParseScheme)}}, errors);
    if (pattern.empty()) errors.push_back(absl::StrCat(At(rule), "rules: pattern is missing"));
    if (rule.IsMap() && !rule["weights"]) errors.push_back(absl::StrCat(At(rule), "rules: weights is missing"));
    model.spec.rules.emplace_back(pattern, weights);
  };
  bool values_given = false;
  const Setter values = Set(model.spec.values, ParseKvFormat);
  ApplyMap(node, "models",
           {{"name", Text(model.name)},
            {"path", Text(model.spec.path)},
            {"quantize", Set(model.spec.weights, ParseScheme)},
            {"rules", Sequence(add_rule)},
            {"kv_cache_dtype", Set(model.spec.keys, ParseKvFormat)},
            {"kv_cache_values_dtype",
             [&](const YAML::Node& n) {
               values_given = true;
               return values(n);
             }},
            {"kv_cache_bytes", Size(model.spec.kv_cache_bytes)},
            {"activations", Set(model.spec.activations, ParseActivations)},
            {"max_context", Integer(model.spec.max_context, kMinContext, kMaxContext)},
            {"max_sequences", Integer(model.spec.max_sequences, 1, 4096)},
            {"max_batch_tokens", Integer(model.spec.max_batch_tokens, 1, 65536)},
            {"max_waiting_requests", Integer(model.queue.max_waiting_requests, 1, 1 << 20)},
            {"max_waiting_tokens", Integer(model.queue.max_waiting_tokens, 1, int64_t{1} << 40)}},
           errors);
  if (!values_given) model.spec.values = model.spec.keys;
  if (model.spec.path.empty()) errors.push_back(absl::StrCat(At(node), "models: path is missing"));
  if (absl::Status status = CheckModelPath(model.spec.path); !status.ok()) {
    errors.push_back(absl::StrCat(At(node), "path: ", status.message()));
  }
  if (model.name.empty()) model.name = DefaultModelName(model.spec.path);
  if (absl::Status status = CheckModelName(model.name); !model.name.empty() && !status.ok()) {
    errors.push_back(absl::StrCat(At(node), "name: ", status.message()));
  }
  for (const ModelOptions& other : options.models) {
    if (other.name == model.name) errors.push_back(absl::StrCat(At(node), "two models are named \"", model.name, "\""));
  }
  options.models.push_back(std::move(model));
}

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view Nearest(std::string_view word, const std::vector<std::string_view>& candidates) {
  std::string_view best;
  size_t best_distance = word.size() / 3 + 2;  // farther is another word, not a typing error
  for (std::string_view candidate : candidates) {
    if (const size_t d = EditDistance(word, candidate); d < best_distance) {
      best = candidate;
      best_distance = d;
    }
  }
  return best;
}

std::vector<std::string> ParseConfig(const std::string& yaml, ServerOptions& options) {
  std::vector<YAML::Node> documents;
  try {
    documents = YAML::LoadAll(yaml);
  } catch (const YAML::Exception& e) {
    return {absl::StrCat("line ", e.mark.line + 1, ": ", e.msg)};
  }
  std::erase_if(documents, [](const YAML::Node& document) { return document.IsNull(); });
  Errors errors;
  if (documents.empty()) return errors;
  if (documents.size() > 1) return {absl::StrCat(At(documents[1]), "a second document, expected one")};
  const YAML::Node& root = documents[0];
  const Keys outbox = {{"messages", Integer(options.outbox.messages, 2, 1 << 20)},
                       {"bytes", Size(options.outbox.bytes, 1024, 1 << 30)}};
  ApplyMap(root, "the configuration",
           {{"listen", Set(options.listen, ParseListenAddress)},
            {"metrics_listen", Set(options.metrics_listen, ParseHostPort)},
            {"reflection", Flag(options.reflection)},
            {"max_concurrent_streams", Integer(options.edge.max_streams, 1, 1 << 20)},
            {"max_connections", Integer(options.edge.max_connections, 1, 1 << 20)},
            {"max_connections_per_peer", Integer(options.edge.max_connections_per_peer, 1, 1 << 20)},
            {"max_open_streams", Integer(options.edge.max_open_streams, 1, 1 << 24)},
            {"receive_budget", Size(options.edge.receive_budget, 1 << 20)},
            {"send_budget", Size(options.edge.send_budget, 1 << 20)},
            {"receive_timeout", Set(options.edge.receive_timeout, ParseTimeout)},
            {"quiet_time", Set(options.edge.quiet_time, ParseTimeout)},
            {"handshake_timeout", Set(options.edge.handshake_timeout, ParseTimeout)},
            {"max_receive_bytes", Size(options.max_receive_bytes, 1024, 1 << 30)},
            {"request_memory", Size(options.request_memory_bytes, 1 << 20, int64_t{1} << 40)},
            {"codec_threads", Integer(options.codec_threads, 1, 64)},
            {"outbox",
             [&](const YAML::Node& node) {
               ApplyMap(node, "outbox", outbox, errors);
               return absl::OkStatus();
             }},
            {"drain_timeout", Set(options.drain_timeout, ParseDuration)},
            {"ready_file", Text(options.ready_file)},
            {"log_level", Set(options.log_level, ParseLogLevel)},
            {"backend", Set(options.registry.backend, ParseBackend)},
            {"threads", Integer(options.registry.backend_options.threads, 0, 1024)},
            {"memory_budget", Size(options.registry.memory_budget_bytes)},
            {"model_roots", Sequence([&](const YAML::Node& node) {
               if (!node.IsScalar()) errors.push_back(absl::StrCat(At(node), "model_roots: expected one folder"));
               options.model_roots.push_back(node.IsScalar() ? node.Scalar() : "");
             })},
            {"models", Sequence([&](const YAML::Node& node) { ApplyModel(node, options, errors); })}},
           errors);
  if (options.edge.receive_budget < options.max_receive_bytes) {
    errors.push_back(absl::StrCat("receive_budget is ", FormatBytes(options.edge.receive_budget),
                                  ", less than one message (max_receive_bytes), ",
                                  FormatBytes(options.max_receive_bytes)));
  }
  return errors;
}

std::vector<std::string> ReadConfig(const std::string& path, ServerOptions& options) {
  absl::StatusOr<std::string> text = ReadTextFile(path);
  if (!text.ok()) return {std::string(text.status().message())};
  std::vector<std::string> errors = ParseConfig(*text, options);
  for (std::string& error : errors) error = absl::StrCat(path, ": ", error);
  return errors;
}

}  // namespace quantd
