#include "runtime/checkpoint.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/chat_template_files.h"
#include "runtime/file.h"
#include "runtime/gguf_checkpoint.h"
#include "runtime/json.h"
#include "runtime/safetensors.h"
#include "runtime/unsupported_checkpoint.h"

namespace quantd {
namespace {

constexpr int64_t kMaxConfigBytes = 4 << 20, kMaxTokenizerConfigBytes = 16 << 20;
constexpr size_t kMaxSpecialTokens = 256;  // published models name some ten; each is a variable of the template

// FNV-1a, 64 bits: the same in every process, as absl's hash is not.
class Fnv {
 public:
  void Add(std::string_view bytes) {
    for (unsigned char c : bytes) hash_ = (hash_ ^ c) * 0x100000001b3u;
    hash_ = (hash_ ^ 0xff) * 0x100000001b3u;  // an end, so that "ab","c" and "a","bc" differ
  }
  std::string Hex() const {
    static constexpr char kHex[] = "0123456789abcdef";
    std::string hex;
    for (int shift = 60; shift >= 0; shift -= 4) hex += kHex[hash_ >> shift & 15];
    return hex;
  }

 private:
  uint64_t hash_ = 0xcbf29ce484222325u;
};

std::string Revision(const Checkpoint& checkpoint) {
  Fnv hash;
  hash.Add(checkpoint.config_json);
  for (const TensorInfo& tensor : checkpoint.weights->tensors()) {
    hash.Add(tensor.name);
    hash.Add(ToString(tensor.shape));
    hash.Add(Name(tensor.scheme));
  }
  return hash.Hex();
}

absl::StatusOr<Checkpoint> OpenGgufCheckpoint(const std::string& path) {
  QD_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> source, OpenFile(path));
  if (!StartsAsGguf(*source)) return NotGguf(path);
  QD_ASSIGN_OR_RETURN(GgufModel model, OpenGguf(std::move(source)));
  Checkpoint checkpoint;
  checkpoint.format = "gguf";
  checkpoint.weights = std::move(model.weights);
  checkpoint.config_json = std::move(model.config_json);
  checkpoint.chat_templates = std::move(model.chat_templates);
  checkpoint.generation_config_json = std::move(model.generation_config_json);
  checkpoint.special_tokens = std::move(model.special_tokens);
  if (model.vocab.has_value()) {
    absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = MakeGgufTokenizer(*std::move(model.vocab));
    if (!tokenizer.ok()) {
      return absl::Status(tokenizer.status().code(), absl::StrCat(path, ": ", tokenizer.status().message()));
    }
    checkpoint.tokenizer = *std::move(tokenizer);
  } else {
    checkpoint.why_no_tokenizer = absl::StrCat(path, ": has no tokenizer: tokenizer.ggml.model is missing");
  }
  return checkpoint;
}

// Other programs' ways to say that the weights are quantized (transformers utils/quantization_config.py; ModelOpt,
// AutoAWQ and AutoGPTQ write files of their own).
absl::Status RefuseQuantized(const std::string& folder, const Json& config) {
  for (const char* key : {"quantization_config", "compression_config"}) {
    if (const Json* quantization = FindMember(config, key)) {
      const Json* method = FindMember(*quantization, "quant_method");
      return absl::UnimplementedError(absl::StrCat(folder, "/config.json: ", key, " with quant_method ",
                                                   method == nullptr ? "absent" : Excerpt(*method),
                                                   " is not supported"));
    }
  }
  for (const char* name : {"hf_quant_config.json", "quant_config.json", "quantize_config.json"}) {
    std::error_code error;
    if (std::filesystem::exists(folder + "/" + name, error)) {
      return absl::UnimplementedError(
          absl::StrCat(folder, "/", name, ": weights quantized by another program are not supported"));
    }
  }
  return absl::OkStatus();
}

// Adds what transformers 5 takes for named special tokens (PreTrainedTokenizerBase.__init__): members that end in
// _token, and the objects of a model's own ones. A token is its text, or {"content": text, …}; other values name none.
absl::Status AddSpecialTokens(const Json& config, const std::string& name, std::map<std::string, std::string>& tokens) {
  const auto add = [&tokens](const std::string& key, const Json& token) {
    const Json* content = FindMember(token, "content");
    const Json& text = content != nullptr ? *content : token;
    if (text.is_string()) tokens[key] = text.get<std::string>();
  };
  if (!config.is_object())
    return absl::DataLossError(absl::StrCat(name, ": is ", Excerpt(config), ", expected an object"));
  for (const auto& [key, value] : config.items()) {
    if (std::string_view(key).ends_with("_token")) add(key, value);
  }
  for (const char* own : {"extra_special_tokens", "model_specific_special_tokens"}) {
    const Json* members = FindMember(config, own);
    if (members == nullptr || !members->is_object()) continue;
    for (const auto& [key, value] : members->items()) add(key, value);
  }
  if (tokens.size() > kMaxSpecialTokens) {
    return absl::DataLossError(
        absl::StrCat(name, ": names ", tokens.size(), " special tokens, expected at most ", kMaxSpecialTokens));
  }
  return absl::OkStatus();
}

absl::Status ReadTokenizer(const std::string& folder, Checkpoint& checkpoint) {
  const std::string name = folder + "/tokenizer_config.json";
  QD_ASSIGN_OR_RETURN(const std::string text, ReadFileIfPresent(name, kMaxTokenizerConfigBytes));
  bool has_added_tokens = false;
  if (!text.empty()) {
    QD_ASSIGN_OR_RETURN(const JsonDocument config_document, ParseJson(text, name));
    const Json& config = *config_document;
    QD_RETURN_IF_ERROR(AddSpecialTokens(config, name, checkpoint.special_tokens));
    QD_RETURN_IF_ERROR(ReadChatTemplates(folder, &config, checkpoint.chat_templates));
    has_added_tokens = FindMember(config, "added_tokens_decoder") != nullptr;
  } else {
    QD_RETURN_IF_ERROR(ReadChatTemplates(folder, nullptr, checkpoint.chat_templates));
  }
  // Older checkpoints keep them in a file of their own, which then wins (PreTrainedTokenizerBase._from_pretrained).
  const std::string map_name = folder + "/special_tokens_map.json";
  QD_ASSIGN_OR_RETURN(const std::string map_text, ReadFileIfPresent(map_name, kMaxConfigBytes));
  if (!map_text.empty() && !has_added_tokens) {
    QD_ASSIGN_OR_RETURN(const JsonDocument map_document, ParseJson(map_text, map_name));
    const Json& map = *map_document;
    QD_RETURN_IF_ERROR(AddSpecialTokens(map, map_name, checkpoint.special_tokens));
  }

  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = LoadTokenizer(folder);
  if (absl::IsNotFound(tokenizer.status())) {
    checkpoint.why_no_tokenizer = std::string(tokenizer.status().message());
    return absl::OkStatus();
  }
  QD_RETURN_IF_ERROR(tokenizer.status());
  checkpoint.tokenizer = *std::move(tokenizer);
  return absl::OkStatus();
}

// The weights of a folder that has none.
class AssumedStore : public WeightStore {
 public:
  explicit AssumedStore(QuantScheme scheme) : scheme_(scheme) {
    Warn(absl::StrCat("there are no weights: planned for what config.json says, in ", Name(scheme)));
  }
  std::optional<QuantScheme> assumed() const override { return scheme_; }

 private:
  absl::StatusOr<QuantizedMatrix> ReadItem(const TensorInfo&) const override {
    return absl::FailedPreconditionError("there are no weights");
  }
  QuantScheme scheme_;
};

// The number format that config.json names: "bfloat16" or "torch.bfloat16".
QuantScheme FormatOf(const Json& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const Json* value = FindMember(config, key);
    if (value == nullptr || !value->is_string()) continue;
    const std::string_view name = value->get_ref<const std::string&>();
    if (name.ends_with("float32")) return {.weight = WeightFormat::kF32};
    if (name.ends_with("float16") && !name.ends_with("bfloat16")) return {.weight = WeightFormat::kF16};
  }
  return {.weight = WeightFormat::kBF16};
}

absl::StatusOr<std::unique_ptr<WeightStore>> OpenWeights(const std::string& folder, const Json& config,
                                                         WeightFiles files) {
  absl::StatusOr<std::unique_ptr<WeightStore>> weights = OpenSafetensorsFolder(folder);
  if (!absl::IsNotFound(weights.status())) return weights;
  // Pickles and weights of other names are there and not read: that is no folder without weights.
  if (files == WeightFiles::kOptional && HasNoWeights(folder)) return std::make_unique<AssumedStore>(FormatOf(config));
  std::error_code error;
  const bool index = std::filesystem::exists(folder + "/model.safetensors.index.json", error);
  return index ? absl::DataLossError(weights.status().message()) : NoWeights(folder);
}

absl::StatusOr<Checkpoint> OpenFolder(const std::string& folder, WeightFiles files) {
  Checkpoint checkpoint;
  checkpoint.format = "safetensors";
  const std::string config_path = folder + "/config.json";
  absl::StatusOr<std::string> config_text = ReadFile(config_path, kMaxConfigBytes);
  QD_RETURN_IF_ERROR(RefusePipeline(folder));
  if (absl::IsNotFound(config_text.status())) return NoConfig(folder);
  QD_RETURN_IF_ERROR(config_text.status());
  QD_ASSIGN_OR_RETURN(const JsonDocument config_document, ParseJson(*config_text, config_path));
  const Json& config = *config_document;
  if (!config.is_object()) return absl::DataLossError(absl::StrCat(config_path, ": is no object"));
  QD_RETURN_IF_ERROR(RefuseQuantized(folder, config));
  checkpoint.config_json = *std::move(config_text);
  QD_ASSIGN_OR_RETURN(checkpoint.generation_config_json,
                      ReadFileIfPresent(folder + "/generation_config.json", kMaxConfigBytes));

  QD_ASSIGN_OR_RETURN(checkpoint.weights, OpenWeights(folder, config, files));
  QD_RETURN_IF_ERROR(ReadTokenizer(folder, checkpoint));
  return checkpoint;
}

}  // namespace

absl::StatusOr<Checkpoint> OpenCheckpoint(const std::string& path, WeightFiles weights) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return NoSuchCheckpoint(path, errno);
  QD_ASSIGN_OR_RETURN(Checkpoint checkpoint,
                      S_ISDIR(status.st_mode) ? OpenFolder(path, weights) : OpenGgufCheckpoint(path));
  checkpoint.path = path;
  checkpoint.revision = Revision(checkpoint);
  return checkpoint;
}

}  // namespace quantd
