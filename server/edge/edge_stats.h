// What the edge counts. Written by its thread, read by any.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

#include "server/edge/http2_guard.h"

namespace quantd {

// Why a connection was closed as soon as it was accepted; the names are labels of a metric.
enum class Refusal { kLimit, kPeerLimit, kDescriptors };
inline constexpr int kNumRefusals = 3;
// Why a single stream was ended; likewise.
enum class StreamReset { kReceiveBudget, kReceiveTimeout, kLimit, kHeaders };
inline constexpr int kNumStreamResets = 4;
inline std::string_view Name(Refusal r) {
  static constexpr std::string_view kNames[] = {"limit", "peer_limit", "descriptors"};
  return kNames[static_cast<size_t>(r)];
}
inline std::string_view Name(StreamReset r) {
  static constexpr std::string_view kNames[] = {"receive_budget", "receive_timeout", "limit", "headers"};
  return kNames[static_cast<size_t>(r)];
}

struct EdgeStats {
  using Count = std::atomic<int64_t>;
  // Now.
  Count connections{0}, streams{0};
  // Of requests that are not whole, and of what clients sent that gRPC has not been given yet.
  Count receiving_bytes{0};
  // Of answers that gRPC has given and clients have not taken yet; what the system holds for them is not in it.
  Count sending_bytes{0};
  // Since the start.
  Count accepted{0};
  std::array<Count, kNumRefusals> refused{};
  std::array<Count, kNumCuts> cut{};
  std::array<Count, kNumPaces> paced{};
  std::array<Count, kNumStreamResets> streams_reset{};
};

}  // namespace quantd
