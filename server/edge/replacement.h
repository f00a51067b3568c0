// Which connection makes room for a newcomer where every place is taken. Pure.
//
// First those without a call. Then those whose calls stand still: the server owes none of them a first answer, and none
// has moved for a while (a watch, a request that its client does not finish, an answer that it does not read). Where
// the newcomer's address has few connections and theirs many, a tenth of that while is enough. A call that is being
// answered, or whose whole request waits for its answer, keeps its connection.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace quantd {

class Replacement {
 public:
  struct Candidate {
    uint64_t id;          // not 0
    bool has_calls;       // which all stand still
    TimePoint since;      // when it last had a call, or its calls last moved
    int connections = 0;  // of its address
  };

  // `connections` are those that the newcomer's address has; calls have stood still after `quiet_time`.
  Replacement(int connections, Duration quiet_time, TimePoint now)
      : connections_(connections), quiet_time_(quiet_time), now_(now) {}

  void Offer(const Candidate& candidate);
  uint64_t best() const { return best_.id; }  // 0 = none

 private:
  bool MayGo(const Candidate& candidate) const;

  const int64_t connections_;
  const Duration quiet_time_;
  const TimePoint now_;
  Candidate best_{};
};

}  // namespace quantd
