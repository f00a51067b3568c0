#include "runtime/llama.h"

#include <cmath>
#include <string>
#include <vector>

#include "base/strings.h"
#include "runtime/kv_cache.h"
#include "runtime/rope.h"
#include "runtime/workspace.h"

namespace quantd {
namespace {

struct LlamaLayer {
  Tensor attention_norm, mlp_norm;  // f32 [hidden]
  QuantizedLinear qkv, o, gate_up, down;
};

absl::Status BadFactor(float factor) {
  return absl::DataLossError(absl::StrCat("rope_freqs.weight: holds ", factor, ", expected finite factors above 0"));
}

// As transformers 5 (modeling_utils.py, tie_weights): a checkpoint that holds the table and a head that differs from it
// has both, whatever its configuration says.
bool IsTied(const LlamaConfig& config, ParamLoader& loader) {
  if (!config.tie_word_embeddings) return false;
  constexpr char kTable[] = "model.embed_tokens.weight", kHead[] = "lm_head.weight";
  if (!loader.Has(kTable) || !loader.Has(kHead) || loader.SameValues(kTable, kHead)) return true;
  loader.Warn("config.json: tie_word_embeddings is true, but lm_head.weight differs from the table: both are used");
  return false;
}

class Llama final : public LanguageModel {
 public:
  Llama(const LlamaConfig& config, const ContextLimits& context, DType activations, ParamLoader& loader,
        std::unique_ptr<ModelParams> params)
      : params_(std::move(params)), config_(config) {
    shape_ = {config.vocab_size, config.hidden_size, config.layers, config.kv_heads,
              config.head_dim,   context.max_tokens, activations};
    const int64_t hidden = config.hidden_size, q = config.heads * config.head_dim,
                  kv = config.kv_heads * config.head_dim;
    using Bias = ParamLoader::Bias;
    const auto bias = [&](bool configured) {
      return config.biases_where_there ? Bias::kWhereThere : configured ? Bias::kExpected : Bias::kNone;
    };
    const Bias attention_bias = bias(config.attention_bias), mlp_bias = bias(config.mlp_bias);
    const bool tied = IsTied(config, loader);
    // A tied table is kept under either name.
    const bool under_head_name = tied && !loader.Has("model.embed_tokens.weight") && loader.Has("lm_head.weight");
    table_ = loader.Table(under_head_name ? "lm_head" : "model.embed_tokens", config.vocab_size, hidden,
                          tied ? WeightRole::kTiedTable : WeightRole::kEmbedding);
    for (int64_t i = 0; i < config.layers; ++i) {
      const std::string layer = "model.layers." + std::to_string(i), attn = layer + ".self_attn.",
                        mlp = layer + ".mlp.";
      LlamaLayer& l = layers_.emplace_back();
      l.attention_norm = loader.Vector(layer + ".input_layernorm.weight", hidden);
      l.qkv =
          loader.Linear({{attn + "q_proj", q}, {attn + "k_proj", kv}, {attn + "v_proj", kv}}, hidden, attention_bias);
      l.o = loader.Linear({{attn + "o_proj", hidden}}, q, attention_bias);
      l.mlp_norm = loader.Vector(layer + ".post_attention_layernorm.weight", hidden);
      l.gate_up =
          loader.Linear({{mlp + "gate_proj", config.intermediate_size}, {mlp + "up_proj", config.intermediate_size}},
                        hidden, mlp_bias);
      l.down = loader.Linear({{mlp + "down_proj", hidden}}, config.intermediate_size, mlp_bias);
    }
    final_norm_ = loader.Vector("model.norm.weight", hidden);
    if (tied) {
      loader.Ignore("lm_head.weight");  // some tied checkpoints hold the table twice
      head_ = loader.Head(table_);
    } else {
      head_ = loader.Linear({{"lm_head", config.vocab_size}}, hidden, Bias::kNone);
    }
    std::vector<float> factors;  // llama.cpp's form of the llama3 rope scaling
    if (loader.Has("rope_freqs.weight")) factors = loader.HostVector("rope_freqs.weight", config.head_dim / 2);
    for (float factor : factors) {
      if (!(factor > 0) || !std::isfinite(factor)) loader.Fail(BadFactor(factor));
    }
    cos_sin_ = loader.Constant({context.positions, config.head_dim}, [&](float* table) {
      FillRopeTable(config.head_dim, config.rope, factors, context.max_tokens, context.positions, table);
    });
  }

  const LanguageModelShape& shape() const override { return shape_; }

  void Forward(StepContext& step, const RaggedBatch& batch, KvCache& cache, const Tensor& hidden) override {
    Backend& b = step.backend;
    b.Embedding(batch.token_ids, *table_, hidden);
    for (int64_t i = 0; i < config_.layers; ++i) {
      Attention(step, layers_[static_cast<size_t>(i)], batch, cache.layer(i), hidden);
      Mlp(step, layers_[static_cast<size_t>(i)], hidden);
    }
  }

  void Logits(StepContext& step, const Tensor& hidden_rows, const Tensor& logits) override {
    Workspace::Scope scope(step.workspace);
    Activation x = head_.NewInput(step.workspace, hidden_rows.rows());
    step.backend.RmsNorm(hidden_rows, final_norm_, config_.rms_norm_eps, x);
    head_.Forward(step, x, logits);
  }

 private:
  // hidden += o(attention(rope(qkv(norm(hidden)))))
  void Attention(StepContext& step, const LlamaLayer& layer, const RaggedBatch& batch, const PagedKv& kv,
                 const Tensor& hidden) const {
    Backend& b = step.backend;
    Workspace::Scope scope(step.workspace);
    const int64_t T = batch.tokens(), D = config_.head_dim, H = config_.heads, H_kv = config_.kv_heads;
    Activation x = layer.qkv.NewInput(step.workspace, T);
    b.RmsNorm(hidden, layer.attention_norm, config_.rms_norm_eps, x);
    Tensor qkv = step.workspace.New(shape_.activations, {T, (H + 2 * H_kv) * D});
    layer.qkv.Forward(step, x, qkv);
    Tensor q = qkv.Columns(0, H * D).Reshape({T, H, D});
    Tensor k = qkv.Columns(H * D, H_kv * D).Reshape({T, H_kv, D});
    Tensor v = qkv.Columns((H + H_kv) * D, H_kv * D).Reshape({T, H_kv, D});
    b.Rope(RopeStyle::kHalves, cos_sin_, batch.positions, q);
    b.Rope(RopeStyle::kHalves, cos_sin_, batch.positions, k);
    b.AppendKv(k, v, batch, kv);
    Activation attended = layer.o.NewInput(step.workspace, T);
    b.PagedAttention(q, kv, batch, 1.0f / std::sqrt(static_cast<float>(D)), attended);
    layer.o.Forward(step, attended, hidden, {.residual = hidden});
  }

  // hidden += down(silu(gate(norm(hidden))) * up(norm(hidden)))
  void Mlp(StepContext& step, const LlamaLayer& layer, const Tensor& hidden) const {
    Backend& b = step.backend;
    Workspace::Scope scope(step.workspace);
    const int64_t T = hidden.rows();
    Activation x = layer.gate_up.NewInput(step.workspace, T);
    b.RmsNorm(hidden, layer.mlp_norm, config_.rms_norm_eps, x);
    Tensor gate_up = step.workspace.New(shape_.activations, {T, 2 * config_.intermediate_size});
    layer.gate_up.Forward(step, x, gate_up);
    Activation gated = layer.down.NewInput(step.workspace, T);
    b.GatedActivation(ActivationKind::kSilu, gate_up, gated);
    layer.down.Forward(step, gated, hidden, {.residual = hidden});
  }

  std::unique_ptr<ModelParams> params_;
  LlamaConfig config_;
  LanguageModelShape shape_;
  const DeviceWeight* table_ = nullptr;
  std::vector<LlamaLayer> layers_;
  Tensor final_norm_;  // f32 [hidden]
  QuantizedLinear head_;
  Tensor cos_sin_;  // f32 [positions, D]
};

}  // namespace

std::unique_ptr<LanguageModel> MakeLlama(const LlamaConfig& config, const ContextLimits& context, DType activations,
                                         ParamLoader& loader, std::unique_ptr<ModelParams> params) {
  return std::make_unique<Llama>(config, context, activations, loader, std::move(params));
}

}  // namespace quantd
