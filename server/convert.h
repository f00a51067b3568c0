// Proto messages to the plain structs below and back. Every field of a request is checked here: InvalidArgument with
// the field's path (FIELD_INVALID), Unimplemented naming a field that is in the proto and not built.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <absl/status/statusor.h>
#include <google/protobuf/duration.pb.h>

#include "quantd/v1/generation.pb.h"
#include "quantd/v1/models.pb.h"
#include "runtime/text_codec.h"
#include "scheduler/engine_handle.h"
#include "scheduler/model_registry.h"

namespace quantd {

using PromptInput = std::variant<std::string, std::vector<int32_t>, ChatTemplateInput>;

struct ParsedGenerate {
  LlmRequest request;  // but for the prompt
  PromptInput input;
  TextCodec::TextOptions text_options;
  bool want_text = true, want_token_ids = false;
  bool seed_given = false, min_new_tokens_given = false;
};

// Bounds that are the API's own, beyond those of the model.
inline constexpr int kMaxStopTexts = 16, kMaxStopTokenIds = 64, kMaxDetokenizeIds = 1 << 18;
inline constexpr int kMaxNgramSize = 1024;
inline constexpr size_t kMaxTokenizeBytes = 1 << 20;
inline constexpr size_t kMaxStopBytes = 256, kMaxIdBytes = 128, kMaxSaltBytes = 256, kMaxStreamInterval = 1024;

// Options alone, which are needed to count a request whose other fields are wrong. An id that is no id is not kept.
absl::Status ParseOptions(const v1::RequestOptions& options, LlmRequest& request);
absl::StatusOr<ParsedGenerate> ParseGenerate(const v1::GenerateRequest& proto, const TextCodec& codec,
                                             const LlmLimits& limits, LlmRequest request);
absl::StatusOr<ChatTemplateInput> ParseChat(const v1::Chat& proto, std::string_view field);
absl::StatusOr<std::vector<int32_t>> ParseTokenIds(const google::protobuf::RepeatedField<uint32_t>& ids,
                                                   int64_t vocab_size, std::string_view field);
// What is wrong with the request's `field`, "text" or "chat": an InvalidArgument of the codec gets its path.
absl::Status AtInput(const absl::Status& status, std::string_view field);
// Prompt tokens that a request of this size is likely to have, before any work: exact for token ids, a quarter of the
// bytes of a text.
PromptSize EstimatePromptTokens(const v1::GenerateRequest& proto);

void FillDelta(Delta delta, bool want_text, bool want_token_ids, v1::Delta& proto);
void FillOutputEnd(const OutputEnd& end, v1::OutputEnd& proto);
void FillUsage(const Usage& usage, v1::Usage& proto);
void FillTiming(const Timing& timing, v1::Timing& proto);

// Registry side. `info` gives a Model; a plan its MemoryPlan under a budget and what is in use already.
void FillModel(const ModelInfo& info, v1::Model& proto);
void FillGenerationDefaults(const GenerationDefaults& defaults, v1::Model& proto);
void FillMemoryPlan(const MemoryPlan& plan, int64_t budget_bytes, int64_t used_bytes, v1::MemoryPlan& proto);
// `device` is the one that the server has.
absl::StatusOr<LoadSpec> ParseLoadSpec(const v1::LoadSpec& proto, std::string_view device);
// Why a sequence can have `held` tokens where the model would take `wanted`.
std::string ContextNote(int64_t held, int64_t wanted);
// Layers that have not got the scheme that was asked for, with the reason; a line for all layers that differ by number
// only, and at most kMaxFallbackLines of them and one that says how many more.
inline constexpr size_t kMaxFallbackLines = 64;
std::vector<std::string> Fallbacks(const std::vector<LayerReport>& layers);
// The schemes of the layers, the one with the most bytes first: "Q4_1, Q8_0".
std::string WeightSchemes(const std::vector<LayerReport>& layers);
// "int8", or "int8/bf16" where keys and values differ.
std::string KvName(const LoadSpec& spec);

google::protobuf::Duration ToProto(Duration d);

}  // namespace quantd
