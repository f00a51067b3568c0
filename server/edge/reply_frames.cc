#include "server/edge/reply_frames.h"

#include <algorithm>

namespace quantd {

size_t ReplyFrames::Pass(std::span<const uint8_t> bytes, const std::function<void(const FrameHeader&)>& on_frame) {
  size_t at = 0, boundary = 0;
  while (at < bytes.size()) {
    if (payload_left_ > 0) {
      const size_t n = std::min(payload_left_, bytes.size() - at);
      payload_left_ -= n;
      at += n;
    } else {
      header_[header_bytes_++] = bytes[at++];
      if (header_bytes_ < kFrameHeaderBytes) continue;
      header_bytes_ = 0;
      const FrameHeader frame = ParseFrameHeader(header_);
      payload_left_ = frame.length;
      on_frame(frame);
    }
    if (at_boundary()) boundary = at;
  }
  return boundary;
}

}  // namespace quantd
