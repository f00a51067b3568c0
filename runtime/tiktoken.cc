// tokenizer.model as Llama 3 was published with it: tiktoken's list of byte strings and their ranks, one "base64 rank"
// a line. The pattern and the special tokens stand in Meta's code (llama3, tokenizer.py).

#include <algorithm>
#include <charconv>
#include <utility>

#include <absl/strings/escaping.h>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/printable.h"
#include "runtime/text_tokenizer.h"
#include "runtime/tokenizer_config.h"
#include "runtime/vocab_table.h"

namespace quantd {
namespace {

constexpr std::string_view kFile = "tokenizer.model";
constexpr int32_t kLlama3Ranks = 128000, kLlama3Special = 256;
constexpr size_t kMaxRankedBytes = 256;  // each candidate of a merge hashes up to this many; Llama 3's longest has 128

constexpr const char* kPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Ids 0 to 9 of the special tokens; a number is that of a reserved one. Those behind are reserved from 5 on.
constexpr std::string_view kFirstSpecial[] = {"begin_of_text",
                                              "end_of_text",
                                              "reserved_special_token_0",
                                              "reserved_special_token_1",
                                              "reserved_special_token_2",
                                              "reserved_special_token_3",
                                              "start_header_id",
                                              "end_header_id",
                                              "reserved_special_token_4",
                                              "eot_id"};

std::string SpecialText(int32_t index) {
  constexpr auto kNamed = static_cast<int32_t>(std::size(kFirstSpecial));
  if (index < kNamed) return absl::StrCat("<|", ToAbsl(kFirstSpecial[index]), "|>");
  return absl::StrCat("<|reserved_special_token_", index - kNamed + 5, "|>");
}

struct Ranked {
  std::string bytes;
  int32_t rank = 0;
};

absl::StatusOr<Ranked> ReadLine(std::string_view line, size_t number) {
  const auto refuse = [&](const auto&... words) {
    return absl::DataLossError(absl::StrCat(ToAbsl(kFile), ": line ", number, ": ", words...));
  };
  const size_t space = line.find(' ');
  Ranked ranked;
  if (space == line.npos || !absl::Base64Unescape(ToAbsl(line.substr(0, space)), &ranked.bytes)) {
    return refuse("'", Printable(line, 60), "', expected a base64 text and its rank");
  }
  const std::string_view digits = line.substr(space + 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), ranked.rank);
  if (error != std::errc() || end != digits.data() + digits.size() || ranked.rank < 0 || ranked.rank >= kMaxVocab) {
    return refuse("the rank is '", Printable(digits, 60), "', expected 0 to ", kMaxVocab - 1);
  }
  if (ranked.bytes.empty() || ranked.bytes.size() > kMaxRankedBytes) {
    return refuse(ranked.bytes.size(), " bytes, expected 1 to ", kMaxRankedBytes);
  }
  return ranked;
}

// Fills the model and the texts of the tokens; how many there are.
absl::StatusOr<int32_t> ReadRanks(std::string_view text, TokenizerSpec& spec) {
  std::vector<bool> taken;
  size_t number = 0, count = 0;
  while (!text.empty()) {
    ++number;
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty()) continue;
    QD_ASSIGN_OR_RETURN(Ranked ranked, ReadLine(line, number));
    const auto id = static_cast<size_t>(ranked.rank);
    if (id >= taken.size()) {
      taken.resize(id + 1);
      spec.token_bytes.resize(id + 1);
    }
    absl::Status status = taken[id] ? absl::DataLossError(absl::StrCat("rank ", id, " is there twice"))
                                    : spec.model.AddToken(ranked.bytes, ranked.rank);
    if (!status.ok()) {
      return absl::DataLossError(absl::StrCat(ToAbsl(kFile), ": line ", number, ": ", status.message()));
    }
    taken[id] = true;
    ++count;
    spec.model.SetRank(ranked.rank, static_cast<uint32_t>(ranked.rank));
    if (ranked.bytes.size() == 1) spec.model.SetByte(static_cast<uint8_t>(ranked.bytes[0]), ranked.rank);
    spec.token_bytes[id] = std::move(ranked.bytes);
  }
  if (count != taken.size()) {
    return absl::DataLossError(
        absl::StrCat(ToAbsl(kFile), ": ", count, " ranks up to ", taken.size() - 1, ", expected each once"));
  }
  return static_cast<int32_t>(count);
}

// Tokens of the configuration, which knows the names of later releases, else those of the first.
absl::Status AddSpecialTokens(const TokenizerConfig& config, int32_t ranks, TokenizerSpec& spec) {
  VocabTable vocab;
  AddedTokenList added;
  for (int32_t i = 0; i < kLlama3Special && config.added_tokens.empty(); ++i) {
    const AddedToken token{.content = SpecialText(i), .id = ranks + i, .special = true};
    QD_RETURN_IF_ERROR(added.Add(token, AddedTokenList::OtherText::kRefuse, vocab));
  }
  // The table holds special tokens alone: an id below them is one of the list's.
  for (const AddedToken& token : config.added_tokens) {
    if (token.id >= ranks) continue;
    return absl::DataLossError(absl::StrCat("tokenizer_config.json: added token '", Printable(token.content, 60),
                                            "' with id ", token.id, ": the id is one of the list's"));
  }
  QD_RETURN_IF_ERROR(AddConfigTokens(config, AddedTokenList::OtherText::kRefuse, vocab, added, spec));
  spec.added = added.Take();
  spec.token_bytes.resize(std::max<size_t>(spec.token_bytes.size(), vocab.size()));
  for (const AddedToken& token : spec.added) spec.token_bytes[token.id] = token.content;
  if (!spec.bos_id) spec.bos_id = vocab.Find("<|begin_of_text|>");
  if (!spec.eos_id) spec.eos_id = vocab.Find("<|end_of_text|>");
  for (const char* end : {"<|eot_id|>", "<|eom_id|>"}) {
    if (const std::optional<int32_t> id = vocab.Find(end)) spec.end_ids.push_back(*id);
  }
  return absl::OkStatus();
}

}  // namespace

bool IsTiktokenModel(std::string_view bytes) {
  const std::string_view line = bytes.substr(0, bytes.find('\n'));
  const size_t space = line.find(' ');
  std::string ignored;
  return space != line.npos && space > 0 && line.size() > space + 1 &&
         absl::Base64Unescape(ToAbsl(line.substr(0, space)), &ignored) &&
         line.find_first_not_of("0123456789", space + 1) == line.npos;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTiktokenModel(std::string_view bytes,
                                                              const TokenizerCompanions& beside) {
  QD_ASSIGN_OR_RETURN(const TokenizerConfig config, ParseTokenizerConfig(beside, ConfigFlags::kRead));
  TokenizerSpec spec;
  BpeModel::Options options;
  options.byte_level = true;
  options.ignore_merges = true;
  spec.model = BpeModel(options);
  QD_ASSIGN_OR_RETURN(const int32_t ranks, ReadRanks(bytes, spec));
  if (ranks != kLlama3Ranks) {
    return absl::UnimplementedError(absl::StrCat(ToAbsl(kFile), ": a tiktoken list of ", ranks,
                                                 " ranks, whose split pattern nothing names, is not supported (",
                                                 kLlama3Ranks, ": Llama 3)"));
  }
  QD_RETURN_IF_ERROR(AddSpecialTokens(config, ranks, spec));
  QD_ASSIGN_OR_RETURN(SplitPattern split, SplitPattern::Compile({{kPattern}}));
  spec.pre_tokenizer.Add(std::move(split));
  SetAffixes(config, /*add_bos_by_default=*/true, spec);
  return MakeTextTokenizer(std::move(spec), kFile);
}

}  // namespace quantd
