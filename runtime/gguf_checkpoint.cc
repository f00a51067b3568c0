#include "runtime/gguf_checkpoint.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/gguf_config.h"
#include "runtime/gguf_metadata.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

constexpr int64_t kReadBytes = 1 << 20;  // rows are read and unpacked in pieces of about this size

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

// Absent where the file has no tokenizer. Moves the large arrays out of the file's metadata.
absl::StatusOr<std::optional<GgufVocab>> TakeVocab(GgufFile& file) {
  GgufMetadata metadata(file);
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
  // llama.cpp reads these for its vocabularies of type t5 alone.
  for (const char* key : {"tokenizer.ggml.precompiled_charsmap", "tokenizer.ggml.remove_extra_whitespaces"}) {
    if (metadata.Has(key)) LogWarning(absl::StrCat(key, " is not applied, as in llama.cpp"));
  }
  QD_RETURN_IF_ERROR(metadata.status());
  QD_RETURN_IF_ERROR(CheckGgufVocab(vocab));
  return vocab;
}

// The id of a token that only chat templates ask for: a value of another kind is a warning, and names none.
std::optional<int32_t> TemplateTokenId(GgufMetadata& metadata, std::string_view key, size_t tokens) {
  const auto it = metadata.values().find(key);
  if (it == metadata.values().end() || std::holds_alternative<int64_t>(it->second.value)) {
    return metadata.TokenId(key, tokens);
  }
  LogWarning(
      absl::StrCat(ToAbsl(key), " is of kind ", ToAbsl(KindName(it->second)), ", expected integer: it names none"));
  return std::nullopt;
}

std::map<std::string, std::string> SpecialTokens(GgufMetadata& metadata, const GgufVocab& vocab) {
  std::map<std::string, std::string> tokens;
  const auto add = [&](const char* name, std::optional<int32_t> id) {
    if (id.has_value()) tokens[name] = vocab.tokens[static_cast<size_t>(*id)];
  };
  const auto named = [&](std::string_view key) { return TemplateTokenId(metadata, key, vocab.tokens.size()); };
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
ChatTemplateSources NamedTemplates(const GgufFile& file) {
  constexpr std::string_view kKey = "tokenizer.chat_template", kNamed = "tokenizer.chat_template.";
  ChatTemplateSources templates;
  const auto add = [&](const std::string& name, const std::string& key, const GgufValue& value) {
    const auto* source = std::get_if<std::string>(&value.value);
    if (name.empty() || (source != nullptr && source->empty())) return;
    if (source != nullptr) {
      templates.insert_or_assign(name, *source);
    } else {
      templates.insert_or_assign(name, absl::DataLossError(absl::StrCat(Printable(key, 60), " is of kind ",
                                                                        ToAbsl(KindName(value)), ", expected string")));
    }
  };
  for (auto it = file.metadata.lower_bound(kNamed); it != file.metadata.end() && it->first.starts_with(kNamed); ++it) {
    add(it->first.substr(kNamed.size()), it->first, it->second);
  }
  if (const auto it = file.metadata.find(kKey); it != file.metadata.end()) add("default", it->first, it->second);
  return templates;
}

absl::StatusOr<GgufModel> Assemble(GgufFile& file, std::unique_ptr<ByteSource> source) {
  GgufMetadata metadata(file);
  QD_RETURN_IF_ERROR(CheckGgufArchitecture(metadata));
  GgufModel model;
  QD_ASSIGN_OR_RETURN(model.vocab, TakeVocab(file));
  QD_ASSIGN_OR_RETURN(GgufConfig config,
                      WriteGgufConfig(file, metadata, model.vocab.has_value() ? &*model.vocab : nullptr));
  model.config_json = std::move(config.config_json);
  model.generation_config_json = std::move(config.generation_config_json);
  model.chat_templates = NamedTemplates(file);
  if (model.vocab.has_value()) model.special_tokens = SpecialTokens(metadata, *model.vocab);
  QD_RETURN_IF_ERROR(metadata.status());
  auto store = std::make_unique<GgufStore>(std::move(source));
  const HeadCounts heads = {config.heads, config.kv_heads};
  int64_t rotation_tables = 0;
  for (const GgufTensor& tensor : file.tensors) {
    if (IsRotationTable(tensor.name)) {
      ++rotation_tables;
      continue;
    }
    std::optional<HfTensor> hf = Translate(tensor.name, config.layers, heads);
    if (!hf.has_value()) {
      return absl::DataLossError(
          absl::StrCat("tensor ", tensor.name, ": is none of a llama with ", config.layers, " layers"));
    }
    QD_RETURN_IF_ERROR(store->Add(tensor, *std::move(hf)));
  }
  for (std::string& warning : config.warnings) store->Warn(std::move(warning));
  if (rotation_tables > 0) store->Warn(absl::StrCat(rotation_tables, " tensors attn_rot_embd are not used"));
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
