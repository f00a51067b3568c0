// Token ids to text, one at a time, whole UTF-8 only.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/tokenizer.h"

namespace quantd {

// Holds back the bytes of an unfinished UTF-8 sequence until it is complete; bytes that can never become UTF-8 leave as
// U+FFFD. One per output; not thread-safe. The tokenizer must outlive it.
class StreamDecoder {
 public:
  struct Options {
    bool skip_special_tokens = true;
    bool at_text_start = false;  // the first token opens a text: apply Tokenizer::StripsLeadingSpace
  };
  StreamDecoder(const Tokenizer& tokenizer, Options options) : tokenizer_(tokenizer), options_(options) {}

  // The text that `id` completes; often empty or more than one character.
  std::string Append(int32_t id);
  // What was held back, as U+FFFD where it is no whole sequence. Afterwards the decoder is empty.
  std::string Flush();

 private:
  const Tokenizer& tokenizer_;
  Options options_;
  bool started_ = false;
  std::string pending_;  // an unfinished UTF-8 sequence: at most 3 bytes
};

// Removes the longest whole-UTF-8 prefix of `bytes` and returns it, invalid bytes replaced by U+FFFD (maximal subparts,
// as Python's errors="replace" does). What stays in `bytes` is an unfinished sequence.
std::string TakeWholeUtf8(std::string& bytes);

}  // namespace quantd
