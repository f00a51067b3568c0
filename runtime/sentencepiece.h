// A SentencePiece-style BPE vocabulary with scores, as tokenizer.model and GGUF ("llama") hold it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "runtime/text_tokenizer.h"
#include "runtime/vocab_table.h"

namespace quantd {

// The numbers are those of sentencepiece_model.proto and of tokenizer.ggml.token_type.
enum class PieceType {
  kUndefined = 0,
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct ScoredPiece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

enum class SpacePrefix {
  kNone,
  kEachText,  // before each text between two special tokens: SentencePiece's dummy prefix as transformers' legacy mode
              // and llama.cpp apply it
  kFirstText  // only where the whole text begins: transformers with legacy = false
};

// Fills `vocab` and the model, added tokens, normalizer and token bytes of the spec it returns. `place` is what
// messages call the list of pieces. DataLoss: a piece is too long or twice there, a score is no number, a byte piece is
// no byte.
absl::StatusOr<TokenizerSpec> MakeScoredSpec(const std::vector<ScoredPiece>& pieces, SpacePrefix prefix,
                                             std::string_view place, VocabTable& vocab);

}  // namespace quantd
