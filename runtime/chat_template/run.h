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

namespace quantd::chat {

struct Scope;

class Run {
 public:
  explicit Run(const ChatTemplate::Limits& limits, int64_t unix_seconds) : limits_(limits), now_(unix_seconds) {}

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

  // False when the run has failed or its steps are spent. A step is one node, one item or 64 bytes of text.
  bool Charge(size_t steps) {
    if (!ok()) return false;
    if (steps > static_cast<uint64_t>(limits_.steps - steps_)) {
      Exhausted(absl::StrCat("more than ", limits_.steps, " steps"));
      return false;
    }
    steps_ += static_cast<int64_t>(steps);
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

  // Namespaces, and scopes that a macro closes over, can form cycles: they live until the run ends and are emptied
  // then.
  std::vector<std::shared_ptr<Namespace>> namespaces;
  std::vector<std::shared_ptr<Scope>> closures;
  std::vector<std::shared_ptr<Loop>> loops;

 private:
  static absl::string_view ToView(std::string_view s) { return absl::string_view(s.data(), s.size()); }

  const ChatTemplate::Limits limits_;
  const int64_t now_;
  int64_t steps_ = 0;
  absl::Status status_;
};

inline constexpr size_t kStepsOfPart = 2;  // of a text that is cut into many, before each part is made
// A container deeper than this is refused: walks of values recurse.
inline constexpr int kMaxValueDepth = 100;
inline constexpr Int kMaxRange = 100000;  // MAX_RANGE of jinja2.sandbox

}  // namespace quantd::chat
