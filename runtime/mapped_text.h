// A text made from another one, with the place in that other one for each of its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace quantd {

// How many times its bytes (and kTextGrowthSlack more) the steps before byte-pair encoding may make of a text.
// SentencePiece's normalizer, which prepends a visible space and puts one in place of each space, makes up to 12, the
// compatibility forms of Unicode up to 11.
inline constexpr size_t kMaxTextGrowth = 16, kTextGrowthSlack = 1024;

struct MappedText {
  std::string text;
  std::vector<uint32_t> source;  // for each byte of `text`
  size_t limit = 0;              // of bytes; what goes beyond it is dropped and `overflowed` set
  bool overflowed = false;
  bool goes_on = false;  // it was cut from what is before it: no step puts anything before it

  // `text` itself, which begins at `base` of what `source` means.
  static MappedText Of(std::string_view text, uint32_t base) {
    MappedText mapped;
    mapped.text = text;
    mapped.source.resize(text.size());
    mapped.limit = kMaxTextGrowth * text.size() + kTextGrowthSlack;
    for (size_t i = 0; i < text.size(); ++i) mapped.source[i] = base + static_cast<uint32_t>(i);
    return mapped;
  }
  // An empty text to which a step appends what it makes of this one.
  MappedText Next() const {
    MappedText next;
    next.limit = limit;
    next.overflowed = overflowed;
    next.goes_on = goes_on;
    next.text.reserve(text.size());
    next.source.reserve(text.size());
    return next;
  }
  void Append(std::string_view bytes, uint32_t from) {
    if (bytes.size() > limit - text.size()) {
      overflowed = true;
      return;
    }
    text += bytes;
    source.insert(source.end(), bytes.size(), from);
  }
  // Bytes [begin, end) of `other` with their places.
  void AppendPart(const MappedText& other, size_t begin, size_t end) {
    if (end - begin > limit - text.size()) {
      overflowed = true;
      return;
    }
    text.append(other.text, begin, end - begin);
    source.insert(source.end(), other.source.begin() + begin, other.source.begin() + end);
  }
  MappedText Part(size_t begin, size_t end) const {
    MappedText part;
    part.limit = limit;
    part.goes_on = goes_on && begin == 0;
    part.AppendPart(*this, begin, end);
    return part;
  }
};

}  // namespace quantd
