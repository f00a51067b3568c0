#include "runtime/gguf_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/json.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

constexpr int64_t kReadBytes = 1 << 20;  // rows are read and unpacked in pieces of about this size

// Typed metadata. The first value of a wrong kind is kept in `status`, and lookups then return their fallback.
class Metadata {
 public:
  explicit Metadata(const GgufFile& file) : values_(file.metadata) {}

  const absl::Status& status() const { return status_; }
  bool Has(std::string_view key) const { return values_.find(key) != values_.end(); }

  // The value of `key`, null where there is none.
  template <typename T>
  const T* Find(std::string_view key, std::string_view expected) {
    const auto it = values_.find(key);
    if (it == values_.end()) return nullptr;
    const T* value = std::get_if<T>(&it->second.value);
    if (value == nullptr) {
      Fail(absl::StrCat(ToAbsl(key), " is of kind ", ToAbsl(KindName(it->second)), ", expected ", ToAbsl(expected)));
    }
    return value;
  }
  std::string String(std::string_view key, std::string_view fallback = "") {
    const std::string* value = Find<std::string>(key, "string");
    return value == nullptr ? std::string(fallback) : *value;
  }
  // One number, or one for each layer where they are all the same.
  std::optional<int64_t> Int(std::string_view key, int64_t min, int64_t max) {
    const auto* each = Peek<std::vector<int64_t>>(key);
    const bool alike =
        each != nullptr && !each->empty() && std::ranges::count(*each, each->front()) == std::ssize(*each);
    if (each != nullptr && !alike) Fail(absl::StrCat(ToAbsl(key), " differs between layers, which is not supported"));
    const int64_t* value = alike ? &each->front() : each != nullptr ? nullptr : Find<int64_t>(key, "integer");
    if (value == nullptr) return std::nullopt;
    if (*value < min || *value > max) {
      Fail(absl::StrCat(ToAbsl(key), " is ", *value, ", expected ", min, " to ", max));
      return std::nullopt;
    }
    return *value;
  }
  int64_t RequiredInt(std::string_view key, int64_t min, int64_t max) {
    if (!Has(key)) Fail(absl::StrCat(ToAbsl(key), " is missing"));
    return Int(key, min, max).value_or(min);
  }
  std::optional<double> Float(std::string_view key) {
    if (const int64_t* whole = Peek<int64_t>(key)) return static_cast<double>(*whole);
    const double* value = Find<double>(key, "float");
    if (value == nullptr) return std::nullopt;
    // In JSON it would become null, and null the default.
    if (!std::isfinite(*value)) Fail(absl::StrCat(ToAbsl(key), " is ", *value, ", expected a finite number"));
    return *value;
  }
  std::optional<bool> Bool(std::string_view key) {
    const bool* value = Find<bool>(key, "boolean");
    return value == nullptr ? std::nullopt : std::optional(*value);
  }
  // Published files say 4294967295 or the size of the vocabulary where there is no such token: a warning.
  std::optional<int32_t> TokenId(std::string_view key, size_t tokens) {
    const int64_t* id = Find<int64_t>(key, "integer");
    if (id == nullptr) return std::nullopt;
    if (*id >= 0 && static_cast<size_t>(*id) < tokens) return static_cast<int32_t>(*id);
    LogWarning(absl::StrCat(ToAbsl(key), " is ", *id, ", but there are ", tokens, " tokens: it names none"));
    return std::nullopt;
  }
  void Fail(std::string_view what) {
    if (status_.ok()) status_ = absl::DataLossError(ToAbsl(what));
  }
  const std::map<std::string, GgufValue, std::less<>>& values() const { return values_; }

 private:
  template <typename T>
  const T* Peek(std::string_view key) const {
    const auto it = values_.find(key);
    return it == values_.end() ? nullptr : std::get_if<T>(&it->second.value);
  }

  const std::map<std::string, GgufValue, std::less<>>& values_;
  absl::Status status_;
};

struct HeadCounts {
  int64_t q = 0, kv = 0;
};

// Where a tensor of a GGUF file stands in HF.
struct HfTensor {
  std::string name;
  int64_t permuted_heads = 0;  // heads whose rows are interleaved, 0 where rows are in order
};

std::optional<HfTensor> Translate(std::string_view name, int64_t layers, const HeadCounts& heads) {
  if (name == "token_embd.weight") return HfTensor{"model.embed_tokens.weight"};
  if (name == "output_norm.weight") return HfTensor{"model.norm.weight"};
  if (name == "output.weight") return HfTensor{"lm_head.weight"};
  if (name == "rope_freqs.weight") return HfTensor{"rope_freqs.weight"};
  if (name.substr(0, 4) != "blk.") return std::nullopt;
  name.remove_prefix(4);
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos || dot == 0 || dot > 4 || (dot > 1 && name[0] == '0')) return std::nullopt;
  int64_t layer = 0;
  for (char c : name.substr(0, dot)) {
    if (c < '0' || c > '9') return std::nullopt;
    layer = layer * 10 + (c - '0');
  }
  if (layer >= layers) return std::nullopt;
  name.remove_prefix(dot + 1);

  struct Part {
    std::string_view gguf, hf;
    int64_t permuted_heads;
    bool has_bias;
  };
  const Part parts[] = {
      {"attn_norm", "input_layernorm", 0, false},     {"attn_q", "self_attn.q_proj", heads.q, true},
      {"attn_k", "self_attn.k_proj", heads.kv, true}, {"attn_v", "self_attn.v_proj", 0, true},
      {"attn_output", "self_attn.o_proj", 0, true},   {"ffn_norm", "post_attention_layernorm", 0, false},
      {"ffn_gate", "mlp.gate_proj", 0, true},         {"ffn_up", "mlp.up_proj", 0, true},
      {"ffn_down", "mlp.down_proj", 0, true}};
  const size_t end = name.find('.');
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view stem = name.substr(0, end), kind = name.substr(end + 1);
  for (const Part& part : parts) {
    if (part.gguf != stem || (kind != "weight" && !(kind == "bias" && part.has_bias))) continue;
    return HfTensor{absl::StrCat("model.layers.", layer, ".", ToAbsl(part.hf), ".", ToAbsl(kind)), part.permuted_heads};
  }
  return std::nullopt;
}

// What old conversions keep of the rotation, which is computed here and in llama.cpp: "blk.0.attn_rot_embd".
bool IsRotationTable(std::string_view name) {
  return name.starts_with("blk.") && name.find(".attn_rot_embd") != std::string_view::npos;
}

// llama.cpp's converter (LlamaModel.permute) views the rows of a head as [2, D/2] and stores them as [D/2, 2], so that
// the two values that rotate together are neighbours. This is the row in HF's order of row `row` in the file.
int64_t UnpermutedRow(int64_t row, int64_t head_rows) {
  const int64_t in_head = row % head_rows;
  return row - in_head + in_head % 2 * (head_rows / 2) + in_head / 2;
}

class GgufStore : public WeightStore {
 public:
  explicit GgufStore(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {}

  absl::Status Add(const GgufTensor& tensor, HfTensor hf) {
    if (hf.permuted_heads > 0 && tensor.shape[0] % (2 * hf.permuted_heads) != 0) {
      return absl::DataLossError(absl::StrCat("tensor ", tensor.name, ": ", tensor.shape[0],
                                              " rows do not divide into ", hf.permuted_heads, " heads of even size"));
    }
    if (tensor.shape.rank() > 2) {
      return absl::DataLossError(
          absl::StrCat("tensor ", tensor.name, ": shape ", ToString(tensor.shape), ", expected one or two dimensions"));
    }
    if (tensor.shape.rank() == 1 && BlockElements(tensor.type) != 1) {
      return absl::UnimplementedError(absl::StrCat("tensor ", tensor.name, ": a vector of type ",
                                                   GgmlTypeName(static_cast<uint32_t>(tensor.type))));
    }
    WeightStore::Add({.name = std::move(hf.name),
                      .shape = tensor.shape,
                      .scheme = SchemeOf(tensor.type),
                      .file_bytes = tensor.bytes,
                      .item = items_.size(),
                      .unsupported = {}});
    items_.push_back({tensor, hf.permuted_heads});
    return absl::OkStatus();
  }
  using WeightStore::Finish;
  using WeightStore::Warn;

 private:
  struct Item {
    GgufTensor tensor;
    int64_t permuted_heads;
  };

  absl::StatusOr<QuantizedMatrix> ReadItem(const TensorInfo& info) const override {
    return info.shape.rank() == 1 ? ReadVector(items_[info.item]) : ReadMatrix(items_[info.item]);
  }

  absl::StatusOr<QuantizedMatrix> ReadVector(const Item& item) const {
    const GgufTensor& tensor = item.tensor;
    const int64_t k = tensor.shape[0], width = BlockBytes(tensor.type);
    QuantizedMatrix vector = NewQuantizedMatrix(SchemeOf(tensor.type), 1, k);
    QD_RETURN_IF_ERROR(source_->Read(tensor.offset, vector.data.data(), tensor.bytes));
    if (item.permuted_heads == 0) return vector;
    const std::vector<uint8_t> in_file = vector.data;
    for (int64_t i = 0; i < k; ++i) {
      const int64_t to = UnpermutedRow(i, k / item.permuted_heads);
      std::copy_n(in_file.data() + i * width, width, vector.data.data() + to * width);
    }
    return vector;
  }

  absl::StatusOr<QuantizedMatrix> ReadMatrix(const Item& item) const {
    const GgufTensor& tensor = item.tensor;
    const int64_t n = tensor.shape[0], k = tensor.shape[1], row_bytes = RowBytes(tensor.type, k);
    QuantizedMatrix matrix = NewQuantizedMatrix(SchemeOf(tensor.type), n, k);
    const int64_t piece = std::clamp<int64_t>(kReadBytes / row_bytes, 1, n);
    std::vector<uint8_t> rows(static_cast<size_t>(piece * row_bytes));
    for (int64_t begin = 0; begin < n; begin += piece) {
      const int64_t count = std::min(piece, n - begin);
      QD_RETURN_IF_ERROR(source_->Read(tensor.offset + begin * row_bytes, rows.data(), count * row_bytes));
      for (int64_t r = 0; r < count; ++r) {
        const int64_t row = begin + r;
        const int64_t to = item.permuted_heads == 0 ? row : UnpermutedRow(row, n / item.permuted_heads);
        UnpackRow(tensor.type, {rows.data() + r * row_bytes, static_cast<size_t>(row_bytes)}, to, matrix);
      }
    }
    return matrix;
  }

  std::unique_ptr<ByteSource> source_;
  std::vector<Item> items_;
};

absl::Status CheckArchitecture(Metadata& metadata) {
  // Only the first part of a split file says what the model is.
  if (metadata.Int("split.count", 0, 65536).value_or(1) > 1) {
    return absl::UnimplementedError("is one part of a split GGUF; join the parts with llama-gguf-split --merge");
  }
  const std::string architecture = metadata.String("general.architecture");
  QD_RETURN_IF_ERROR(metadata.status());
  if (architecture.empty()) return absl::DataLossError("general.architecture is missing");
  if (architecture != "llama") {
    // Those of gguf-py (constants.py) and of ComfyUI-GGUF that make pictures and films.
    constexpr std::string_view kDiffusion[] = {"flux",    "sd1",   "sd3",     "sdxl", "aura", "cogvideox",  "cosmos",
                                               "hidream", "hyvid", "lumina2", "ltxv", "pig",  "qwen_image", "wan"};
    const bool pictures = std::ranges::find(kDiffusion, architecture) != std::end(kDiffusion);
    return absl::UnimplementedError(
        absl::StrCat("architecture \"", Printable(architecture), "\" is ",
                     pictures ? "a diffusion model, which is not built yet" : "not supported (llama)"));
  }
  if (metadata.Int("llama.expert_count", 0, 65536).value_or(0) > 0) {
    return absl::UnimplementedError("a mixture of experts (llama.expert_count) is not supported");
  }
  return metadata.status();
}

// Keys of llama.cpp's other architectures, and what a Llama's graph has in their place.
struct OtherGraph {
  std::string_view key;
  double neutral;
};
constexpr OtherGraph kOtherGraphs[] = {{"attention.clamp_kqv", 0},
                                       {"attention.max_alibi_bias", 0},
                                       {"attention.causal", 1},
                                       {"attention.q_lora_rank", 0},
                                       {"attention.kv_lora_rank", 0},
                                       {"attention.temperature_scale", 0},
                                       {"attn_logit_softcapping", 0},
                                       {"final_logit_softcapping", 0},
                                       {"logit_scale", 1},
                                       {"embedding_scale", 1},
                                       {"residual_scale", 1},
                                       {"use_parallel_residual", 0},
                                       {"interleave_moe_layer_step", 0},
                                       {"rope.scaling.yarn_ext_factor", 1},
                                       {"rope.scaling.yarn_log_multiplier", 0}};
constexpr std::string_view kKnownKeys[] = {"context_length",
                                           "embedding_length",
                                           "block_count",
                                           "feed_forward_length",
                                           "vocab_size",
                                           "expert_count",
                                           "expert_used_count",
                                           "tensor_data_layout",
                                           "attention.head_count",
                                           "attention.head_count_kv",
                                           "attention.key_length",
                                           "attention.value_length",
                                           "attention.layer_norm_rms_epsilon",
                                           "attention.sliding_window",
                                           "attention.scale",
                                           "rope.dimension_count",
                                           "rope.freq_base",
                                           "rope.scale_linear",
                                           "rope.scaling.type",
                                           "rope.scaling.factor",
                                           "rope.scaling.original_context_length",
                                           "rope.scaling.attn_factor",
                                           "rope.scaling.yarn_attn_factor",
                                           "rope.scaling.yarn_beta_fast",
                                           "rope.scaling.yarn_beta_slow",
                                           "rope.scaling.finetuned"};

// A value as the number that kOtherGraphs compares; nothing where it is no number.
std::optional<double> AsNumber(const GgufValue& value) {
  if (const bool* flag = std::get_if<bool>(&value.value)) return *flag ? 1 : 0;
  if (const int64_t* whole = std::get_if<int64_t>(&value.value)) return static_cast<double>(*whole);
  if (const double* number = std::get_if<double>(&value.value)) return *number;
  return std::nullopt;
}

absl::Status CheckKeys(const Metadata& metadata, int64_t head_dim, std::vector<std::string>& warnings) {
  constexpr std::string_view kPrefix = "llama.";
  for (const auto& [key, value] : metadata.values()) {
    if (!std::string_view(key).starts_with(kPrefix)) continue;
    const std::string_view name = std::string_view(key).substr(kPrefix.size());
    const auto other = std::ranges::find(kOtherGraphs, name, &OtherGraph::key);
    const bool scale = name == "attention.scale";
    if (other == std::end(kOtherGraphs) && !scale) {
      if (std::ranges::find(kKnownKeys, name) == std::end(kKnownKeys)) {
        warnings.push_back(absl::StrCat("unknown key ", Printable(key), ", ignored"));
      }
      continue;
    }
    const double neutral = scale ? 1 / std::sqrt(static_cast<double>(head_dim)) : other->neutral;
    const std::optional<double> number = AsNumber(value);
    if (!number.has_value() || std::abs(*number - neutral) > 1e-6) {
      return absl::UnimplementedError(absl::StrCat(Printable(key), number.has_value() ? absl::StrCat(" ", *number) : "",
                                                   " is not supported (", neutral, ")"));
    }
  }
  return absl::OkStatus();
}

// llama.cpp scales the cosines of yarn by attn_factor times this (ggml, rope_yarn).
double YarnMscale(double factor) { return 1.0 + 0.1 * std::log(factor); }

absl::Status WriteRope(Metadata& metadata, int64_t head_dim, Json& config) {
  const double theta = metadata.Float("llama.rope.freq_base").value_or(10000.0);
  config["rope_theta"] = theta;
  const int64_t rotated = metadata.Int("llama.rope.dimension_count", 1, 65536).value_or(head_dim);
  if (rotated != head_dim) {
    return absl::UnimplementedError(absl::StrCat("llama.rope.dimension_count ", rotated, " of head size ", head_dim,
                                                 ": partial rotation is not supported"));
  }
  // As llama.cpp (llama-model.cpp): a factor alone is linear, 0 is no factor.
  const double old_factor = metadata.Float("llama.rope.scale_linear").value_or(0);
  const std::string kind = metadata.String("llama.rope.scaling.type", "linear");
  const double named_factor = metadata.Float("llama.rope.scaling.factor").value_or(old_factor);
  const double factor = named_factor == 0 ? 1 : named_factor;
  QD_RETURN_IF_ERROR(metadata.status());
  if (kind == "none") return absl::OkStatus();
  if (kind != "linear" && kind != "yarn") {
    return absl::UnimplementedError(
        absl::StrCat("llama.rope.scaling.type \"", Printable(kind), "\" is not supported (none, linear, yarn)"));
  }
  if (kind == "linear") {
    if (factor != 1) config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", factor}};
    return metadata.status();
  }
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  Json& yarn = config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", factor}};
  if (const auto original = metadata.Int("llama.rope.scaling.original_context_length", 1, kMax)) {
    yarn["original_max_position_embeddings"] = *original;
  }
  double attention = metadata.Float("llama.rope.scaling.attn_factor").value_or(1);
  attention *= metadata.Float("llama.rope.scaling.yarn_attn_factor").value_or(1);
  if (factor > 0) yarn["attention_factor"] = attention * YarnMscale(factor);
  if (const auto fast = metadata.Float("llama.rope.scaling.yarn_beta_fast")) yarn["beta_fast"] = *fast;
  if (const auto slow = metadata.Float("llama.rope.scaling.yarn_beta_slow")) yarn["beta_slow"] = *slow;
  return metadata.status();
}

// general.sampling.* as a generation_config.json, with the values that llama.cpp has for those that are not there
// (common.h, common_params_sampling). Null where there are none.
Json GenerationConfig(Metadata& metadata, std::vector<std::string>& warnings) {
  Json config;
  const auto number = [&](const std::string& key) { return metadata.Float("general.sampling." + key); };
  const std::optional<double> temperature = number("temp"), top_p = number("top_p"), min_p = number("min_p");
  const std::optional<int64_t> top_k = metadata.Int("general.sampling.top_k", 0, std::numeric_limits<int32_t>::max());
  if (temperature || top_k || top_p || min_p) {
    config = {{"do_sample", true},
              {"temperature", temperature.value_or(0.8)},
              {"top_k", top_k.value_or(40)},
              {"top_p", top_p.value_or(0.95)},
              {"min_p", min_p.value_or(0.05)}};
  }
  if (const std::optional<double> penalty = number("penalty_repeat"); penalty.value_or(1) != 1) {
    config["repetition_penalty"] = *penalty;
    warnings.push_back(
        "general.sampling.penalty_repeat holds over the prompt and the output, not over a last few tokens");
  }
  for (const char* key : {"xtc_probability", "mirostat"}) {
    if (number(key).value_or(0) != 0) {
      warnings.push_back(absl::StrCat("general.sampling.", key, " is not supported and has no effect"));
    }
  }
  if (metadata.Has("general.sampling.sequence")) {
    warnings.push_back("general.sampling.sequence has no effect: temperature, top-k, top-p, min-p is the order here");
  }
  return config;
}

// The keys of LlamaForCausalLM's config.json (transformers configuration_llama.py). Ranges that matter to the model
// alone are ParseLlamaConfig's to check.
absl::Status WriteConfig(const GgufFile& file, Metadata& metadata, const std::optional<GgufVocab>& vocab,
                         Json& config) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  const int64_t hidden = metadata.RequiredInt("llama.embedding_length", 1, kMax);
  const int64_t heads = metadata.RequiredInt("llama.attention.head_count", 1, kMax);
  const int64_t derived = std::max<int64_t>(1, hidden / heads);
  const int64_t head_dim = metadata.Int("llama.attention.key_length", 1, kMax).value_or(derived);
  const int64_t value_dim = metadata.Int("llama.attention.value_length", 1, kMax).value_or(derived);
  config["architectures"] = {"LlamaForCausalLM"};
  config["model_type"] = "llama";
  config["hidden_act"] = "silu";
  config["hidden_size"] = hidden;
  config["intermediate_size"] = metadata.RequiredInt("llama.feed_forward_length", 1, kMax);
  config["num_hidden_layers"] = metadata.RequiredInt("llama.block_count", 1, kMax);
  config["num_attention_heads"] = heads;
  config["num_key_value_heads"] = metadata.Int("llama.attention.head_count_kv", 1, kMax).value_or(heads);
  config["head_dim"] = head_dim;
  config["max_position_embeddings"] = metadata.RequiredInt("llama.context_length", 1, kMax);
  config["rms_norm_eps"] = metadata.Float("llama.attention.layer_norm_rms_epsilon").value_or(-1.0);
  if (!metadata.Has("llama.attention.layer_norm_rms_epsilon")) {
    metadata.Fail("llama.attention.layer_norm_rms_epsilon is missing");
  }
  const std::optional<int64_t> vocab_size = metadata.Int("llama.vocab_size", 1, kMax);
  if (!vocab_size.has_value() && !vocab.has_value())
    metadata.Fail("neither llama.vocab_size nor tokenizer.ggml.tokens");
  config["vocab_size"] = vocab_size.value_or(vocab.has_value() ? static_cast<int64_t>(vocab->tokens.size()) : 0);
  QD_RETURN_IF_ERROR(metadata.status());
  if (value_dim != head_dim) {
    return absl::UnimplementedError(
        absl::StrCat("llama.attention.value_length ", value_dim, " differs from key_length ", head_dim));
  }
  QD_RETURN_IF_ERROR(WriteRope(metadata, head_dim, config));
  if (const auto window = metadata.Int("llama.attention.sliding_window", 0, kMax)) config["sliding_window"] = *window;
  config["tie_word_embeddings"] = std::none_of(file.tensors.begin(), file.tensors.end(),
                                               [](const GgufTensor& tensor) { return tensor.name == "output.weight"; });
  if (!vocab.has_value()) return absl::OkStatus();
  if (vocab->bos_id.has_value()) config["bos_token_id"] = *vocab->bos_id;
  Json eos = Json::array();
  // Ends of a turn and of a message end a generation too.
  for (const std::optional<int32_t>& id : {vocab->eos_id, vocab->eot_id, vocab->eom_id}) {
    if (id.has_value() && std::find(eos.begin(), eos.end(), *id) == eos.end()) eos.push_back(*id);
  }
  if (!eos.empty()) config["eos_token_id"] = eos;
  return metadata.status();
}

// Absent where the file has no tokenizer. Moves the large arrays out of the file's metadata.
absl::StatusOr<std::optional<GgufVocab>> TakeVocab(GgufFile& file) {
  Metadata metadata(file);
  if (!metadata.Has("tokenizer.ggml.model")) return std::nullopt;
  GgufVocab vocab;
  vocab.model = metadata.String("tokenizer.ggml.model");
  vocab.pre = metadata.String("tokenizer.ggml.pre");
  using Strings = std::vector<std::string>;
  const auto take_strings = [&](std::string_view key) {
    const Strings* found = metadata.Find<Strings>(key, "array of strings");
    return found == nullptr ? Strings() : std::move(std::get<Strings>(file.metadata.find(key)->second.value));
  };
  vocab.tokens = take_strings("tokenizer.ggml.tokens");
  vocab.merges = take_strings("tokenizer.ggml.merges");
  if (const auto* scores = metadata.Find<std::vector<double>>("tokenizer.ggml.scores", "array of floats")) {
    vocab.scores.assign(scores->begin(), scores->end());
  }
  if (const auto* types = metadata.Find<std::vector<int64_t>>("tokenizer.ggml.token_type", "array of integers")) {
    vocab.token_types = *types;
  }
  // llama.cpp's defaults for a SentencePiece vocabulary (llama-vocab.cpp); other kinds have none.
  const bool spm = vocab.model == "llama";
  const size_t tokens = vocab.tokens.size();
  const auto id = [&](std::string_view key, size_t fallback) {
    std::optional<int32_t> value = metadata.TokenId(key, tokens);
    if (!value.has_value() && spm && fallback < tokens) value = static_cast<int32_t>(fallback);
    return value;
  };
  vocab.bos_id = id("tokenizer.ggml.bos_token_id", 1);
  vocab.eos_id = id("tokenizer.ggml.eos_token_id", 2);
  vocab.unk_id = id("tokenizer.ggml.unknown_token_id", 0);
  vocab.eot_id = metadata.TokenId("tokenizer.ggml.eot_token_id", tokens);
  vocab.eom_id = metadata.TokenId("tokenizer.ggml.eom_token_id", tokens);
  vocab.fim_pad_id = metadata.TokenId("tokenizer.ggml.fim_pad_token_id", tokens);
  vocab.fim_rep_id = metadata.TokenId("tokenizer.ggml.fim_rep_token_id", tokens);
  vocab.fim_sep_id = metadata.TokenId("tokenizer.ggml.fim_sep_token_id", tokens);
  vocab.add_bos = metadata.Bool("tokenizer.ggml.add_bos_token");
  vocab.add_eos = metadata.Bool("tokenizer.ggml.add_eos_token");
  vocab.add_space_prefix = metadata.Bool("tokenizer.ggml.add_space_prefix");
  QD_RETURN_IF_ERROR(metadata.status());
  QD_RETURN_IF_ERROR(CheckGgufVocab(vocab));
  return vocab;
}

std::map<std::string, std::string> SpecialTokens(Metadata& metadata, const GgufVocab& vocab) {
  std::map<std::string, std::string> tokens;
  const auto add = [&](const char* name, std::optional<int32_t> id) {
    if (id.has_value()) tokens[name] = vocab.tokens[static_cast<size_t>(*id)];
  };
  const auto named = [&](std::string_view key) { return metadata.TokenId(key, vocab.tokens.size()); };
  add("bos_token", vocab.bos_id);
  add("eos_token", vocab.eos_id);
  add("unk_token", vocab.unk_id);
  add("sep_token", named("tokenizer.ggml.seperator_token_id"));  // GGUF spells it so
  add("pad_token", named("tokenizer.ggml.padding_token_id"));
  add("cls_token", named("tokenizer.ggml.cls_token_id"));
  add("mask_token", named("tokenizer.ggml.mask_token_id"));
  return tokens;
}

// Keys of gguf-py's add_chat_template. Its list of names, tokenizer.chat_templates, says no more than the keys do.
std::map<std::string, std::string> NamedTemplates(const GgufFile& file, Metadata& metadata) {
  constexpr std::string_view kKey = "tokenizer.chat_template", kNamed = "tokenizer.chat_template.";
  std::map<std::string, std::string> templates;
  const auto add = [&](const std::string& name, std::string_view key) {
    std::string source = metadata.String(key);
    if (!name.empty() && !source.empty()) templates.insert_or_assign(name, std::move(source));
  };
  for (auto it = file.metadata.lower_bound(kNamed); it != file.metadata.end() && it->first.starts_with(kNamed); ++it) {
    add(it->first.substr(kNamed.size()), it->first);
  }
  add("default", kKey);
  return templates;
}

absl::StatusOr<GgufModel> Assemble(GgufFile& file, std::unique_ptr<ByteSource> source) {
  Metadata metadata(file);
  QD_RETURN_IF_ERROR(CheckArchitecture(metadata));
  GgufModel model;
  QD_ASSIGN_OR_RETURN(model.vocab, TakeVocab(file));
  Json config;
  QD_RETURN_IF_ERROR(WriteConfig(file, metadata, model.vocab, config));
  model.config_json = config.dump(2, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  model.chat_templates = NamedTemplates(file, metadata);
  std::vector<std::string> warnings;
  QD_RETURN_IF_ERROR(CheckKeys(metadata, config["head_dim"].get<int64_t>(), warnings));
  const Json generation = GenerationConfig(metadata, warnings);
  if (!generation.is_null()) model.generation_config_json = generation.dump();
  if (model.vocab.has_value()) model.special_tokens = SpecialTokens(metadata, *model.vocab);
  QD_RETURN_IF_ERROR(metadata.status());
  auto store = std::make_unique<GgufStore>(std::move(source));
  const int64_t layers = config["num_hidden_layers"].get<int64_t>();
  const HeadCounts heads = {config["num_attention_heads"].get<int64_t>(), config["num_key_value_heads"].get<int64_t>()};
  int64_t rotation_tables = 0;
  for (const GgufTensor& tensor : file.tensors) {
    if (IsRotationTable(tensor.name)) {
      ++rotation_tables;
      continue;
    }
    std::optional<HfTensor> hf = Translate(tensor.name, layers, heads);
    if (!hf.has_value()) {
      return absl::DataLossError(absl::StrCat("tensor ", tensor.name, ": is none of a llama with ", layers, " layers"));
    }
    QD_RETURN_IF_ERROR(store->Add(tensor, *std::move(hf)));
  }
  if (rotation_tables > 0) warnings.push_back(absl::StrCat(rotation_tables, " tensors attn_rot_embd are not used"));
  for (std::string& warning : warnings) store->Warn(std::move(warning));
  store->Finish();
  model.weights = std::move(store);
  return model;
}

}  // namespace

absl::StatusOr<GgufModel> OpenGguf(std::unique_ptr<ByteSource> source) {
  QD_ASSIGN_OR_RETURN(GgufFile file, ParseGguf(*source));
  const std::string name = source->name();
  absl::StatusOr<GgufModel> model = Assemble(file, std::move(source));
  if (!model.ok()) return absl::Status(model.status().code(), absl::StrCat(name, ": ", model.status().message()));
  return model;
}

}  // namespace quantd
