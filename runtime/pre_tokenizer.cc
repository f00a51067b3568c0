#include "runtime/pre_tokenizer.h"

#include <utility>

#include "base/status_macros.h"
#include "runtime/byte_alphabet.h"
#include "runtime/normalizer.h"

namespace quantd {
namespace {

MappedText RunMetaspace(const MetaspaceStep& step, const MappedText& text) {
  MappedText spaced = Replace(text, " ", step.replacement);
  const bool prepends = step.prepend == MetaspaceStep::Prepend::kAlways ||
                        (step.prepend == MetaspaceStep::Prepend::kFirst && text.source.front() == 0);
  return prepends && !text.goes_on && !spaced.text.starts_with(step.replacement) ? Prepend(spaced, step.replacement)
                                                                                 : spaced;
}

MappedText ToAlphabet(const MappedText& text) {
  MappedText out = text.Next();
  for (size_t i = 0; i < text.text.size(); ++i) {
    out.Append(ByteAlphabetCharacter(static_cast<uint8_t>(text.text[i])), text.source[i]);
  }
  return out;
}

}  // namespace

void PreTokenizer::Add(PreTokenizeStep step) {
  if (std::holds_alternative<AlphabetStep>(step)) to_alphabet_ = true;
  steps_.push_back(std::move(step));
}

absl::Status PreTokenizer::Run(const MappedText& text, SplitWork& work, const Visit& visit) const {
  return text.text.empty() ? absl::OkStatus() : RunFrom(0, text, work, visit);
}

// `text` is not empty.
absl::Status PreTokenizer::RunFrom(size_t step, const MappedText& text, SplitWork& work, const Visit& visit) const {
  if (step == steps_.size()) {
    return visit(text, {{0, static_cast<uint32_t>(text.text.size())}});
  }
  const PreTokenizeStep& next = steps_[step];
  if (const auto* split = std::get_if<SplitPattern>(&next)) {
    std::vector<ByteRange> pieces;
    QD_RETURN_IF_ERROR(split->Split(text.text, work, pieces));
    if (step + 1 == steps_.size()) return visit(text, pieces);
    for (const ByteRange& piece : pieces) {
      QD_RETURN_IF_ERROR(RunFrom(step + 1, text.Part(piece.begin, piece.end), work, visit));
    }
    return absl::OkStatus();
  }
  const auto* metaspace = std::get_if<MetaspaceStep>(&next);
  const MappedText changed = metaspace != nullptr                         ? RunMetaspace(*metaspace, text)
                             : std::holds_alternative<AlphabetStep>(next) ? ToAlphabet(text)
                             : text.text.starts_with(' ') || text.goes_on ? text
                                                                          : Prepend(text, " ");
  QD_RETURN_IF_ERROR(CheckGrowth(changed));
  return RunFrom(step + 1, changed, work, visit);
}

}  // namespace quantd
