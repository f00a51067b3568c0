// What all connections of one address may do together, so that it gains nothing by opening more of them.
#pragma once

#include <algorithm>

#include "server/edge/token_bucket.h"

namespace quantd {

struct PeerBudget {
  // Connections given to gRPC, which spends some 0.3 ms on each. A pool of clients that restarts fits in the burst.
  TokenBucket greetings{{512, 200}};
  // Bytes of header blocks: gRPC spends up to 20 ns on each.
  TokenBucket header_bytes{{4 << 20, 8 << 20}};
  // Calls given up before any answer: see Http2Guard.
  TokenBucket resets_pace{{512, 500}};
  TokenBucket resets{{8000, 200}};
  // New calls; those that are answered give their place back. So this bounds the ones that wait for a first answer, and
  // those that fail at once, on each of which gRPC spends some 0.1 ms.
  TokenBucket calls{{2048, 500}};
  // See Http2Guard::kSmallDataRate.
  TokenBucket small_data{{8192, 40'000}};
  // How many connections share it.
  int connections = 0;

  // When a connection that found too little of `bucket` is to look again: as many as share it look in that time, so
  // that all of them together look as often as there is something to be had.
  TimePoint When(TokenBucket& bucket, double tokens, TimePoint now) const {
    return bucket.When(tokens * std::max(1, connections), now);
  }

  // As good as new: nothing is lost by forgetting it.
  bool IsFull(TimePoint now) {
    return greetings.IsFull(now) && header_bytes.IsFull(now) && resets_pace.IsFull(now) && resets.IsFull(now) &&
           calls.IsFull(now) && small_data.IsFull(now);
  }
};

}  // namespace quantd
