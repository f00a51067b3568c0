// A vocabulary while a tokenizer is built: text and id of each token, each once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "runtime/text_tokenizer.h"
#include "runtime/token_table.h"

namespace quantd {

class VocabTable {
 public:
  // A token without text keeps its id and is never found. DataLoss: `id` or `text` is taken, the id is out of range,
  // the text is too long.
  absl::Status Add(std::string_view text, int64_t id);
  // Gives a token that is there another text; its own still finds it. DataLoss as above.
  absl::Status Rename(std::string_view text, int32_t id);
  std::optional<int32_t> Find(std::string_view text) const;
  bool Has(int64_t id) const { return id >= 0 && id < size() && taken_[static_cast<size_t>(id)]; }
  // By id; empty for an id that no token has.
  const std::vector<std::string>& texts() const { return texts_; }
  int32_t size() const { return static_cast<int32_t>(texts_.size()); }  // one more than the largest id

 private:
  std::vector<std::string> texts_;
  std::vector<bool> taken_;
  TokenIds ids_;
};

// The added tokens of a tokenizer while it is built, each once; the last that names an id says its flags.
class AddedTokenList {
 public:
  explicit AddedTokenList(std::vector<AddedToken> tokens = {});

  // What a token whose id already belongs to a token of another text does.
  enum class OtherText { kRefuse, kRename };

  // Adds `token` to the vocabulary too, unless it is there. DataLoss: its id is another token's (kRefuse), or its text
  // has another id.
  absl::Status Add(const AddedToken& token, OtherText other_text, VocabTable& vocab);
  // As a special token: what a configuration names. A new text gets the next id. It stays text only where nothing else
  // says that it is special.
  absl::StatusOr<int32_t> AddNamed(AddedToken token, VocabTable& vocab);
  std::vector<AddedToken> Take() { return std::move(tokens_); }

 private:
  std::vector<AddedToken> tokens_;
  HashTable<int32_t, size_t> index_;  // by id
};

}  // namespace quantd
