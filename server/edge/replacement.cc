#include "server/edge/replacement.h"

#include <tuple>

namespace quantd {
namespace {

// Of those without a call before the others, of the address with the most connections, the one that is so for longest.
bool GoesBefore(const Replacement::Candidate& a, const Replacement::Candidate& b) {
  return std::tuple(a.has_calls, -a.connections, a.since) < std::tuple(b.has_calls, -b.connections, b.since);
}

}  // namespace

bool Replacement::MayGo(const Candidate& candidate) const {
  if (!candidate.has_calls) return true;
  const bool has_far_more = candidate.connections >= 2 * (connections_ + 1);
  return now_ - candidate.since >= (has_far_more ? quiet_time_ / 10 : quiet_time_);
}

void Replacement::Offer(const Candidate& candidate) {
  if (MayGo(candidate) && (best_.id == 0 || GoesBefore(candidate, best_))) best_ = candidate;
}

}  // namespace quantd
