// The vocabularies of GGUF metadata (tokenizer.ggml.*), read as llama.cpp reads them (src/llama-vocab.cpp).

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/byte_alphabet.h"
#include "runtime/printable.h"
#include "runtime/sentencepiece.h"
#include "runtime/text_tokenizer.h"

namespace quantd {
namespace {

constexpr std::string_view kTokens = "tokenizer.ggml.tokens";

PieceType TypeOf(const GgufVocab& vocab, size_t id) {
  return vocab.token_types.empty() ? PieceType::kNormal : static_cast<PieceType>(vocab.token_types[id]);
}

void SetAffixes(const GgufVocab& vocab, bool add_bos_by_default, TokenizerSpec& spec) {
  spec.bos_id = vocab.bos_id;
  spec.eos_id = vocab.eos_id;
  if (vocab.add_bos.value_or(add_bos_by_default) && spec.bos_id) spec.prefix_ids = {*spec.bos_id};
  if (vocab.add_eos.value_or(false) && spec.eos_id) spec.suffix_ids = {*spec.eos_id};
}

// Texts that end a generation whatever the metadata says, and texts of tokens that do where the metadata names none of
// their use (llama.cpp, llama_vocab::impl::load, special_eog_ids).
constexpr std::string_view kEndTexts[] = {"<|eot_id|>",
                                          "<|im_end|>",
                                          "<|end|>",
                                          "<|return|>",
                                          "<|call|>",
                                          "<|flush|>",
                                          "<|calls|>",
                                          "<end_of_turn>",
                                          "<|endoftext|>",
                                          "</s>",
                                          "<|eom_id|>",
                                          "<EOT>",
                                          "_<EOT>",
                                          "[EOT]",
                                          "[EOS]",
                                          "<|end_of_text|>",
                                          "<end_of_utterance>",
                                          "<eos>",
                                          "<turn|>",
                                          "<|tool_response>",
                                          "<\uFF5Cend\u2581of\u2581sentence\uFF5C>",  // DeepSeek
                                          "[e~["};                                    // MiniMax
constexpr std::string_view kPaddingTexts[] = {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"};
constexpr std::string_view kRepositoryTexts[] = {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"};
constexpr std::string_view kFileTexts[] = {"<|file_sep|>"};

// In some vocabularies a text of kEndTexts closes a part of an answer.
bool EndsAGeneration(std::string_view text, const VocabTable& vocab) {
  const auto has = [&](std::string_view other) { return vocab.Find(other).has_value(); };
  if (text == "<|end|>") {
    const bool harmony = has("<|return|>") && (has("<|call|>") || has("<|calls|>"));
    const bool solar = has("<|flush|>") && (has("<|call|>") || has("<|calls|>"));
    return !harmony && !solar;
  }
  return text != "</s>" || !has("<|tool_response>");
}

std::optional<int32_t> FirstOf(std::span<const std::string_view> texts, const VocabTable& vocab) {
  for (const std::string_view text : texts) {
    if (const std::optional<int32_t> id = vocab.Find(text)) return id;
  }
  return std::nullopt;
}

// The tokens that end a generation. Those found by their text are special, whatever their type.
absl::Status SetEnds(const GgufVocab& gguf, VocabTable& vocab, TokenizerSpec& spec) {
  std::vector<int32_t> by_text;
  for (const std::string_view text : kEndTexts) {
    const std::optional<int32_t> id = vocab.Find(text);
    if (id && EndsAGeneration(text, vocab)) by_text.push_back(*id);
  }
  const auto infill = [&](std::optional<int32_t> named, std::span<const std::string_view> texts) {
    if (const std::optional<int32_t> id = FirstOf(texts, vocab); id && !named) by_text.push_back(*id);
  };
  infill(gguf.fim_pad_id, kPaddingTexts);
  infill(gguf.fim_rep_id, kRepositoryTexts);
  infill(gguf.fim_sep_id, kFileTexts);

  AddedTokenList added(std::move(spec.added));
  for (const int32_t id : by_text) {
    QD_RETURN_IF_ERROR(added.AddNamed({.content = vocab.texts()[id]}, vocab).status());
  }
  spec.added = added.Take();
  spec.end_ids = std::move(by_text);
  for (const auto& id : {gguf.eot_id, gguf.eom_id, gguf.fim_pad_id, gguf.fim_rep_id, gguf.fim_sep_id}) {
    if (id) spec.end_ids.push_back(*id);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeScored(GgufVocab gguf) {
  if (gguf.scores.empty()) return absl::DataLossError("tokenizer.ggml.scores: missing");
  std::vector<ScoredPiece> pieces(gguf.tokens.size());
  for (size_t i = 0; i < pieces.size(); ++i) pieces[i] = {std::move(gguf.tokens[i]), gguf.scores[i], TypeOf(gguf, i)};
  const SpacePrefix prefix = gguf.add_space_prefix.value_or(true) ? SpacePrefix::kEachText : SpacePrefix::kNone;
  VocabTable vocab;
  QD_ASSIGN_OR_RETURN(TokenizerSpec spec, MakeScoredSpec(pieces, prefix, kTokens, vocab));
  QD_RETURN_IF_ERROR(SetEnds(gguf, vocab, spec));
  if (gguf.unk_id) spec.model.set_unknown_id(*gguf.unk_id);
  SetAffixes(gguf, /*add_bos_by_default=*/true, spec);
  return MakeTextTokenizer(std::move(spec), kTokens);
}

// The split pattern and the defaults that the name in tokenizer.ggml.pre stands for.
struct NamedPattern {
  std::vector<SplitRule> rules;
  bool ignore_merges = false;
  bool add_bos = false;
};

constexpr const char* kLlama3Pattern =
    R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Pattern =
    R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The patterns of the models' own tokenizer.json, where llama.cpp's engine needs others.
constexpr const char* kTekkenPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGpt4oPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepSeek3Pattern =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kSeedCoderPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";

bool IsOneOf(std::string_view name, std::initializer_list<std::string_view> names) {
  for (const std::string_view other : names) {
    if (name == other) return true;
  }
  return false;
}

absl::StatusOr<NamedPattern> FindPattern(std::string_view name) {
  const std::string gpt2(Gpt2Pattern());
  if (IsOneOf(name, {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"})) {
    return NamedPattern{{{kLlama3Pattern}}, /*ignore_merges=*/true, /*add_bos=*/true};
  }
  if (IsOneOf(name, {"smaug-bpe", "dbrx"})) return NamedPattern{{{kLlama3Pattern}}};
  if (IsOneOf(name, {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})) {
    return NamedPattern{{{R"(\p{N})"}, {gpt2}}};
  }
  if (name == "tekken") return NamedPattern{{{kTekkenPattern}}, /*ignore_merges=*/true, /*add_bos=*/true};
  if (IsOneOf(name, {"gpt-4o", "llama4", "kanana2"})) return NamedPattern{{{kGpt4oPattern}}};
  if (name == "deepseek-coder") {
    return NamedPattern{
        {{"[\r\n]"}, {R"(\s?\p{L}+)"}, {R"(\s?\p{P}+)"}, {"[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"}, {R"(\p{N})"}}};
  }
  if (IsOneOf(name, {"deepseek-v3", "hunyuan-dense", "joyai-llm"})) {
    return NamedPattern{{{R"(\p{N}{1,3})"}, {"[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+"}, {kDeepSeek3Pattern}}};
  }
  if (name == "seed-coder") return NamedPattern{{{kSeedCoderPattern}}};
  if (name == "falcon") return NamedPattern{{{R"([\p{P}\$\+<=>\^~\|`]+)"}, {gpt2}, {"[0-9][0-9][0-9]"}}};
  if (IsOneOf(name, {"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "gigachat", "mellum", "exaone4", "a.x-4.0",
                     "granite-docling"})) {
    return NamedPattern{{{gpt2}}};
  }
  if (IsOneOf(name, {"qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan", "solar-open", "kormo", "grok-2"}))
    return NamedPattern{{{kQwen2Pattern}}};
  if (IsOneOf(name, {"", "default"})) {
    if (name.empty()) LogWarning("tokenizer.ggml.pre is absent: text is split as 'default', llama.cpp's guess");
    return NamedPattern{{{R"([\p{P}\$\+<=>\^~\|]+)"}, {gpt2}, {R"(\p{N}+)"}, {"[0-9][0-9][0-9]"}}};
  }
  return absl::UnimplementedError(
      absl::StrCat("tokenizer.ggml.pre: the pre-tokenizer '", Printable(name, 60), "' is not supported"));
}

absl::StatusOr<TokenizerSpec> MakeByteLevelSpec(const GgufVocab& gguf, const NamedPattern& pre) {
  TokenizerSpec spec;
  BpeModel::Options options;
  options.byte_level = true;
  options.ignore_merges = pre.ignore_merges;
  options.unknown_id = gguf.unk_id;
  spec.model = BpeModel(options);
  VocabTable vocab;
  for (size_t i = 0; i < gguf.tokens.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const std::string& text = gguf.tokens[i];
    absl::Status status = vocab.Add(text, id);
    const PieceType type = TypeOf(gguf, i);
    const bool is_special = type == PieceType::kControl || type == PieceType::kUnknown;
    const bool is_added = is_special || type == PieceType::kUserDefined;
    const std::optional<std::string> bytes = DecodeByteAlphabet(text);
    if (status.ok() && bytes && !text.empty() && !is_special) status = spec.model.AddToken(*bytes, id);
    if (!status.ok()) return absl::DataLossError(absl::StrCat(ToAbsl(kTokens), "[", i, "]: ", status.message()));
    if (is_added) spec.added.push_back({.content = text, .id = id, .special = is_special});
    spec.token_bytes.push_back(is_added ? text : bytes.value_or(text));
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char as_char = static_cast<char>(byte);
    if (const auto id = spec.model.Find(std::string_view(&as_char, 1)))
      spec.model.SetByte(static_cast<uint8_t>(byte), *id);
  }
  QD_RETURN_IF_ERROR(SetEnds(gguf, vocab, spec));
  return spec;
}

absl::Status AddMerges(const std::vector<std::string>& merges, BpeModel& model) {
  for (size_t i = 0; i < merges.size(); ++i) {
    const auto refuse = [&](absl::string_view what) {
      return absl::DataLossError(absl::StrCat("tokenizer.ggml.merges[", i, "]: ", what));
    };
    const size_t space = merges[i].find(' ', 1);
    if (space == std::string::npos) return refuse("expected two tokens with a space between");
    const std::optional<std::string> left = DecodeByteAlphabet(std::string_view(merges[i]).substr(0, space));
    const std::optional<std::string> right = DecodeByteAlphabet(std::string_view(merges[i]).substr(space + 1));
    if (!left || !right) return refuse("a character that stands for no byte");
    const absl::Status status = model.AddMerge(*left, *right);
    if (!status.ok()) return refuse(status.message());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeByteLevel(GgufVocab gguf) {
  QD_ASSIGN_OR_RETURN(const NamedPattern pre, FindPattern(gguf.pre));
  QD_ASSIGN_OR_RETURN(TokenizerSpec spec, MakeByteLevelSpec(gguf, pre));
  QD_RETURN_IF_ERROR(AddMerges(gguf.merges, spec.model));
  QD_ASSIGN_OR_RETURN(SplitPattern split, SplitPattern::Compile(pre.rules));
  spec.pre_tokenizer.Add(std::move(split));
  SetAffixes(gguf, pre.add_bos, spec);
  return MakeTextTokenizer(std::move(spec), kTokens);
}

}  // namespace

absl::Status CheckGgufVocab(const GgufVocab& vocab) {
  const size_t count = vocab.tokens.size();
  if (count == 0 || count > static_cast<size_t>(kMaxVocab)) {
    return absl::DataLossError(absl::StrCat(ToAbsl(kTokens), ": ", count, " tokens, expected 1 to ", kMaxVocab));
  }
  if (!vocab.token_types.empty() && vocab.token_types.size() < count) {
    return absl::DataLossError(
        absl::StrCat("tokenizer.ggml.token_type: ", vocab.token_types.size(), " entries for ", count, " tokens"));
  }
  if (!vocab.scores.empty() && vocab.scores.size() < count) {
    return absl::DataLossError(
        absl::StrCat("tokenizer.ggml.scores: ", vocab.scores.size(), " entries for ", count, " tokens"));
  }
  for (size_t i = 0; i < vocab.token_types.size(); ++i) {
    if (vocab.token_types[i] < 0 || vocab.token_types[i] > 6) {
      return absl::DataLossError(
          absl::StrCat("tokenizer.ggml.token_type[", i, "] is ", vocab.token_types[i], ", expected 0 to 6"));
    }
  }
  const std::array<std::pair<const char*, std::optional<int32_t>>, 8> ids = {{{"bos", vocab.bos_id},
                                                                              {"eos", vocab.eos_id},
                                                                              {"unknown", vocab.unk_id},
                                                                              {"eot", vocab.eot_id},
                                                                              {"eom", vocab.eom_id},
                                                                              {"fim_pad", vocab.fim_pad_id},
                                                                              {"fim_rep", vocab.fim_rep_id},
                                                                              {"fim_sep", vocab.fim_sep_id}}};
  for (const auto& [name, id] : ids) {
    if (id && (*id < 0 || static_cast<size_t>(*id) >= count)) {
      return absl::DataLossError(
          absl::StrCat("tokenizer.ggml.", name, "_token_id is ", *id, ", but there are ", count, " tokens"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeGgufTokenizer(GgufVocab vocab) {
  QD_RETURN_IF_ERROR(CheckGgufVocab(vocab));
  if (const auto empty = std::ranges::count(vocab.tokens, ""); empty > 0) {
    LogWarning(absl::StrCat(ToAbsl(kTokens), ": ", empty, " tokens have no text: no text makes them"));
  }
  if (vocab.model == "llama") return MakeScored(std::move(vocab));
  if (vocab.model == "gpt2") return MakeByteLevel(std::move(vocab));
  return absl::UnimplementedError(
      absl::StrCat("tokenizer.ggml.model: '", Printable(vocab.model, 60), "' is not supported"));
}

}  // namespace quantd
