#include "runtime/vocab_table.h"

#include "base/strings.h"
#include "runtime/printable.h"

namespace quantd {

absl::Status VocabTable::Add(std::string_view text, int64_t id) {
  const auto refuse = [&](const auto&... words) {
    return absl::DataLossError(absl::StrCat("token '", Printable(text, 60), "' with id ", id, ": ", words...));
  };
  if (text.empty()) return refuse("no text");
  if (text.size() > kMaxTokenBytes) return refuse(text.size(), " bytes of text, at most ", kMaxTokenBytes);
  if (id < 0 || id >= kMaxVocab) return refuse("expected an id from 0 to ", kMaxVocab - 1);
  if (id < size() && !texts_[id].empty()) return refuse("the id is that of '", Printable(texts_[id], 60), "'");
  const auto [it, is_new] = ids_.try_emplace(std::string(text), static_cast<int32_t>(id));
  if (!is_new) return refuse("the text is that of id ", it->second);
  if (id >= size()) texts_.resize(id + 1);
  texts_[id] = text;
  return absl::OkStatus();
}

std::optional<int32_t> VocabTable::Find(std::string_view text) const {
  const auto it = ids_.find(ToAbsl(text));
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

absl::Status AddAddedToken(const AddedToken& token, VocabTable& vocab, std::vector<AddedToken>& added) {
  if (vocab.Find(token.content) != token.id) {
    const absl::Status status = vocab.Add(token.content, token.id);
    if (!status.ok()) return absl::DataLossError(absl::StrCat("added ", ToAbsl(ToStd(status.message()))));
  }
  if (vocab.MarkAdded(token.id)) added.push_back(token);
  return absl::OkStatus();
}

}  // namespace quantd
