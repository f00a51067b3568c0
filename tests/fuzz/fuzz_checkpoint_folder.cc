// A folder as people have it: any bytes in each of the files beside the weights, alone or together. It is opened,
// planned and gives a codec that works, or a Status. An input is a list of files, "=== NAME" lines before their bytes;
// those that it leaves out are a working model's, those without bytes are not there.
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "base/check.h"
#include "runtime/model_loader.h"
#include "tests/fuzz/probe_tokenizer.h"
#include "tests/testing/safetensors_writer.h"
#include "tests/testing/temp_dir.h"

namespace quantd {
namespace {

constexpr std::string_view kMark = "=== ";
constexpr std::string_view kConfig =
    R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 8, "hidden_size": 8,
  "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
  "max_position_embeddings": 64, "rms_norm_eps": 1e-05, "tie_word_embeddings": true, "eos_token_id": 1})";
constexpr std::string_view kTokenizer =
    R"({"added_tokens": [{"id": 0, "content": "<s>", "special": true}, {"id": 1, "content": "</s>", "special": true}],
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "decoder": {"type": "ByteLevel"},
  "model": {"type": "BPE", "vocab": {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4}, "merges": ["a b"]}})";

// Names that a loader asks for; an input writes no other.
constexpr std::string_view kNames[] = {"config.json",
                                       "generation_config.json",
                                       "tokenizer.json",
                                       "tokenizer_config.json",
                                       "special_tokens_map.json",
                                       "added_tokens.json",
                                       "tokenizer.model",
                                       "vocab.json",
                                       "merges.txt",
                                       "chat_template.jinja",
                                       "chat_template.json",
                                       "additional_chat_templates/tool_use.jinja",
                                       "model.safetensors.index.json",
                                       "model_index.json"};

std::string Weights() {
  testing::SafetensorsWriter writer;
  const std::vector<float> values(64, 0.5f);
  const auto add = [&](const char* name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t n : shape) count *= n;
    writer.AddF32(name, shape, std::span(values).first(static_cast<size_t>(count)));
  };
  add("model.embed_tokens.weight", {8, 8});
  add("model.norm.weight", {8});
  add("model.layers.0.input_layernorm.weight", {8});
  add("model.layers.0.post_attention_layernorm.weight", {8});
  add("model.layers.0.self_attn.q_proj.weight", {8, 8});
  add("model.layers.0.self_attn.k_proj.weight", {4, 8});
  add("model.layers.0.self_attn.v_proj.weight", {4, 8});
  add("model.layers.0.self_attn.o_proj.weight", {8, 8});
  for (const char* name : {"gate", "up", "down"})
    add(("model.layers.0.mlp." + std::string(name) + "_proj.weight").c_str(), {8, 8});
  return writer.Finish();
}

std::map<std::string_view, std::string_view> Files(std::string_view input) {
  std::map<std::string_view, std::string_view> files = {{"config.json", kConfig}, {"tokenizer.json", kTokenizer}};
  for (size_t at = input.starts_with(kMark) ? 0 : input.npos; at != input.npos;) {
    const size_t name_at = at + kMark.size(), line_end = input.find('\n', name_at);
    if (line_end == input.npos) break;
    const size_t next = input.find("\n=== ", line_end);
    const std::string_view name = input.substr(name_at, line_end - name_at);
    const size_t end = next == input.npos ? input.size() : next;
    const std::string_view bytes = end > line_end ? input.substr(line_end + 1, end - line_end - 1) : "";
    if (std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames)) files[name] = bytes;
    if (bytes.empty()) files.erase(name);
    at = next == input.npos ? next : next + 1;
  }
  return files;
}

// One folder for all inputs: what an input does not change is not written again.
class Folder {
 public:
  Folder() {
    files_.Write("model.safetensors", Weights());
    std::filesystem::create_directory(files_.path() + "/additional_chat_templates");
  }
  void Lay(const std::map<std::string_view, std::string_view>& files) {
    for (const std::string_view name : kNames) {
      const auto file = files.find(name);
      const auto there = there_.find(name);
      if (file == files.end()) {
        if (there != there_.end()) unlink((files_.path() + "/" + std::string(name)).c_str());
        if (there != there_.end()) there_.erase(there);
      } else if (there == there_.end() || there->second != file->second) {
        files_.Write(std::string(name), file->second);
        there_[name] = file->second;
      }
    }
  }
  const std::string& path() const { return files_.path(); }

 private:
  const testing::TempDir files_;
  std::map<std::string_view, std::string> there_;
};

void ProbeCodec(const TextCodec& codec) {
  QD_CHECK(
      !absl::IsInternal(codec.EncodeText("<s> ab 12", {.parse_special = true, .add_special_tokens = {}}).status()));
  ChatTemplateInput chat;
  chat.messages.push_back({"system", "Be brief.", {}, "", ""});
  chat.messages.push_back({"user", "</s> hello", {}, "", ""});
  QD_CHECK(!absl::IsInternal(codec.EncodeChat(std::move(chat)).status()));
  ProbeTokenizer(codec.tokenizer());
}

void ProbePlan(const Checkpoint& checkpoint) {
  LoadSpec spec;
  spec.max_batch_tokens = 16;
  spec.max_sequences = 2;
  const auto plan = PlanModel(checkpoint, spec, "cpu", {.threads = 1, .dry_run = true, .isa = ""});
  QD_CHECK(!absl::IsInternal(plan.status()));
  QD_CHECK(!plan.ok() || (plan->use.total() > 0 && plan->max_context > 0));
}

}  // namespace
}  // namespace quantd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quantd;
  static Folder folder;
  const auto files = Files({reinterpret_cast<const char*>(data), size});
  folder.Lay(files);
  absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(folder.path());
  QD_CHECK(!absl::IsInternal(checkpoint.status()));
  if (!checkpoint.ok()) return 0;
  if (const auto config = files.find("config.json"); config == files.end() || config->second != kConfig) {
    ProbePlan(*checkpoint);  // which only config.json changes: the weights are always the same
  }
  const auto codec = TextCodec::Create(*checkpoint);
  QD_CHECK(!absl::IsInternal(codec.status()));
  if (codec.ok()) ProbeCodec(**codec);
  return 0;
}
