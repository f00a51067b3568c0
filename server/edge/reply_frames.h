// Follows the frames of the server's side of a connection as its bytes go by, in pieces of any size.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "server/edge/http2_frame.h"

namespace quantd {

class ReplyFrames {
 public:
  // Calls `on_frame` for each frame whose header becomes whole in `bytes`. Returns how many of them come before the
  // last place between two frames, 0 where there is none after the first byte.
  size_t Pass(std::span<const uint8_t> bytes, const std::function<void(const FrameHeader&)>& on_frame);
  // What was passed so far ends with a whole frame.
  bool at_boundary() const { return header_bytes_ == 0 && payload_left_ == 0; }

 private:
  std::array<uint8_t, kFrameHeaderBytes> header_;
  size_t header_bytes_ = 0;  // of the next frame
  size_t payload_left_ = 0;  // of the current frame
};

}  // namespace quantd
