// The state of one Render that everything shares: the bounds, and the first error. After a failure every operation
// returns quickly with a value that means nothing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include "runtime/chat_template/chat_template.h"
#include "runtime/chat_template/value.h"
#include "runtime/stop.h"

namespace quantd::chat {

struct Scope;

inline constexpr int64_t kStepsOfPoll = 4096;

class Run {
 public:
  explicit Run(const ChatTemplate::Limits& limits, int64_t unix_seconds, const Stop& stop = {})
      : limits_(limits), now_(unix_seconds), stop_(stop) {}

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }
  int64_t unix_seconds() const { return now_; }
  const ChatTemplate::Limits& limits() const { return limits_; }

  int line = 0;  // of the node being evaluated

  // The template's own failure: InvalidArgument, with the line.
  Value Fail(std::string_view message) {
    if (ok()) status_ = absl::InvalidArgumentError(absl::StrCat("chat template, line ", line, ": ", ToView(message)));
    return {};
  }
  // A bound was hit: ResourceExhausted.
  Value Exhausted(std::string_view message) {
    if (ok()) status_ = absl::ResourceExhaustedError(absl::StrCat("chat template, line ", line, ": ", ToView(message)));
    return {};
  }
  void FailWith(absl::Status status) {
    if (ok()) status_ = std::move(status);
  }

  // False when the run has failed, its steps are spent, or it is told to stop, which it asks each kStepsOfPoll. A step
  // is what takes some 50 ns at most: a node, an item, 64 bytes copied, 8 bytes looked at, 2 bytes made anew.
  bool Charge(size_t steps) {
    if (!ok()) return false;
    if (steps > static_cast<uint64_t>(limits_.steps - steps_)) {
      Exhausted(absl::StrCat("more than ", limits_.steps, " steps"));
      return false;
    }
    const int64_t polled = steps_ / kStepsOfPoll;
    steps_ += static_cast<int64_t>(steps);
    if (stop_ && steps_ / kStepsOfPoll != polled && stop_()) {
      FailWith(absl::CancelledError("the chat template was stopped"));
      return false;
    }
    return true;
  }
  // Before making a text of `bytes` bytes.
  bool ChargeText(size_t bytes) {
    if (!ok()) return false;
    if (bytes > limits_.output_bytes) {
      Exhausted(absl::StrCat("a text of more than ", limits_.output_bytes, " bytes"));
      return false;
    }
    return Charge(bytes / 64);
  }
  // Before copying `text`.
  bool ChargeText(const Text& text) { return ChargeText(text.size()) && Charge(text.runs() / 4); }
  // Before looking at each character of `bytes` bytes, or searching them.
  bool ChargeScan(size_t bytes) { return Charge(bytes / 8); }
  // Before making each character of `bytes` bytes anew, one by one.
  bool ChargeMap(size_t bytes) { return ChargeText(bytes) && Charge(bytes / 2); }

  // Namespaces, and scopes that a macro closes over, can form cycles: they live until the run ends and are emptied
  // then.
  std::vector<std::shared_ptr<Namespace>> namespaces;
  std::vector<std::shared_ptr<Scope>> closures;
  std::vector<std::shared_ptr<Loop>> loops;

 private:
  static absl::string_view ToView(std::string_view s) { return absl::string_view(s.data(), s.size()); }

  const ChatTemplate::Limits limits_;
  const int64_t now_;
  const Stop stop_;
  int64_t steps_ = 0;
  absl::Status status_;
};

inline constexpr size_t kStepsOfPart = 4;  // of a text that is cut into many, before each part is made
// A container deeper than this is refused: walks of values recurse.
inline constexpr int kMaxValueDepth = 100;
inline constexpr Int kMaxRange = 100000;  // MAX_RANGE of jinja2.sandbox

}  // namespace quantd::chat
