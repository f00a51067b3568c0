// The guard of the edge over arbitrary bytes in arbitrary pieces, with frames of the server between them: it decides
// the same whatever the pieces, its accounts stay sound, and a wait always ends.
#include <cstdint>
#include <span>

#include "base/check.h"
#include "server/edge/http2_guard.h"

namespace {
using namespace quantd;
using Step = Http2Guard::Step;

// The first byte says how the rest is cut into pieces, and which of the server's frames come between them.
struct Run {
  size_t passed = 0;
  Step::What end = Step::kNeedMore;
};

Run Feed(std::span<const uint8_t> bytes, size_t piece, bool answer) {
  EdgeLimits limits;
  limits.max_streams = 16;
  PeerBudget peer;
  Http2Guard guard(limits, peer);
  TimePoint now = TimePoint() + std::chrono::hours(1);
  Run run;
  for (size_t end = 0; end < bytes.size();) {
    end = std::min(bytes.size(), end + piece);
    for (;;) {
      const std::span<const uint8_t> rest = bytes.subspan(run.passed, end - run.passed);
      const Step step = guard.Next(rest, now);
      run.end = step.what;
      if (step.what == Step::kWait) {
        QD_CHECK(step.until > now && step.until < now + std::chrono::seconds(10));
        now = step.until;
        continue;
      }
      if (step.what != Step::kForward && step.what != Step::kDrop) break;
      QD_CHECK(step.bytes > 0 && step.bytes <= rest.size());
      run.passed += step.bytes;
      QD_CHECK(guard.open_streams() <= 2 * 16);
      QD_CHECK(guard.receiving_bytes() >= 0);
      if (answer && guard.last_stream() != 0) {
        guard.OnServerFrame(
            {1, static_cast<uint8_t>(run.passed % 10), static_cast<uint8_t>(run.passed % 7), guard.last_stream()}, now);
      }
    }
    if (run.end == Step::kCut) return run;
  }
  int64_t held = 0;
  for (const Http2Guard::Unfinished& u : guard.ListUnfinished(now)) held += u.bytes;
  QD_CHECK(held == guard.receiving_bytes());
  for (uint32_t stream : guard.Late(now + std::chrono::hours(1000))) guard.Forget(stream);
  QD_CHECK(guard.Late(now + std::chrono::hours(1000)).empty());
  return run;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const std::span<const uint8_t> bytes(data + 1, size - 1);
  const bool answer = (data[0] & 1) != 0;
  const Run whole = Feed(bytes, bytes.size() + 1, answer);
  const Run pieces = Feed(bytes, 1 + data[0] / 2, answer);
  QD_CHECK(whole.passed == pieces.passed);
  QD_CHECK(whole.end == pieces.end);
  return 0;
}
