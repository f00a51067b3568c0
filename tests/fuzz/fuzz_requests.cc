// The bytes of a request of any method, through all that is done with them before the engine: parsed, checked field by
// field, its chat rendered, its text tokenized. The first byte picks the method. Whatever comes, the answer is a
// request within the bounds that the engine relies on, or a Status that is not our own bug.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "grpc/health/v1/health.pb.h"
#include "server/answer_size.h"
#include "server/convert.h"
#include "server/schema_reflection.h"
#include "server/tokenize.h"
#include "server/wire_check.h"

namespace quantd {
namespace {

constexpr int64_t kVocabSize = 16;

// A model that has a template, tools and all, and a vocabulary of a few bytes.
class Model final : public LlmHandle {
 public:
  Model() {
    limits_.max_context = 64, limits_.vocab_size = kVocabSize, limits_.kv_blocks = 4, limits_.kv_block_tokens = 16;
    Checkpoint checkpoint;
    checkpoint.config_json =
        R"({"architectures": ["LlamaForCausalLM"], "vocab_size": 16, "hidden_size": 8, "intermediate_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 64})";
    checkpoint.chat_templates["default"] =
        "{{ bos_token }}{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<s>{{ m.role }}: "
        "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}</s>{% endfor %}"
        "{% if custom is defined %}{{ custom | tojson }}{% endif %}{% if add_generation_prompt %}<s>{% endif %}";
    checkpoint.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
    auto tokenizer = ParseTokenizerJson(
        R"({"added_tokens": [{"id": 0, "content": "<s>", "special": true}, {"id": 1, "content": "</s>", "special": true}],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
            "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "unk_token": "<s>", "merges": ["a b", "ab c"],
            "vocab": {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4, "c": 5, "abc": 6, ":": 7, "\u0120": 8, "\u00c3": 9}}})",
        {});
    QD_CHECK(tokenizer.ok());
    checkpoint.tokenizer = *std::move(tokenizer);
    auto codec = TextCodec::Create(checkpoint);
    QD_CHECK(codec.ok());
    codec_ = *std::move(codec);
  }
  const std::string& name() const override { return name_; }
  const std::string& revision() const override { return name_; }
  const LlmLimits& limits() const override { return limits_; }
  const TextCodec& codec() const override { return *codec_; }
  absl::StatusOr<Reservation> Reserve(const LlmRequest&, PromptSize) override { return absl::UnimplementedError(""); }
  absl::StatusOr<std::shared_ptr<RequestControl>> Submit(Reservation, LlmRequest, std::shared_ptr<LlmSink>) override {
    return absl::UnimplementedError("");
  }
  void RecordEnded(const LlmRequest&, const absl::Status&) override {}
  EngineLoad load() const override { return {}; }

 private:
  void Release(int64_t) override {}

  const std::string name_ = "tiny";
  LlmLimits limits_;
  std::shared_ptr<const TextCodec> codec_;
};

const Model& TheModel() {
  static const Model* model = new Model;
  return *model;
}

void CheckStatus(const absl::Status& status) {
  QD_CHECK(!absl::IsInternal(status) && !absl::IsUnknown(status) && !absl::IsDataLoss(status));
}

// What the check of the wire lets through is a message, in the memory that it was told to take.
template <typename Message>
bool Parse(std::string_view bytes, Message& out) {
  const absl::StatusOr<WireCounts> counts = CheckWire(bytes, *Message::descriptor());
  CheckStatus(counts.status());
  if (!counts.ok()) return false;
  QD_CHECK(out.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  QD_CHECK(out.SpaceUsedLong() <= bytes.size() + static_cast<size_t>(counts->overhead_bytes()));
  return true;
}

void CheckIds(std::span<const int32_t> ids) {
  QD_CHECK(std::all_of(ids.begin(), ids.end(), [](int32_t id) { return id >= 0 && id < kVocabSize; }));
}

void CheckParsed(const ParsedGenerate& parsed) {
  const SamplingParams& sampling = parsed.request.sampling;
  QD_CHECK(sampling.temperature >= 0 && sampling.temperature <= 100);
  QD_CHECK(sampling.top_p > 0 && sampling.top_p <= 1 && sampling.min_p >= 0 && sampling.min_p <= 1);
  QD_CHECK(sampling.top_k >= 0 && sampling.top_k < kVocabSize);
  const StopConditions& stopping = parsed.request.stopping;
  QD_CHECK(stopping.stop.size() <= kMaxStopTexts && stopping.stop_token_ids.size() <= kMaxStopTokenIds);
  CheckIds(stopping.stop_token_ids);
  QD_CHECK(parsed.request.stream_interval >= 1 && parsed.request.cache_salt.size() <= kMaxSaltBytes);
}

void Generate(std::string_view bytes) {
  v1::GenerateRequest proto;
  if (!Parse(bytes, proto)) return;
  LlmRequest request;
  const absl::Status options = ParseOptions(proto.options(), request);
  CheckStatus(options);
  QD_CHECK(request.id.size() <= kMaxIdBytes);
  QD_CHECK(EstimatePromptTokens(proto).tokens >= 0);
  absl::StatusOr<ParsedGenerate> parsed = ParseGenerate(proto, TheModel().codec(), TheModel().limits(), request);
  CheckStatus(parsed.status());
  if (!parsed.ok()) return;
  CheckParsed(*parsed);
  if (auto* ids = std::get_if<std::vector<int32_t>>(&parsed->input)) return CheckIds(*ids);
  auto* text = std::get_if<std::string>(&parsed->input);
  const absl::StatusOr<EncodedPrompt> prompt =
      text != nullptr ? TheModel().codec().EncodeText(std::move(*text), parsed->text_options)
                      : TheModel().codec().EncodeChat(std::get<ChatTemplateInput>(std::move(parsed->input)));
  CheckStatus(prompt.status());
  if (prompt.ok()) CheckIds(prompt->ids);
}

void TokenizeBothWays(std::string_view bytes) {
  v1::TokenizeRequest request;
  v1::TokenizeResponse response;
  if (!Parse(bytes, request)) return;
  const absl::Status status = Tokenize(TheModel(), request, response);
  CheckStatus(status);
  if (!status.ok()) return;
  QD_CHECK(response.ByteSizeLong() <= kMaxAnswerBytes);
  v1::DetokenizeRequest back;
  *back.mutable_ids() = response.ids();
  v1::DetokenizeResponse text;
  CheckStatus(Detokenize(TheModel(), back, text));
}

void Detokenize(std::string_view bytes) {
  v1::DetokenizeRequest request;
  v1::DetokenizeResponse response;
  if (Parse(bytes, request)) CheckStatus(Detokenize(TheModel(), request, response));
}

void PlanModel(std::string_view bytes) {
  v1::PlanModelRequest request;
  if (!Parse(bytes, request)) return;
  const absl::StatusOr<LoadSpec> spec = ParseLoadSpec(request.spec(), "cpu");
  CheckStatus(spec.status());
  if (!spec.ok()) return;
  QD_CHECK(spec->max_context >= 0 && spec->kv_cache_bytes >= 0);
  QD_CHECK(spec->max_batch_tokens >= 1 && spec->max_sequences >= 1);
}

void Reflect(std::string_view bytes) {
  static const SchemaReflection* schema =
      new SchemaReflection({v1::GenerateRequest::descriptor()->file(), v1::Model::descriptor()->file(),
                            grpc::health::v1::HealthCheckRequest::descriptor()->file()});
  grpc::reflection::v1::ServerReflectionRequest request;
  if (!Parse(bytes, request)) return;
  const auto answer = schema->Answer(request);
  QD_CHECK(answer.message_response_case() != grpc::reflection::v1::ServerReflectionResponse::MESSAGE_RESPONSE_NOT_SET);
}

}  // namespace
}  // namespace quantd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quantd;
  if (size == 0) return 0;
  static const bool kQuiet = (google::protobuf::SetLogHandler(nullptr), true);
  static_cast<void>(kQuiet);
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  void (*const kMethods[])(std::string_view) = {Generate, TokenizeBothWays, Detokenize, PlanModel, Reflect};
  kMethods[data[0] % std::size(kMethods)](bytes);
  return 0;
}
