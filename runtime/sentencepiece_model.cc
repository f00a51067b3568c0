// tokenizer.model: the protobuf ModelProto of sentencepiece_model.proto, of the kind BPE.

#include <bit>
#include <cstring>
#include <memory>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/sentencepiece.h"
#include "runtime/tokenizer_config.h"

namespace quantd {
namespace {

constexpr std::string_view kFile = "tokenizer.model";

absl::Status Corrupt(size_t offset, std::string_view what) {
  return absl::DataLossError(absl::StrCat(ToAbsl(kFile), ": byte ", offset, ": ", ToAbsl(what)));
}

// One field of a protobuf message. `bytes` is a part of the file.
struct Field {
  uint32_t number;
  int wire_type;           // 0 varint, 1 eight bytes, 2 bytes, 5 four bytes
  uint64_t value;          // of wire types 0, 1 and 5
  std::string_view bytes;  // of wire type 2
  size_t offset;           // in the file
};

// Reads the fields of one message, which begins at `base` in the file.
class FieldReader {
 public:
  FieldReader(std::string_view message, size_t base) : message_(message), base_(base) {}
  bool AtEnd() const { return pos_ == message_.size(); }
  size_t offset() const { return base_ + pos_; }

  absl::StatusOr<Field> Next() {
    Field field{};
    field.offset = offset();
    QD_ASSIGN_OR_RETURN(const uint64_t tag, Varint());
    field.wire_type = static_cast<int>(tag & 7);
    if (tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) return Corrupt(field.offset, "a field number out of range");
    field.number = static_cast<uint32_t>(tag >> 3);
    switch (field.wire_type) {
      case 0: {
        QD_ASSIGN_OR_RETURN(field.value, Varint());
        return field;
      }
      case 1:
      case 5: {
        QD_ASSIGN_OR_RETURN(const std::string_view raw, Bytes(field.wire_type == 1 ? 8 : 4));
        for (size_t i = 0; i < raw.size(); ++i) field.value |= uint64_t{static_cast<uint8_t>(raw[i])} << (8 * i);
        return field;
      }
      case 2: {
        QD_ASSIGN_OR_RETURN(const uint64_t size, Varint());
        field.offset = offset();
        QD_ASSIGN_OR_RETURN(field.bytes, Bytes(size));
        return field;
      }
      default:
        return Corrupt(field.offset, absl::StrCat("wire type ", field.wire_type, ", expected 0, 1, 2 or 5"));
    }
  }

 private:
  absl::StatusOr<uint64_t> Varint() {
    const size_t begin = offset();
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (AtEnd()) return Corrupt(begin, "ends within a number");
      const auto byte = static_cast<uint8_t>(message_[pos_++]);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    return Corrupt(begin, "a number of more than ten bytes");
  }

  absl::StatusOr<std::string_view> Bytes(uint64_t size) {
    if (size > message_.size() - pos_) {
      return Corrupt(offset(), absl::StrCat("a field of ", size, " bytes where ", message_.size() - pos_, " are left"));
    }
    const std::string_view bytes = message_.substr(pos_, size);
    pos_ += size;
    return bytes;
  }

  std::string_view message_;
  size_t base_;
  size_t pos_ = 0;
};

// What of ModelProto matters here, with the defaults of the schema.
struct Model {
  std::vector<ScoredPiece> pieces;
  uint64_t model_type = 1;  // unigram
  bool whitespace_as_suffix = false;
  int32_t unk_id = 0, bos_id = 1, eos_id = 2;  // -1: there is none
  std::string_view charsmap;                   // of the file; empty where there is none
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

// Calls `visit` for every field whose kind is `wire_type` of those it names; others are unknown fields, to be skipped.
template <typename Visit>
absl::Status ForEachField(std::string_view message, size_t base, const Visit& visit) {
  FieldReader reader(message, base);
  while (!reader.AtEnd()) {
    QD_ASSIGN_OR_RETURN(const Field field, reader.Next());
    QD_RETURN_IF_ERROR(visit(field));
  }
  return absl::OkStatus();
}

absl::StatusOr<ScoredPiece> ReadPiece(const Field& message) {
  ScoredPiece piece;
  const auto visit = [&](const Field& field) -> absl::Status {
    if (field.number == 1 && field.wire_type == 2) piece.text = field.bytes;
    if (field.number == 2 && field.wire_type == 5)
      piece.score = std::bit_cast<float>(static_cast<uint32_t>(field.value));
    if (field.number == 3 && field.wire_type == 0) {
      if (field.value < 1 || field.value > 6) return Corrupt(field.offset, absl::StrCat("piece type ", field.value));
      piece.type = static_cast<PieceType>(field.value);
    }
    return absl::OkStatus();
  };
  QD_RETURN_IF_ERROR(ForEachField(message.bytes, message.offset, visit));
  if (piece.text.empty()) return Corrupt(message.offset, "a piece without text");
  return piece;
}

absl::Status ReadTrainerSpec(const Field& message, Model& model) {
  return ForEachField(message.bytes, message.offset, [&](const Field& field) -> absl::Status {
    if (field.wire_type != 0) return absl::OkStatus();
    switch (field.number) {
      case 3:
        model.model_type = field.value;
        break;
      case 24:
        model.whitespace_as_suffix = field.value != 0;
        break;
      case 40:
        model.unk_id = static_cast<int32_t>(field.value);
        break;
      case 41:
        model.bos_id = static_cast<int32_t>(field.value);
        break;
      case 42:
        model.eos_id = static_cast<int32_t>(field.value);
        break;
      default:
        break;
    }
    return absl::OkStatus();
  });
}

absl::Status ReadNormalizerSpec(const Field& message, Model& model) {
  return ForEachField(message.bytes, message.offset, [&](const Field& field) -> absl::Status {
    if (field.number == 2 && field.wire_type == 2) model.charsmap = field.bytes;
    if (field.wire_type != 0) return absl::OkStatus();
    if (field.number == 3) model.add_dummy_prefix = field.value != 0;
    if (field.number == 4) model.remove_extra_whitespaces = field.value != 0;
    if (field.number == 5) model.escape_whitespaces = field.value != 0;
    return absl::OkStatus();
  });
}

absl::StatusOr<Model> ReadModel(std::string_view bytes) {
  Model model;
  const auto visit = [&](const Field& field) -> absl::Status {
    if (field.wire_type != 2) return absl::OkStatus();
    if (field.number == 1) {
      if (model.pieces.size() == kMaxVocab)
        return Corrupt(field.offset, absl::StrCat("more than ", kMaxVocab, " pieces"));
      QD_ASSIGN_OR_RETURN(ScoredPiece piece, ReadPiece(field));
      model.pieces.push_back(std::move(piece));
    }
    if (field.number == 2) return ReadTrainerSpec(field, model);
    if (field.number == 3) return ReadNormalizerSpec(field, model);
    return absl::OkStatus();
  };
  QD_RETURN_IF_ERROR(ForEachField(bytes, 0, visit));
  if (model.pieces.empty()) return absl::DataLossError(absl::StrCat(ToAbsl(kFile), ": no pieces"));
  return model;
}

absl::Status CheckSupported(const Model& model) {
  const char* missing = nullptr;
  if (model.model_type == 1) missing = "the model type unigram";
  if (model.model_type > 2) missing = "a model type other than BPE";
  if (model.whitespace_as_suffix) missing = "treat_whitespace_as_suffix";
  if (!model.escape_whitespaces) missing = "unescaped white space";
  for (const ScoredPiece& piece : model.pieces) {
    if (piece.type == PieceType::kUnused) missing = "a piece of the type unused";
  }
  if (missing == nullptr) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(ToAbsl(kFile), ": ", missing, " is not supported"));
}

// Nothing where the model has no such token.
absl::StatusOr<std::optional<int32_t>> OptionalId(int32_t id, std::string_view name, const Model& model) {
  if (id < 0) return std::optional<int32_t>();
  if (static_cast<size_t>(id) >= model.pieces.size()) {
    return absl::DataLossError(absl::StrCat(ToAbsl(kFile), ": ", ToAbsl(name), " is ", id, ", but there are ",
                                            model.pieces.size(), " pieces"));
  }
  return std::optional<int32_t>(id);
}

// What SentencePiece does to a text before it puts spaces in (normalizer.cc, Normalizer::Normalize).
absl::Status AddNormalizer(const Model& model, TokenizerSpec& spec) {
  std::vector<NormalizeStep> steps;
  if (!model.charsmap.empty()) {
    absl::StatusOr<Charsmap> map = Charsmap::Parse(model.charsmap);
    if (!map.ok()) return absl::DataLossError(absl::StrCat(ToAbsl(kFile), ": ", map.status().message()));
    steps.push_back(CharsmapStep{std::make_shared<const Charsmap>(*std::move(map)), /*of_graphemes=*/false});
  }
  if (model.remove_extra_whitespaces) steps.push_back(ExtraSpacesStep{});
  spec.normalizer.insert(spec.normalizer.begin(), steps.begin(), steps.end());
  return absl::OkStatus();
}

SpacePrefix PrefixOf(const Model& model, const TokenizerConfig& config) {
  if (!config.add_prefix_space.value_or(model.add_dummy_prefix)) return SpacePrefix::kNone;
  return config.legacy.value_or(true) ? SpacePrefix::kEachText : SpacePrefix::kFirstText;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseSentencePieceModel(std::string_view bytes,
                                                                   const TokenizerCompanions& beside) {
  QD_ASSIGN_OR_RETURN(TokenizerConfig config, ParseTokenizerConfig(beside, ConfigFlags::kRead));
  // The spaces that are written here by a normalizer are no part of a text that a token is compared with.
  for (AddedToken& token : config.added_tokens) token.normalized = false;
  for (NamedToken& named : config.named_tokens) named.token.normalized = false;
  QD_ASSIGN_OR_RETURN(const Model model, ReadModel(bytes));
  QD_RETURN_IF_ERROR(CheckSupported(model));
  VocabTable vocab;
  const std::string place = absl::StrCat(ToAbsl(kFile), ": pieces");
  QD_ASSIGN_OR_RETURN(TokenizerSpec spec, MakeScoredSpec(model.pieces, PrefixOf(model, config), place, vocab));
  QD_RETURN_IF_ERROR(AddNormalizer(model, spec));
  QD_ASSIGN_OR_RETURN(const std::optional<int32_t> unknown, OptionalId(model.unk_id, "unk_id", model));
  if (unknown) spec.model.set_unknown_id(*unknown);
  QD_ASSIGN_OR_RETURN(spec.bos_id, OptionalId(model.bos_id, "bos_id", model));
  QD_ASSIGN_OR_RETURN(spec.eos_id, OptionalId(model.eos_id, "eos_id", model));
  AddedTokenList added(std::move(spec.added));
  QD_RETURN_IF_ERROR(AddConfigTokens(config, AddedTokenList::OtherText::kRename, vocab, added, spec));
  spec.added = added.Take();
  spec.token_bytes.resize(vocab.size());
  for (const AddedToken& token : spec.added) spec.token_bytes[token.id] = token.content;
  SetAffixes(config, /*add_bos_by_default=*/true, spec);  // as Llama's own code and LlamaTokenizer of transformers 4
  return MakeTextTokenizer(std::move(spec), kFile);
}

}  // namespace quantd
