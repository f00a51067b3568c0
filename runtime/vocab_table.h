// A vocabulary while a tokenizer is built: text and id of each token, each once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/status/status.h>

#include "runtime/text_tokenizer.h"

namespace quantd {

class VocabTable {
 public:
  // DataLoss: `id` or `text` is taken, the id is out of range, the text is empty or too long.
  absl::Status Add(std::string_view text, int64_t id);
  std::optional<int32_t> Find(std::string_view text) const;
  // Whether this is the first time for a token that is there.
  bool MarkAdded(int32_t id) { return added_.insert(id).second; }
  // By id; empty for an id that no token has.
  const std::vector<std::string>& texts() const { return texts_; }
  int32_t size() const { return static_cast<int32_t>(texts_.size()); }  // one more than the largest id

 private:
  std::vector<std::string> texts_;
  absl::flat_hash_map<std::string, int32_t> ids_;
  absl::flat_hash_set<int32_t> added_;
};

// Adds `token` to the vocabulary, unless it is there with that id, and to the added tokens, unless it is one. DataLoss:
// its id is another token's, or its text has another id.
absl::Status AddAddedToken(const AddedToken& token, VocabTable& vocab, std::vector<AddedToken>& added);

}  // namespace quantd
