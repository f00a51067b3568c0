#include "server/convert.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>

#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>
#include <google/protobuf/util/time_util.h>

#include "base/error.h"
#include "base/escape.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/gguf_blocks.h"
#include "runtime/printable.h"
#include "server/struct_json.h"

namespace quantd {
namespace {
using google::protobuf::util::TimeUtil;

absl::Status Invalid(std::string_view field, std::string_view why) {
  return WithReason(WithField(absl::InvalidArgumentError(absl::StrCat(ToAbsl(field), ": ", ToAbsl(why))), field),
                    "FIELD_INVALID");
}
absl::Status NotBuilt(std::string_view field) {
  return WithReason(WithField(absl::UnimplementedError(absl::StrCat(ToAbsl(field), ": not built yet")), field),
                    "NOT_BUILT");
}

// As short as it can be and still be this float: 1.0000001 is not 1.
std::string Number(float value) {
  char text[32];
  const std::to_chars_result end = std::to_chars(text, text + sizeof text, value);
  return std::string(text, end.ptr);
}

absl::Status CheckRange(std::string_view field, float value, int low, int high) {
  if (value >= static_cast<float>(low) && value <= static_cast<float>(high)) return absl::OkStatus();
  return Invalid(field, absl::StrCat("is ", Number(value), ", expected ", low, " to ", high));
}
absl::Status CheckCount(std::string_view field, uint32_t value, uint32_t high) {
  if (value >= 1 && value <= high) return absl::OkStatus();
  return Invalid(field, absl::StrCat("is ", value, ", expected 1 to ", high));
}

uint32_t U32(int64_t v) { return static_cast<uint32_t>(std::clamp<int64_t>(v, 0, UINT32_MAX)); }
uint64_t U64(int64_t v) { return static_cast<uint64_t>(std::max<int64_t>(v, 0)); }

// Ranges: those of OpenAI and vLLM; 100 is a bound that no use comes near.
absl::Status ParsePenalties(const v1::Sampling& proto, const GenerationDefaults& defaults, SamplingParams& s) {
  s.repetition_penalty = proto.has_repetition_penalty() ? proto.repetition_penalty() : defaults.repetition_penalty;
  s.presence_penalty = proto.has_presence_penalty() ? proto.presence_penalty() : defaults.presence_penalty;
  s.frequency_penalty = proto.has_frequency_penalty() ? proto.frequency_penalty() : defaults.frequency_penalty;
  s.no_repeat_ngram_size = defaults.no_repeat_ngram_size;
  if (proto.has_repetition_penalty() && !(s.repetition_penalty > 0 && s.repetition_penalty <= 100)) {
    return Invalid("sampling.repetition_penalty",
                   absl::StrCat("is ", s.repetition_penalty, ", expected more than 0 and at most 100"));
  }
  if (proto.has_presence_penalty()) {
    QD_RETURN_IF_ERROR(CheckRange("sampling.presence_penalty", s.presence_penalty, -2, 2));
  }
  if (proto.has_frequency_penalty()) {
    QD_RETURN_IF_ERROR(CheckRange("sampling.frequency_penalty", s.frequency_penalty, -2, 2));
  }
  if (proto.has_no_repeat_ngram_size()) {
    QD_RETURN_IF_ERROR(CheckRange("sampling.no_repeat_ngram_size", proto.no_repeat_ngram_size(), 0, kMaxNgramSize));
    s.no_repeat_ngram_size = static_cast<int32_t>(proto.no_repeat_ngram_size());
  }
  return absl::OkStatus();
}

absl::Status ParseSampling(const v1::Sampling& proto, const GenerationDefaults& defaults, int64_t vocab_size,
                           ParsedGenerate& out) {
  SamplingParams& s = out.request.sampling;
  s.temperature = proto.has_temperature() ? proto.temperature() : defaults.temperature;
  s.top_p = proto.has_top_p() ? proto.top_p() : defaults.top_p;
  s.min_p = proto.has_min_p() ? proto.min_p() : defaults.min_p;
  // More than the vocabulary is all of it.
  const int64_t top_k = proto.has_top_k() ? proto.top_k() : defaults.top_k;
  s.top_k = top_k >= vocab_size ? 0 : static_cast<int32_t>(top_k);
  QD_RETURN_IF_ERROR(CheckRange("sampling.temperature", s.temperature, 0, 100));
  if (!(s.top_p > 0 && s.top_p <= 1)) {
    return Invalid("sampling.top_p", absl::StrCat("is ", Number(s.top_p), ", expected more than 0 and at most 1"));
  }
  QD_RETURN_IF_ERROR(CheckRange("sampling.min_p", s.min_p, 0, 1));
  QD_RETURN_IF_ERROR(ParsePenalties(proto, defaults, s));
  if (!proto.logit_bias().empty()) return NotBuilt("sampling.logit_bias");
  if (proto.has_num_outputs() && proto.num_outputs() == 0) return Invalid("sampling.num_outputs", "is 0, expected 1");
  if (proto.num_outputs() > 1) return NotBuilt("sampling.num_outputs");
  out.seed_given = proto.has_seed();
  s.seed = proto.seed();
  return absl::OkStatus();
}

absl::Status ParseStopping(const v1::Stopping& proto, int64_t vocab_size, StopConditions& out) {
  if (proto.has_max_new_tokens()) {
    if (proto.max_new_tokens() == 0) return Invalid("stopping.max_new_tokens", "is 0, expected at least 1");
    out.max_new_tokens = proto.max_new_tokens();
  }
  if (proto.has_min_new_tokens()) out.min_new_tokens = proto.min_new_tokens();
  if (out.max_new_tokens > 0 && out.min_new_tokens > out.max_new_tokens) {
    return Invalid("stopping.min_new_tokens",
                   absl::StrCat("is ", out.min_new_tokens, ", expected at most max_new_tokens = ", out.max_new_tokens));
  }
  if (proto.stop_size() > kMaxStopTexts) {
    return Invalid("stopping.stop",
                   absl::StrCat("has ", proto.stop_size(), " texts, expected at most ", kMaxStopTexts));
  }
  for (int i = 0; i < proto.stop_size(); ++i) {
    if (proto.stop(i).empty() || proto.stop(i).size() > kMaxStopBytes) {
      return Invalid(absl::StrCat("stopping.stop[", i, "]"),
                     absl::StrCat("has ", proto.stop(i).size(), " bytes, expected 1 to ", kMaxStopBytes));
    }
  }
  out.stop.assign(proto.stop().begin(), proto.stop().end());
  if (proto.stop_token_ids_size() > kMaxStopTokenIds) {
    return Invalid("stopping.stop_token_ids",
                   absl::StrCat("has ", proto.stop_token_ids_size(), " ids, expected at most ", kMaxStopTokenIds));
  }
  QD_ASSIGN_OR_RETURN(out.stop_token_ids, ParseTokenIds(proto.stop_token_ids(), vocab_size, "stopping.stop_token_ids"));
  out.ignore_eos = proto.ignore_eos();
  out.include_stop = proto.include_stop();
  if (proto.has_time_limit_ms()) {
    if (proto.time_limit_ms() == 0) return Invalid("stopping.time_limit_ms", "is 0, expected at least 1");
    out.time_limit = std::chrono::milliseconds(proto.time_limit_ms());
  }
  return absl::OkStatus();
}

absl::Status ParseOutput(const v1::OutputOptions& proto, ParsedGenerate& out) {
  if (proto.has_logprobs()) return NotBuilt("output.logprobs");
  if (proto.has_prompt_logprobs()) return NotBuilt("output.prompt_logprobs");
  if (proto.echo()) return NotBuilt("output.echo");
  out.want_text = !proto.has_text() || proto.text();
  out.want_token_ids = proto.token_ids();
  out.request.skip_special_tokens = !proto.has_skip_special_tokens() || proto.skip_special_tokens();
  if (proto.has_stream_interval()) {
    QD_RETURN_IF_ERROR(CheckCount("output.stream_interval", proto.stream_interval(), kMaxStreamInterval));
    out.request.stream_interval = static_cast<int32_t>(proto.stream_interval());
  }
  return absl::OkStatus();
}

absl::Status ParseInput(const v1::GenerateRequest& proto, int64_t vocab_size, ParsedGenerate& out) {
  if (!proto.has_text()) {
    if (proto.has_parse_special()) return Invalid("parse_special", "is for text input alone");
    if (proto.has_add_special_tokens()) return Invalid("add_special_tokens", "is for text input alone");
  }
  switch (proto.input_case()) {
    case v1::GenerateRequest::kText:
      out.input = proto.text();
      out.text_options.parse_special = proto.parse_special();
      if (proto.has_add_special_tokens()) out.text_options.add_special_tokens = proto.add_special_tokens();
      return absl::OkStatus();
    case v1::GenerateRequest::kTokens: {
      if (proto.tokens().ids().empty()) return Invalid("tokens.ids", "is empty, expected at least one id");
      QD_ASSIGN_OR_RETURN(out.input, ParseTokenIds(proto.tokens().ids(), vocab_size, "tokens.ids"));
      return absl::OkStatus();
    }
    case v1::GenerateRequest::kChat: {
      QD_ASSIGN_OR_RETURN(out.input, ParseChat(proto.chat(), "chat"));
      // An answer opens a text: a SentencePiece tokenizer's leading space is not part of it.
      out.request.prompt_is_text_start = true;
      return absl::OkStatus();
    }
    case v1::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  return Invalid("input", "is missing: give text, tokens or chat");
}

bool IsId(std::string_view id) {
  return id.size() <= kMaxIdBytes && std::all_of(id.begin(), id.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

}  // namespace

google::protobuf::Duration ToProto(Duration d) {
  return TimeUtil::NanosecondsToDuration(std::chrono::duration_cast<std::chrono::nanoseconds>(d).count());
}

absl::StatusOr<std::vector<int32_t>> ParseTokenIds(const google::protobuf::RepeatedField<uint32_t>& ids,
                                                   int64_t vocab_size, std::string_view field) {
  std::vector<int32_t> out;
  out.reserve(static_cast<size_t>(ids.size()));
  for (uint32_t id : ids) {
    if (id >= vocab_size) {
      return Invalid(absl::StrCat(ToAbsl(field), "[", out.size(), "]"),
                     absl::StrCat("is ", id, ", the vocabulary has ", vocab_size, " ids"));
    }
    out.push_back(static_cast<int32_t>(id));
  }
  return out;
}

absl::Status ParseOptions(const v1::RequestOptions& proto, LlmRequest& request) {
  if (!IsId(proto.request_id())) {
    return Invalid("options.request_id",
                   absl::StrCat("expected at most ", kMaxIdBytes, " printable ASCII characters and no space"));
  }
  if (!proto.request_id().empty()) request.id = proto.request_id();
  switch (proto.priority()) {
    case v1::PRIORITY_UNSPECIFIED:
    case v1::PRIORITY_STANDARD:
      request.priority = Priority::kStandard;
      break;
    case v1::PRIORITY_INTERACTIVE:
      request.priority = Priority::kInteractive;
      break;
    case v1::PRIORITY_BATCH:
      request.priority = Priority::kBatch;
      break;
    default:
      return Invalid("options.priority", absl::StrCat("unknown value ", static_cast<int>(proto.priority())));
  }
  if (!proto.tenant().empty()) return NotBuilt("options.tenant");
  if (proto.keep_on_disconnect()) return NotBuilt("options.keep_on_disconnect");
  if (proto.has_max_queue_time()) {
    const google::protobuf::Duration& d = proto.max_queue_time();
    constexpr int64_t kMaxSeconds = 30 * 86400;
    const Duration wait = std::chrono::seconds(std::clamp<int64_t>(d.seconds(), -1, kMaxSeconds + 1)) +
                          std::chrono::nanoseconds(d.nanos());
    if (d.nanos() < 0 || d.nanos() > 999'999'999 || wait <= Duration::zero() || d.seconds() > kMaxSeconds) {
      return Invalid("options.max_queue_time", "expected more than 0 and at most 30 days");
    }
    request.max_queue_time = wait;
  }
  return absl::OkStatus();
}

absl::StatusOr<ParsedGenerate> ParseGenerate(const v1::GenerateRequest& proto, const TextCodec& codec,
                                             const LlmLimits& limits, LlmRequest request) {
  ParsedGenerate out;
  out.request = std::move(request);
  if (proto.constraint().kind_case() != v1::Constraint::KIND_NOT_SET) return NotBuilt("constraint");
  QD_RETURN_IF_ERROR(ParseInput(proto, limits.vocab_size, out));
  QD_RETURN_IF_ERROR(ParseSampling(proto.sampling(), codec.defaults(), limits.vocab_size, out));
  QD_RETURN_IF_ERROR(ParseStopping(proto.stopping(), limits.vocab_size, out.request.stopping));
  out.min_new_tokens_given = proto.stopping().has_min_new_tokens();
  QD_RETURN_IF_ERROR(ParseOutput(proto.output(), out));
  if (proto.cache().salt().size() > kMaxSaltBytes) {
    return Invalid("cache.salt", absl::StrCat("has more than ", kMaxSaltBytes, " bytes"));
  }
  out.request.bypass_prefix_cache = proto.cache().bypass_prefix_cache();
  out.request.cache_salt = proto.cache().salt();
  return out;
}

namespace {

absl::StatusOr<ChatMessage> ParseMessage(const v1::ChatMessage& proto, const std::string& field) {
  if (proto.role().empty()) return Invalid(field + ".role", "is empty");
  ChatMessage message{proto.role(), std::nullopt, {}, proto.tool_call_id(), proto.name()};
  if (proto.has_content()) message.content = proto.content();
  if (proto.has_reasoning_content()) message.reasoning_content = proto.reasoning_content();
  message.extra_json = proto.extra_json();
  for (const v1::ToolCall& c : proto.tool_calls()) message.tool_calls.push_back({c.id(), c.name(), c.arguments_json()});
  if (proto.has_content() && !proto.content_parts().empty()) {
    return Invalid(field + ".content_parts", "cannot go with content");
  }
  for (const v1::ContentPart& part : proto.content_parts()) {
    const std::string at = absl::StrCat(field, ".content_parts[", message.content_parts.size(), "]");
    if (!part.type().empty() && part.type() != "text") {
      return Invalid(at + ".type", "is '" + Printable(part.type(), 60) + "', expected text");
    }
    message.content_parts.push_back(part.text());
  }
  return message;
}

}  // namespace

absl::StatusOr<ChatTemplateInput> ParseChat(const v1::Chat& proto, std::string_view field) {
  const std::string at(field);
  if (proto.messages().empty()) return Invalid(at + ".messages", "is empty, expected at least one message");
  ChatTemplateInput out;
  for (const v1::ChatMessage& m : proto.messages()) {
    QD_ASSIGN_OR_RETURN(ChatMessage message, ParseMessage(m, absl::StrCat(at, ".messages[", out.messages.size(), "]")));
    out.messages.push_back(std::move(message));
  }
  for (const v1::Tool& t : proto.tools()) {
    if (t.name().empty()) return Invalid(absl::StrCat(at, ".tools[", out.tools.size(), "].name"), "is empty");
    out.tools.push_back({t.name(), t.description(), t.parameters_json_schema()});
  }
  if (proto.continue_final_message() && proto.add_generation_prompt()) {
    return Invalid(at + ".continue_final_message", "cannot go with add_generation_prompt");
  }
  out.continue_final_message = proto.continue_final_message();
  out.add_generation_prompt =
      !proto.continue_final_message() && (!proto.has_add_generation_prompt() || proto.add_generation_prompt());
  out.template_name = proto.template_name();
  if (proto.has_template_args()) {
    QD_ASSIGN_OR_RETURN(out.template_args_json, StructToJson(proto.template_args(), at + ".template_args"));
  }
  out.unix_seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  return out;
}

absl::Status AtInput(const absl::Status& status, std::string_view field) {
  if (!absl::IsInvalidArgument(status)) return status;
  const std::string below = GetField(status);
  if (below.starts_with(absl::StrCat(ToAbsl(field), "."))) return status;  // its whole path already
  return WithField(status, below.empty() ? std::string(field) : absl::StrCat(ToAbsl(field), ".", below));
}

PromptSize EstimatePromptTokens(const v1::GenerateRequest& proto) {
  if (proto.has_tokens()) return {.tokens = proto.tokens().ids_size(), .exact = true};
  const size_t bytes = proto.has_chat() ? proto.chat().ByteSizeLong() : proto.text().size();
  return {.tokens = static_cast<int64_t>(bytes / 4 + 1), .exact = false};
}

void FillDelta(Delta delta, bool want_text, bool want_token_ids, v1::Delta& proto) {
  if (want_text) proto.set_text(std::move(delta.text));
  if (want_token_ids) proto.mutable_token_ids()->Add(delta.token_ids.begin(), delta.token_ids.end());
}

void FillOutputEnd(const OutputEnd& end, v1::OutputEnd& proto) {
  switch (end.reason) {
    case FinishReason::kStopToken:
      proto.set_reason(v1::FINISH_REASON_STOP_TOKEN);
      break;
    case FinishReason::kStopText:
      proto.set_reason(v1::FINISH_REASON_STOP_TEXT);
      break;
    case FinishReason::kEos:
      proto.set_reason(v1::FINISH_REASON_EOS);
      break;
    case FinishReason::kMaxTokens:
      proto.set_reason(v1::FINISH_REASON_MAX_TOKENS);
      break;
    case FinishReason::kContextFull:
      proto.set_reason(v1::FINISH_REASON_CONTEXT_FULL);
      break;
    case FinishReason::kTimeLimit:
      proto.set_reason(v1::FINISH_REASON_TIME_LIMIT);
      break;
  }
  if (end.stop_token_id >= 0) proto.set_stop_token_id(static_cast<uint32_t>(end.stop_token_id));
  if (end.reason == FinishReason::kStopText) proto.set_stop_text(end.stop_text);
  proto.set_new_tokens(U32(end.new_tokens));
}

void FillUsage(const Usage& usage, v1::Usage& proto) {
  proto.set_prompt_tokens(U32(usage.prompt_tokens));
  proto.set_cached_tokens(U32(usage.cached_tokens));
  proto.set_new_tokens(U32(usage.new_tokens));
}

void FillTiming(const Timing& timing, v1::Timing& proto) {
  *proto.mutable_queued() = ToProto(timing.queued);
  *proto.mutable_prefill() = ToProto(timing.prefill);
  *proto.mutable_first_output() = ToProto(timing.first_output);
  *proto.mutable_compute() = ToProto(timing.compute);
  *proto.mutable_total() = ToProto(timing.total);
  proto.set_preemptions(U32(timing.preemptions));
}

namespace {

// The name with its layer number as *: "model.layers.*.mlp.up_proj.weight".
std::string LayerPattern(const std::string& name) {
  std::vector<std::string> parts = absl::StrSplit(name, '.');
  for (std::string& part : parts) {
    if (part.find_first_not_of("0123456789") == std::string::npos) part = "*";
  }
  return absl::StrJoin(parts, ".");
}

}  // namespace

std::string ContextNote(int64_t held, int64_t wanted) {
  return absl::StrCat("the KV cache holds ", held, " of the ", wanted,
                      " tokens of the model's context; a larger kv_cache_bytes (--kv-cache-bytes) holds more");
}

std::vector<std::string> Fallbacks(const std::vector<LayerReport>& layers) {
  struct Same {
    std::string first, pattern, outcome;
    int count;
  };
  std::vector<Same> groups;  // in the order of the model; few
  for (const LayerReport& layer : layers) {
    constexpr std::string_view kPrefix = "fallback: ";
    if (!layer.reason.starts_with(kPrefix)) continue;
    const std::string pattern = LayerPattern(layer.name),
                      outcome = absl::StrCat(layer.scheme, " (", layer.reason.substr(kPrefix.size()), ")");
    const auto same = std::find_if(groups.begin(), groups.end(),
                                   [&](const Same& g) { return g.pattern == pattern && g.outcome == outcome; });
    if (same != groups.end()) {
      ++same->count;
    } else {
      groups.push_back({layer.name, pattern, outcome, 1});
    }
  }
  std::vector<std::string> out;
  for (const Same& g : groups) {
    if (out.size() == kMaxFallbackLines) {
      out.push_back(absl::StrCat("and ", groups.size() - kMaxFallbackLines, " lines more"));
      break;
    }
    out.push_back(g.count == 1 ? absl::StrCat(g.first, ": ", g.outcome)
                               : absl::StrCat(g.pattern, ", ", g.count, " layers: ", g.outcome));
  }
  return out;
}

std::string KvName(const LoadSpec& spec) {
  std::string name(Name(spec.keys));
  if (spec.values != spec.keys) absl::StrAppend(&name, "/", ToAbsl(Name(spec.values)));
  return name;
}

namespace {
// A failure may quote what a file says; ListModels holds one for each model.
std::string Shown(std::string_view failure) {
  constexpr size_t kMaxBytes = 4096;
  const std::string all = Escape(failure);
  const std::string_view cut = CutUtf8(all, kMaxBytes);
  return cut.size() == all.size() ? all : absl::StrCat(ToAbsl(cut), "…");
}

void FillMemory(const MemoryUsage& memory, v1::MemoryUse& proto) {
  const auto bytes = [&](MemoryComponent c) { return U64(memory.bytes[static_cast<size_t>(c)]); };
  proto.set_weights_bytes(bytes(MemoryComponent::kWeights));
  proto.set_kv_cache_bytes(bytes(MemoryComponent::kKvCache));
  proto.set_workspace_bytes(bytes(MemoryComponent::kWorkspace));
}

void FillLoadSpec(const LoadSpec& spec, std::string_view device, v1::LoadSpec& proto) {
  proto.set_path(spec.path);
  v1::QuantizationSpec& q = *proto.mutable_quantization();
  q.set_weights(spec.weights);
  for (const auto& [pattern, weights] : spec.rules) {
    v1::LayerRule& rule = *q.add_rules();
    rule.set_pattern(pattern);
    rule.set_weights(weights);
  }
  q.set_kv_keys(std::string(Name(spec.keys)));
  q.set_kv_values(std::string(Name(spec.values)));
  if (!device.empty()) proto.add_devices(std::string(device));
  if (spec.max_context > 0) proto.set_max_context(U32(spec.max_context));
  if (spec.kv_cache_bytes > 0) proto.set_kv_cache_bytes(U64(spec.kv_cache_bytes));
  proto.set_max_sequences(U32(spec.max_sequences));
  proto.set_max_batch_tokens(U32(spec.max_batch_tokens));
  proto.set_activations(spec.activations == DType::kF32 ? "f32" : "bf16");
}

v1::ModelState ToProto(ModelState state) {
  switch (state) {
    case ModelState::kLoading:
      return v1::MODEL_STATE_LOADING;
    case ModelState::kReady:
      return v1::MODEL_STATE_READY;
    case ModelState::kDraining:
      return v1::MODEL_STATE_DRAINING;
    case ModelState::kFailed:
      return v1::MODEL_STATE_FAILED;
  }
  return v1::MODEL_STATE_UNSPECIFIED;
}
}  // namespace

namespace {
// What went wrong with a model, without where on the server's disk it lies.
std::string WithoutFolder(absl::string_view message, const std::string& model_path) {
  const size_t folder = model_path.find_last_of('/', model_path.find_last_not_of('/'));
  if (folder == std::string::npos || folder == 0) return std::string(message);
  return absl::StrReplaceAll(message, {{model_path.substr(0, folder + 1), ""}});
}
}  // namespace

void FillModel(const ModelInfo& info, v1::Model& proto) {
  proto.set_name(info.name);
  proto.set_kind(v1::MODEL_KIND_LLAMA);
  proto.set_state(ToProto(info.state));
  proto.set_revision(info.revision);
  FillLoadSpec(info.spec, info.device, *proto.mutable_spec());
  FillMemory(info.memory, *proto.mutable_memory());
  proto.mutable_memory()->set_peak_bytes(U64(info.peak_bytes));
  proto.set_parameters(U64(info.parameters));
  proto.set_kv_bytes_per_token(U64(info.kv_bytes_per_token));
  if (info.limits.has_value()) {
    proto.set_max_context(U32(info.limits->max_sequence_tokens()));
    proto.set_kv_block_tokens(U32(info.limits->kv_block_tokens));
    proto.set_kv_blocks(U64(info.limits->kv_blocks));
    proto.add_capabilities("generate");
    proto.add_capabilities("tokenize");
  }
  if (!info.failure.ok()) proto.set_failure(Shown(WithoutFolder(info.failure.message(), info.spec.path)));
  if (info.load_time > Duration::zero()) *proto.mutable_load_time() = ToProto(info.load_time);
  if (info.state == ModelState::kLoading) {
    proto.mutable_progress()->set_done_bytes(U64(info.progress.done_bytes));
    proto.mutable_progress()->set_total_bytes(U64(info.progress.total_bytes));
  }
  for (std::string& line : Fallbacks(info.layers)) proto.add_fallbacks(std::move(line));
  proto.set_weights(WeightSchemes(info.layers));
}

void FillGenerationDefaults(const GenerationDefaults& defaults, v1::Model& proto) {
  if (defaults.says_do_sample) {
    v1::GenerationDefaults& said = *proto.mutable_generation_defaults();
    said.set_temperature(defaults.temperature);
    said.set_top_k(static_cast<uint32_t>(defaults.top_k));
    said.set_top_p(defaults.top_p);
    said.set_min_p(defaults.min_p);
  }
  if (defaults.repetition_penalty != 1) {
    proto.mutable_generation_defaults()->set_repetition_penalty(defaults.repetition_penalty);
  }
  if (defaults.max_new_tokens.has_value()) {
    proto.mutable_generation_defaults()->set_max_new_tokens(U32(*defaults.max_new_tokens));
  }
  if (defaults.max_length.has_value()) proto.mutable_generation_defaults()->set_max_length(U32(*defaults.max_length));
}

namespace {
// "Q4_1" where a layer has what a GGUF file has, else the scheme's own name.
std::string SchemeName(const std::string& scheme) {
  for (const GgmlType type : {GgmlType::kQ4_0, GgmlType::kQ4_1, GgmlType::kQ8_0}) {
    if (scheme == Name(SchemeOf(type))) return GgmlTypeName(static_cast<uint32_t>(type));
  }
  return scheme;
}
}  // namespace

std::string WeightSchemes(const std::vector<LayerReport>& layers) {
  std::map<std::string, int64_t> bytes;
  for (const LayerReport& layer : layers) bytes[SchemeName(layer.scheme)] += layer.bytes;
  std::vector<std::pair<int64_t, std::string>> order;
  for (const auto& [scheme, count] : bytes) order.emplace_back(-count, scheme);
  std::sort(order.begin(), order.end());
  std::string text;
  for (const auto& [count, scheme] : order) absl::StrAppend(&text, text.empty() ? "" : ", ", scheme);
  return text;
}

void FillMemoryPlan(const MemoryPlan& plan, int64_t budget_bytes, int64_t used_bytes, v1::MemoryPlan& proto) {
  const int64_t need = plan.use.total(), left = budget_bytes - used_bytes;
  proto.set_fits(need <= left);
  FillMemory(plan.use, *proto.mutable_use());
  proto.set_budget_bytes(U64(budget_bytes));
  proto.set_kv_bytes_per_token(U64(plan.kv_bytes_per_token));
  const int64_t tokens = plan.kv_blocks * kKvBlockTokens;
  proto.set_max_cached_tokens(U64(tokens));
  const int64_t context_blocks = (plan.max_context + kKvBlockTokens - 1) / kKvBlockTokens;
  proto.set_concurrent_at_max_context(U32(context_blocks > 0 ? plan.kv_blocks / context_blocks : 0));
  proto.set_explanation(absl::StrCat("needs ", need, " bytes; the budget is ", budget_bytes, " bytes, of which ",
                                     used_bytes, " are in use"));
  if (plan.max_context < plan.model_context) {
    absl::StrAppend(proto.mutable_explanation(), "; ", ContextNote(plan.max_context, plan.model_context));
  }
  proto.set_kv_blocks(U64(plan.kv_blocks));
  proto.set_max_context(U32(plan.max_context));
  proto.set_parameters(U64(plan.parameters));
  for (std::string& line : Fallbacks(plan.layers)) proto.add_fallbacks(std::move(line));
  for (const std::string& line : plan.warnings) proto.add_warnings(line);
  for (const WayToFit& way : plan.ways_to_fit) {
    v1::WayToFit& to = *proto.add_ways_to_fit();
    to.set_setting(way.setting);
    to.set_value(way.value);
    to.set_total_bytes(U64(way.total_bytes));
  }
}

absl::StatusOr<LoadSpec> ParseLoadSpec(const v1::LoadSpec& proto, std::string_view own_device) {
  if (proto.path().empty()) return Invalid("spec.path", "is empty");
  LoadSpec spec;
  spec.path = proto.path();
  const v1::QuantizationSpec& q = proto.quantization();
  spec.weights = q.weights();
  if (!spec.weights.empty()) {
    absl::StatusOr<QuantScheme> scheme = ParseQuantScheme(spec.weights);
    if (!scheme.ok()) return Invalid("spec.quantization.weights", ToStd(scheme.status().message()));
  }
  for (const v1::LayerRule& rule : q.rules()) {
    absl::StatusOr<QuantScheme> scheme = ParseQuantScheme(rule.weights());
    if (!scheme.ok()) return Invalid("spec.quantization.rules", ToStd(scheme.status().message()));
    spec.rules.emplace_back(rule.pattern(), rule.weights());
  }
  const auto kv = [&](const std::string& name, const char* field, KvFormat fallback) -> absl::StatusOr<KvFormat> {
    if (name.empty()) return fallback;
    absl::StatusOr<KvFormat> format = ParseKvFormat(name);
    if (!format.ok()) return Invalid(field, ToStd(format.status().message()));
    return format;
  };
  QD_ASSIGN_OR_RETURN(spec.keys, kv(q.kv_keys(), "spec.quantization.kv_keys", spec.keys));
  QD_ASSIGN_OR_RETURN(spec.values, kv(q.kv_values(), "spec.quantization.kv_values", spec.keys));
  for (const std::string& device : proto.devices()) {
    if (ToAbsl(device) != ToAbsl(own_device)) {
      return Invalid("spec.devices", absl::StrCat("this server has ", ToAbsl(own_device), ", got ", device));
    }
  }
  if (proto.pin()) return NotBuilt("spec.pin");
  if (proto.activations() == "bf16") {
    spec.activations = DType::kBF16;
  } else if (!proto.activations().empty() && proto.activations() != "f32") {
    return Invalid("spec.activations", "expected \"f32\" or \"bf16\"");
  }
  spec.max_context = proto.max_context();
  if (proto.kv_cache_bytes() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return Invalid("spec.kv_cache_bytes", "is too large");
  }
  spec.kv_cache_bytes = static_cast<int64_t>(proto.kv_cache_bytes());
  if (proto.has_max_sequences()) {
    QD_RETURN_IF_ERROR(CheckCount("spec.max_sequences", proto.max_sequences(), 4096));
    spec.max_sequences = proto.max_sequences();
  }
  if (proto.has_max_batch_tokens()) {
    QD_RETURN_IF_ERROR(CheckCount("spec.max_batch_tokens", proto.max_batch_tokens(), 65536));
    spec.max_batch_tokens = proto.max_batch_tokens();
  }
  return spec;
}

}  // namespace quantd
