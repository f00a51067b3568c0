// What a load refuses, with which error, and that a failed one leaves nothing behind.
#include "runtime/model_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "runtime/json.h"
#include "runtime/ways_to_fit.h"
#include "tests/testing/safetensors_writer.h"
#include "tests/testing/temp_dir.h"

namespace quantd {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::SafetensorsWriter;
using testing::TempDir;

constexpr int64_t kHidden = 32, kFeedForward = 48, kVocab = 20, kLayers = 2;

// A tied Llama of two heads of 16 and one KV head; members of `patch` go over the config's.
std::string Config(const std::string& patch = "") {
  Json config = Json::parse(
      R"({"architectures":["LlamaForCausalLM"],"vocab_size":20,"hidden_size":32,"intermediate_size":48,"num_hidden_layers":2,
             "num_attention_heads":2,"num_key_value_heads":1,"max_position_embeddings":64,"tie_word_embeddings":true})");
  config.update(Json::parse("{" + patch + "}"));
  return config.dump();
}

using NamedShape = std::pair<std::string, std::vector<int64_t>>;
std::vector<NamedShape> Tensors() {
  std::vector<NamedShape> all = {{"model.embed_tokens.weight", {kVocab, kHidden}}, {"model.norm.weight", {kHidden}}};
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    all.push_back({layer + "input_layernorm.weight", {kHidden}});
    all.push_back({layer + "post_attention_layernorm.weight", {kHidden}});
    all.push_back({layer + "self_attn.q_proj.weight", {32, kHidden}});
    all.push_back({layer + "self_attn.k_proj.weight", {16, kHidden}});
    all.push_back({layer + "self_attn.v_proj.weight", {16, kHidden}});
    all.push_back({layer + "self_attn.o_proj.weight", {kHidden, 32}});
    all.push_back({layer + "mlp.gate_proj.weight", {kFeedForward, kHidden}});
    all.push_back({layer + "mlp.up_proj.weight", {kFeedForward, kHidden}});
    all.push_back({layer + "mlp.down_proj.weight", {kHidden, kFeedForward}});
  }
  return all;
}

// `nan_in` has a NaN, `other` has values of its own.
std::string Weights(const std::vector<NamedShape>& tensors, const std::string& nan_in = "",
                    const std::string& other = "") {
  SafetensorsWriter writer;
  for (const auto& [name, shape] : tensors) {
    int64_t elements = 1;
    for (int64_t d : shape) elements *= d;
    std::vector<float> values(static_cast<size_t>(elements));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 13) / 64 - 0.1f;
    if (name == nan_in) values[5] = NAN;
    if (name == other) values[5] = 1;
    writer.AddF32(name, shape, values);
  }
  return writer.Finish();
}

class ModelLoaderTest : public ::testing::Test {
 protected:
  ModelLoaderTest() : backend_(CreateBackend("cpu", options_).value()) {
    Write(Config(), Weights(Tensors()));
    spec_.max_batch_tokens = spec_.max_sequences = 4;
  }
  void Write(const std::string& config, const std::string& weights) {
    folder_.Write("config.json", config);
    folder_.Write("model.safetensors", weights);
  }
  absl::StatusOr<LoadedModel> Load(const LoadHooks& hooks = {}) {
    absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(folder_.path());
    if (!checkpoint.ok()) return checkpoint.status();
    const absl::StatusOr<MemoryPlan> plan = PlanModel(*checkpoint, spec_, "cpu", options_);
    if (!plan.ok()) return plan.status();
    return LoadModel(*checkpoint, spec_, *plan, *backend_, 1, hooks);
  }
  absl::StatusOr<MemoryPlan> Plan() {
    absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(folder_.path());
    if (!checkpoint.ok()) return checkpoint.status();
    return PlanModel(*checkpoint, spec_, "cpu", options_);
  }
  int64_t Held() const {
    const MemorySnapshot memory = backend_->memory();
    const auto it = memory.models.find(1);
    return it == memory.models.end() ? 0 : it->second.total();
  }
  void ExpectRefused(absl::StatusCode code, const std::string& message, const LoadHooks& hooks = {}) {
    const absl::Status status = Load(hooks).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_EQ(Held(), 0);
  }

  const BackendOptions options_{.threads = 2, .dry_run = false, .isa = ""};
  TempDir folder_;
  LoadSpec spec_;
  std::unique_ptr<Backend> backend_;
};

TEST_F(ModelLoaderTest, WhatRunsIsWhatWasPlanned) {
  for (const char* weights :
       {"", "bf16", "int8_weight_only", "int4_weight_only", "int8_dynamic_activation_int8_weight"}) {
    for (KvFormat kv : {KvFormat::kF32, KvFormat::kInt8}) {
      spec_.weights = weights;
      spec_.keys = spec_.values = kv;
      absl::StatusOr<MemoryPlan> plan = Plan();
      ASSERT_TRUE(plan.ok()) << plan.status();
      absl::StatusOr<LoadedModel> loaded = Load();
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ(backend_->memory().models.at(1).bytes, plan->use.bytes) << weights;
      EXPECT_EQ(loaded->parameters, plan->parameters);
      EXPECT_EQ(loaded->limits.max_context, plan->max_context);
      ASSERT_EQ(loaded->layers.size(), plan->layers.size());
      for (size_t i = 0; i < plan->layers.size(); ++i) {
        EXPECT_EQ(loaded->layers[i].scheme, plan->layers[i].scheme);
        EXPECT_EQ(loaded->layers[i].bytes, plan->layers[i].bytes) << loaded->layers[i].name;
      }
      *loaded = {};
      EXPECT_EQ(Held(), 0);
    }
  }
}

TEST_F(ModelLoaderTest, ProgressEndsAtTheTotal) {
  LoadProgress last;
  int64_t calls = 0;
  LoadHooks hooks;
  hooks.progress = [&](const LoadProgress& progress) {
    EXPECT_GE(progress.done_bytes, last.done_bytes);
    last = progress;
    ++calls;
  };
  ASSERT_TRUE(Load(hooks).ok());
  EXPECT_EQ(calls, static_cast<int64_t>(Tensors().size()));
  EXPECT_GT(last.total_bytes, 0);
  EXPECT_EQ(last.done_bytes, last.total_bytes);
}

TEST_F(ModelLoaderTest, CancelledLoadFreesWhatItHad) {
  for (int64_t tensors : {0, 1, 7, 19}) {
    int64_t asked = 0, device_calls = 0;
    LoadHooks hooks;
    hooks.cancelled = [&] { return asked++ >= tensors; };
    hooks.on_device = [&](const std::function<void()>& work) {
      ++device_calls;
      work();
    };
    ExpectRefused(absl::StatusCode::kCancelled, "load cancelled", hooks);
    EXPECT_EQ(asked, tensors + 1) << "tensors after the cancellation were asked about";
    EXPECT_GT(device_calls, 0);
  }
}

TEST_F(ModelLoaderTest, MissingTensorIsDataLoss) {
  std::vector<NamedShape> tensors = Tensors();
  tensors.erase(tensors.end() - 3);
  Write(Config(), Weights(tensors));
  ExpectRefused(absl::StatusCode::kDataLoss, "model.layers.1.mlp.gate_proj.weight: the checkpoint has no such tensor");
}

// As transformers, which makes what is missing of a bias and says so.
TEST_F(ModelLoaderTest, BiasesThatTheConfigAsksForAndTheFileLacksCountAsZero) {
  const std::string config = Config(R"("attention_bias":true,"mlp_bias":true)");
  std::vector<NamedShape> tensors = Tensors();
  for (int64_t i = 0; i < kLayers; ++i) {
    for (const char* layer : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}) {
      const int64_t rows = std::string(layer) == "self_attn.q_proj" ? 32 : 16;
      tensors.push_back({"model.layers." + std::to_string(i) + "." + layer + ".bias", {rows}});
    }
  }
  Write(config, Weights(tensors));
  const absl::StatusOr<MemoryPlan> plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->warnings, ElementsAre(AllOf(HasSubstr("8 biases that the configuration asks for are missing"),
                                                HasSubstr("model.layers.0.self_attn.o_proj.bias"))));
  EXPECT_TRUE(Load().ok()) << Load().status();
  tensors.back().second = {15};
  Write(config, Weights(tensors));
  ExpectRefused(absl::StatusCode::kDataLoss, "model.layers.1.self_attn.v_proj.bias: shape [15], expected [16]");
}

TEST_F(ModelLoaderTest, TensorsThatTheModelDoesNotUseAreAWarningButForTheHarmless) {
  std::vector<NamedShape> tensors = Tensors();
  tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", {8}});
  tensors.push_back({"lm_head.weight", {kVocab, kHidden}});  // a tied checkpoint that holds its table twice
  Write(Config(), Weights(tensors));
  ASSERT_TRUE(Load().ok()) << Load().status();
  EXPECT_THAT(Plan()->warnings, IsEmpty());
  tensors.push_back({"model.layers.0.self_attn.q_norm.weight", {16}});
  tensors.push_back({"model.layers.0.self_attn.q_proj.bias", {32}});  // the configuration says there is none
  tensors.push_back({"model.layers.7.mlp.up_proj.weight", {3}});
  Write(Config(), Weights(tensors));
  ASSERT_TRUE(Load().ok()) << Load().status();
  EXPECT_THAT(Plan()->warnings,
              ElementsAre(HasSubstr("3 tensors of the checkpoint are not of the model and are not used: "
                                    "model.layers.0.self_attn.q_norm.weight, model.layers.0.self_attn.q_proj.bias, ")));
}

TEST_F(ModelLoaderTest, ATensorThatCannotBeReadMattersOnlyToAModelThatUsesIt) {
  for (const bool used : {false, true}) {
    SafetensorsWriter writer;
    for (const auto& [name, shape] : Tensors()) {
      if (used && name == "model.norm.weight") continue;
      int64_t elements = 1;
      for (int64_t d : shape) elements *= d;
      writer.AddF32(name, shape, std::vector<float>(static_cast<size_t>(elements), 0.5f));
    }
    writer.Add(used ? "model.norm.weight" : "model.layers.0.self_attn.bias", "I64", std::vector<int64_t>{kHidden},
               std::string(kHidden * 8, '\0'));
    Write(Config(), writer.Finish());
    if (used) {
      ExpectRefused(absl::StatusCode::kUnimplemented, "tensor model.norm.weight: dtype I64 is not supported");
    } else {
      EXPECT_TRUE(Load().ok()) << Load().status();
      EXPECT_THAT(Plan()->warnings, ElementsAre(HasSubstr("model.layers.0.self_attn.bias")));
    }
  }
}

// As transformers 5: what is there twice and differs is not tied, and a tied table may have either name.
TEST_F(ModelLoaderTest, ATiedHeadIsWhatTheFileSaysItIs) {
  const int64_t table_bytes = kVocab * kHidden * 4;
  ASSERT_TRUE(Plan().ok());
  const int64_t tied_bytes = Plan()->use.bytes[0];
  std::vector<NamedShape> tensors = Tensors();
  tensors.push_back({"lm_head.weight", {kVocab, kHidden}});
  Write(Config(), Weights(tensors));
  EXPECT_EQ(Plan()->use.bytes[0], tied_bytes) << "the same values twice";
  Write(Config(), Weights(tensors, /*nan_in=*/"", /*other=*/"lm_head.weight"));
  const absl::StatusOr<MemoryPlan> plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_GE(plan->use.bytes[0], tied_bytes + table_bytes);
  EXPECT_THAT(plan->warnings, ElementsAre(HasSubstr("tie_word_embeddings is true, but lm_head.weight differs")));
  EXPECT_TRUE(Load().ok()) << Load().status();
  tensors = Tensors();
  tensors[0].first = "lm_head.weight";
  Write(Config(), Weights(tensors));
  ASSERT_TRUE(Plan().ok()) << Plan().status();
  EXPECT_EQ(Plan()->use.bytes[0], tied_bytes) << "the table under the head's name";
  EXPECT_TRUE(Load().ok()) << Load().status();
  Write(Config(R"("tie_word_embeddings":false)"), Weights(Tensors()));
  ExpectRefused(absl::StatusCode::kDataLoss, "lm_head.weight: the checkpoint has no such tensor");
}

TEST_F(ModelLoaderTest, AWindowShorterThanTheContextIsRefusedWithWhatToDo) {
  Write(Config(R"("sliding_window":48)"), Weights(Tensors()));
  ExpectRefused(absl::StatusCode::kUnimplemented,
                "sliding_window 48 is shorter than the 64 tokens that a sequence can have here");
  EXPECT_EQ(Plan().status().code(), absl::StatusCode::kUnimplemented);
  spec_.max_context = 48;
  EXPECT_TRUE(Load().ok()) << Load().status();
  spec_.max_context = 49;
  ExpectRefused(absl::StatusCode::kUnimplemented, "with max_context at most 48 the model runs as it is");
  spec_.max_context = 0;
  for (const char* fine :
       {R"("sliding_window":64)", R"("sliding_window":null)", R"("sliding_window":4,"use_sliding_window":false)",
        R"("sliding_window":4,"layer_types":["full_attention","full_attention"])"}) {
    Write(Config(fine), Weights(Tensors()));
    EXPECT_TRUE(Load().ok()) << fine << Load().status();
  }
}

TEST_F(ModelLoaderTest, AMistralWhoseGraphIsLlamasLoads) {
  std::string config = Config(R"("sliding_window":null,"model_type":"mistral")");
  config.replace(config.find("LlamaFor"), 5, "Mistral");
  Write(config, Weights(Tensors()));
  EXPECT_TRUE(Load().ok()) << Load().status();
  config.replace(config.find("\"sliding_window\":null"), std::string("\"sliding_window\":null").size(),
                 "\"sliding_window\":32");
  Write(config, Weights(Tensors()));
  ExpectRefused(absl::StatusCode::kUnimplemented, "sliding_window 32");
}

// max_position_embeddings is what a model was trained on; a scaling that stretches it may be asked for more.
TEST_F(ModelLoaderTest, AScalingMayBeAskedForTheContextThatItStretchesTo) {
  struct Case {
    const char* patch;
    int64_t longest;
  };
  const Case cases[] = {{R"("rope_scaling":{"type":"dynamic","factor":4})", 256},
                        {R"("rope_scaling":{"type":"linear","factor":2})", 128},
                        {R"("rope_scaling":{"type":"linear","factor":0.5})", 64},
                        {R"("rope_scaling":{"type":"yarn","factor":4,"original_max_position_embeddings":32})", 128}};
  for (const Case& c : cases) {
    Write(Config(c.patch), Weights(Tensors()));
    spec_.max_context = 0;
    ASSERT_TRUE(Plan().ok()) << c.patch << Plan().status();
    EXPECT_EQ(Plan()->max_context, 64) << c.patch;
    spec_.max_context = c.longest;
    EXPECT_EQ(Plan()->max_context, c.longest) << c.patch;
    spec_.max_context = c.longest + 1;
    ExpectRefused(absl::StatusCode::kInvalidArgument, "expected 2 to the model's " + std::to_string(c.longest));
  }
}

TEST_F(ModelLoaderTest, WrongShapeIsDataLossThatNamesBoth) {
  std::vector<NamedShape> tensors = Tensors();
  tensors.back().second = {kFeedForward, kHidden};
  Write(Config(), Weights(tensors));
  ExpectRefused(absl::StatusCode::kDataLoss, "model.layers.1.mlp.down_proj.weight: shape [48, 32], expected [32, 48]");
  tensors = Tensors();
  tensors[0].second = {kVocab + 1, kHidden};
  Write(Config(), Weights(tensors));
  ExpectRefused(absl::StatusCode::kDataLoss, "model.embed_tokens.weight: shape [21, 32], expected [20, 32]");
}

TEST_F(ModelLoaderTest, WeightThatIsNotFiniteIsRefusedByName) {
  for (const char* scheme : {"", "bf16", "int8_weight_only"}) {
    for (const std::string name :
         {"model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight", "model.norm.weight"}) {
      SCOPED_TRACE(name + " as " + scheme);
      spec_.weights = scheme;
      Write(Config(), Weights(Tensors(), name));
      ExpectRefused(absl::StatusCode::kDataLoss, name + ": the value in row 0, column 5 is nan");
    }
  }
}

TEST_F(ModelLoaderTest, FileThatShrinksUnderTheLoadIsDataLoss) {
  absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(checkpoint.ok());
  const absl::StatusOr<MemoryPlan> plan = PlanModel(*checkpoint, spec_, "cpu", options_);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const std::string path = folder_.path() + "/model.safetensors";
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 4);
  const absl::Status status = LoadModel(*checkpoint, spec_, *plan, *backend_, 1, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_EQ(Held(), 0);
}

TEST_F(ModelLoaderTest, SpecOutOfRangeIsInvalidArgument) {
  struct Case {
    const char* message;
    void (*change)(LoadSpec&);
  };
  const Case cases[] = {
      {"quantization scheme \"int3\"", [](LoadSpec& s) { s.weights = "int3"; }},
      {"quantization scheme \"nf4\"",
       [](LoadSpec& s) {
         s.rules = {{"*", "nf4"}};
       }},
      {"kv_cache_bytes 100: one block of 32 tokens takes", [](LoadSpec& s) { s.kv_cache_bytes = 100; }},
      {"kv_cache_bytes -1", [](LoadSpec& s) { s.kv_cache_bytes = -1; }},
      {"max_context 1: expected at least 2", [](LoadSpec& s) { s.max_context = 1; }},
      {"max_context 65: expected 2 to the model's 64", [](LoadSpec& s) { s.max_context = 65; }},
      {"max_context 64: the KV cache holds 32 tokens",
       [](LoadSpec& s) {
         s.max_context = 64;
         s.kv_cache_bytes = 4096;  // one block: 2 layers, a key and a value of 16 bf16
       }},
      {"rules: pattern \"nosuchlayer\" matches no layer of the model",
       [](LoadSpec& s) {
         s.rules = {{"*down_proj", "bf16"}, {"nosuchlayer", "bf16"}};
       }},
      {"max_batch_tokens 0", [](LoadSpec& s) { s.max_batch_tokens = 0; }},
      {"max_sequences 5: more than max_batch_tokens 4", [](LoadSpec& s) { s.max_sequences = 5; }},
      {"activations f16", [](LoadSpec& s) { s.activations = DType::kF16; }},
  };
  for (const Case& c : cases) {
    const LoadSpec kept = spec_;
    c.change(spec_);
    ExpectRefused(absl::StatusCode::kInvalidArgument, c.message);
    EXPECT_EQ(Plan().status().code(), absl::StatusCode::kInvalidArgument) << c.message;
    spec_ = kept;
  }
}

// Configs that want more than there is: an error at once, neither a crash nor memory nor minutes.
TEST_F(ModelLoaderTest, AbsurdConfigsAreRefused) {
  struct Case {
    const char* patch;
    absl::StatusCode code;
    const char* message;
  };
  const Case cases[] = {
      {R"("num_attention_heads":4096,"head_dim":1024)", absl::StatusCode::kDataLoss, "expected [4194304, 32]"},
      {R"("hidden_size":16777216,"intermediate_size":16777216,"head_dim":16,"num_hidden_layers":4096)",
       absl::StatusCode::kDataLoss, "expected [20, 16777216]"},
      {R"("vocab_size":16777216)", absl::StatusCode::kDataLoss, "expected [16777216, 32]"},
      {R"("num_hidden_layers":4096,"num_attention_heads":4096,"num_key_value_heads":4096,"head_dim":1024,
          "max_position_embeddings":2147483647)",
       absl::StatusCode::kInvalidArgument, "kv_cache_bytes 1073741824: one block of 32 tokens takes"},
      {R"("rope_scaling":{"rope_type":"linear","factor":0})", absl::StatusCode::kInvalidArgument, "factor is 0"},
      {R"("max_position_embeddings":1)", absl::StatusCode::kInvalidArgument,
       "the model's max_context 1: expected at least 2"},
      {R"("num_key_value_heads":3)", absl::StatusCode::kInvalidArgument, "no multiple"},
  };
  for (const Case& c : cases) {
    Write(Config(c.patch), Weights(Tensors()));
    ExpectRefused(c.code, c.message);
  }
}

// The table of positions has a row for each that the cache can hold, not for each that the config dreams of.
TEST_F(ModelLoaderTest, LongestContextCostsNoMoreThanTheCacheHolds) {
  spec_.kv_cache_bytes = 1 << 20;
  absl::StatusOr<MemoryPlan> usual = Plan();
  ASSERT_TRUE(usual.ok()) << usual.status();
  Write(Config(R"("max_position_embeddings":2147483647)"), Weights(Tensors()));
  absl::StatusOr<MemoryPlan> plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->max_context, plan->kv_blocks * kKvBlockTokens);
  EXPECT_EQ(plan->use.bytes[0] - usual->use.bytes[0], (plan->max_context - usual->max_context) * 16 * 4);
  absl::StatusOr<LoadedModel> loaded = Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->model->shape().max_context, 2147483647);
  EXPECT_EQ(backend_->memory().models.at(1).bytes, plan->use.bytes);
}

TEST_F(ModelLoaderTest, BlockTablesBeyondReasonAreRefused) {
  Write(Config(R"("max_position_embeddings":2147483647)"), Weights(Tensors()));
  spec_.kv_cache_bytes = int64_t{1} << 42;
  spec_.max_sequences = spec_.max_batch_tokens = 4096;
  ExpectRefused(absl::StatusCode::kInvalidArgument, "with max_sequences 4096: block tables of more than");
}

// What the backend cannot run is said by the plan, not by the first request.
TEST_F(ModelLoaderTest, HeadsBeyondTheBackendsAreUnimplemented) {
  std::vector<NamedShape> tensors = Tensors();
  for (auto& [name, shape] : tensors) {
    const bool query = name.find("q_proj") != name.npos, output = name.find("o_proj") != name.npos;
    if (query) shape = {2 * 512, kHidden};
    if (output) shape = {kHidden, 2 * 512};
    if (name.find("k_proj") != name.npos || name.find("v_proj") != name.npos) shape = {512, kHidden};
  }
  Write(Config(R"("head_dim":512)"), Weights(tensors));
  EXPECT_EQ(Plan().status().code(), absl::StatusCode::kUnimplemented);
  ExpectRefused(absl::StatusCode::kUnimplemented, "2 heads of 512");
}

TEST_F(ModelLoaderTest, ModelTypeStandsInForTheArchitecture) {
  std::string config = Config(R"("model_type":"llama")");
  config.replace(config.find("\"architectures\""), std::string(R"("architectures":["LlamaForCausalLM"],)").size(), "");
  Write(config, Weights(Tensors()));
  EXPECT_TRUE(Load().ok()) << Load().status();
  Write(R"({"model_type":"gpt2"})", Weights(Tensors()));
  ExpectRefused(absl::StatusCode::kInvalidArgument, "neither \"architectures\"");
}

TEST_F(ModelLoaderTest, UnknownArchitectureIsUnimplemented) {
  Write(R"({"architectures":["MambaForCausalLM"]})", Weights(Tensors()));
  ExpectRefused(absl::StatusCode::kUnimplemented,
                "architecture MambaForCausalLM, supported are LlamaForCausalLM and MistralForCausalLM");
}

// config.json says the shapes and the format, so a plan needs no more.
TEST_F(ModelLoaderTest, AFolderWithoutWeightsIsPlannedAsWithThem) {
  for (const char* patch : {"", R"("tie_word_embeddings":false)", R"("attention_bias":true,"mlp_bias":true)"}) {
    for (const char* scheme : {"", "int8_weight_only"}) {
      SCOPED_TRACE(absl::StrCat(patch, " as ", scheme));
      spec_.weights = scheme;
      std::vector<NamedShape> tensors = Tensors();
      const std::string config =
          Config(absl::StrCat(*patch ? patch : R"("mlp_bias":false)", R"(,"torch_dtype":"float32")"));
      if (config.find("\"tie_word_embeddings\":false") != config.npos)
        tensors.push_back({"lm_head.weight", {kVocab, kHidden}});
      if (config.find("\"attention_bias\":true") != config.npos) {
        for (const NamedShape& tensor : Tensors()) {
          const size_t end = tensor.first.find("_proj.weight");
          if (end != tensor.first.npos)
            tensors.push_back({tensor.first.substr(0, end) + "_proj.bias", {tensor.second[0]}});
        }
      }
      Write(config, Weights(tensors));
      const absl::StatusOr<MemoryPlan> whole = Plan();
      ASSERT_TRUE(whole.ok()) << whole.status();
      std::filesystem::remove(folder_.path() + "/model.safetensors");
      const absl::StatusOr<Checkpoint> shapes = OpenCheckpoint(folder_.path(), WeightFiles::kOptional);
      ASSERT_TRUE(shapes.ok()) << shapes.status();
      const absl::StatusOr<MemoryPlan> plan = PlanModel(*shapes, spec_, "cpu", options_);
      ASSERT_TRUE(plan.ok()) << plan.status();
      EXPECT_EQ(plan->use.bytes, whole->use.bytes);
      EXPECT_EQ(plan->parameters, whole->parameters);
      EXPECT_EQ(plan->layers.size(), whole->layers.size());
      EXPECT_THAT(plan->warnings,
                  ElementsAre(HasSubstr("there are no weights: planned for what config.json says, in f32")));
    }
  }
  ExpectRefused(absl::StatusCode::kInvalidArgument, "neither model.safetensors nor");
  folder_.Write("model.safetensors.index.json", R"({"weight_map":{"a":"model-00001-of-00001.safetensors"}})");
  EXPECT_TRUE(OpenCheckpoint(folder_.path(), WeightFiles::kOptional).ok());
  ExpectRefused(absl::StatusCode::kDataLoss, "none of its 1 files is there (model-00001-of-00001.safetensors)");
  folder_.Write("pytorch_model.bin", "");
  EXPECT_EQ(OpenCheckpoint(folder_.path(), WeightFiles::kOptional).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(ModelLoaderTest, SaysWhichOneSettingWouldMakeItFit) {
  spec_.max_sequences = spec_.max_batch_tokens = 16;
  Write(Config(R"("max_position_embeddings":4096)"), Weights(Tensors()));
  absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const absl::StatusOr<MemoryPlan> plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto ways = [&](int64_t available) { return WaysToFit(*checkpoint, spec_, *plan, "cpu", options_, available); };
  EXPECT_THAT(ways(plan->use.total()), IsEmpty()) << "it fits";
  EXPECT_THAT(ways(1000), IsEmpty()) << "nothing helps";
  const int64_t available = plan->use.total() - plan->use.bytes[1] / 2;
  const std::vector<WayToFit> found = ways(available);
  std::vector<std::string> settings;
  for (const WayToFit& way : found) {
    settings.push_back(way.setting);
    EXPECT_LE(way.total_bytes, available) << way.setting;
    LoadSpec changed = spec_;
    if (way.setting == "kv_cache_bytes") changed.kv_cache_bytes = std::stoll(way.value) << 20;
    if (way.setting == "max_context") changed.max_context = std::stoll(way.value);
    if (way.setting == "max_sequences") changed.max_sequences = std::stoll(way.value);
    if (way.setting == "kv_cache_dtype") changed.keys = changed.values = KvFormat::kInt8;
    EXPECT_EQ(PlanModel(*checkpoint, changed, "cpu", options_)->use.total(), way.total_bytes) << way.setting;
  }
  // An int8 cache has scales beside its values, so half is not quite enough.
  EXPECT_THAT(settings, ElementsAre("kv_cache_bytes", "max_context", "max_sequences"));
}

TEST_F(ModelLoaderTest, UnknownBackendIsInvalidArgument) {
  absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_EQ(PlanModel(*checkpoint, spec_, "tpu", options_).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace quantd
