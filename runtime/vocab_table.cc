#include "runtime/vocab_table.h"

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

constexpr size_t kQuotedBytes = 60;

}  // namespace

absl::Status VocabTable::Add(std::string_view text, int64_t id) {
  const auto refuse = [&](const auto&... words) {
    return absl::DataLossError(
        absl::StrCat("token '", Printable(text, kQuotedBytes), "' with id ", id, ": ", words...));
  };
  if (text.size() > kMaxTokenBytes) return refuse(text.size(), " bytes of text, at most ", kMaxTokenBytes);
  if (id < 0 || id >= kMaxVocab) return refuse("expected an id from 0 to ", kMaxVocab - 1);
  if (Has(id)) return refuse("the id is that of '", Printable(texts_[id], kQuotedBytes), "'");
  if (!text.empty()) {
    const auto [it, is_new] = ids_.try_emplace(std::string(text), static_cast<int32_t>(id));
    if (!is_new) return refuse("the text is that of id ", it->second);
  }
  if (id >= size()) {
    texts_.resize(id + 1);
    taken_.resize(id + 1);
  }
  texts_[id] = text;
  taken_[id] = true;
  return absl::OkStatus();
}

absl::Status VocabTable::Rename(std::string_view text, int32_t id) {
  const std::string old = std::move(texts_[id]);
  taken_[id] = false;
  const absl::Status status = Add(text, id);
  if (status.ok()) return status;
  texts_[id] = old;
  taken_[id] = true;
  return status;
}

std::optional<int32_t> VocabTable::Find(std::string_view text) const {
  const auto it = ids_.find(text);
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

AddedTokenList::AddedTokenList(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < tokens_.size(); ++i) index_[tokens_[i].id] = i;
}

absl::Status AddedTokenList::Add(const AddedToken& token, OtherText other_text, VocabTable& vocab) {
  if (!vocab.Has(token.id) || vocab.texts()[token.id] != token.content) {
    const bool renames = other_text == OtherText::kRename && vocab.Has(token.id);
    const absl::Status status = renames ? vocab.Rename(token.content, token.id) : vocab.Add(token.content, token.id);
    if (!status.ok()) return absl::DataLossError(absl::StrCat("added ", status.message()));
  }
  const auto [it, is_new] = index_.try_emplace(token.id, tokens_.size());
  if (is_new) {
    tokens_.push_back(token);
  } else {
    tokens_[it->second] = token;
  }
  return absl::OkStatus();
}

absl::StatusOr<int32_t> AddedTokenList::AddNamed(AddedToken token, VocabTable& vocab) {
  token.id = vocab.Find(token.content).value_or(vocab.size());
  if (const auto it = index_.find(token.id); it != index_.end()) {
    AddedToken& known = tokens_[it->second];
    known.stays_text = known.stays_text && token.stays_text;
    known.special = true;
    return token.id;
  }
  token.special = true;
  QD_RETURN_IF_ERROR(Add(token, OtherText::kRefuse, vocab));
  return token.id;
}

}  // namespace quantd
