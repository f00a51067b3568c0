#include "scheduler/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace quantd {

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& s) { return s.empty(); });
}

StopMatcher::Result StopMatcher::Append(std::string_view text) {
  Result result;
  held_ += text;
  size_t end = std::string::npos;
  const std::string* match = nullptr;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const size_t stop_end = at + stop.size();
    if (match == nullptr || stop_end < end || (stop_end == end && stop.size() > match->size())) {
      match = &stop;
      end = stop_end;
    }
  }
  if (match != nullptr) {
    result.text = held_.substr(0, end - match->size());
    result.matched = *match;
    held_.clear();
    return result;
  }
  size_t keep = 0;  // bytes
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n) {
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) {
        keep = n;
        break;
      }
    }
  }
  result.text = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return result;
}

std::string StopMatcher::Flush() { return std::exchange(held_, {}); }

}  // namespace quantd
