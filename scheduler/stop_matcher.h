// Stop texts in a stream: what may leave, what must be held back, where the output ends.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace quantd {

// The output ends at the stop text that is complete first; of several that end at the same byte, at the longest. So the
// result does not depend on how the text was cut. One per output; not thread-safe.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);

  struct Result {
    std::string text;  // may leave now: up to the match where there is one, the match not included
    std::optional<std::string> matched;
  };
  // Holds back the longest end of the text that may be the beginning of a stop text. After a match it must not be
  // called.
  Result Append(std::string_view text);
  // The output ends otherwise: gives what was held back.
  std::string Flush();

 private:
  std::vector<std::string> stops_;  // none empty
  std::string held_;                // an end of the text so far that begins a stop text
};

}  // namespace quantd
