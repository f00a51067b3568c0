// The nine bytes before every HTTP/2 frame, and the few frames that the edge sends itself (RFC 9113, 4.1 and 6).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace quantd {

inline constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
inline constexpr size_t kFrameHeaderBytes = 9;
// What SETTINGS_MAX_FRAME_SIZE is unless said otherwise, which gRPC's server does not here (daemon.cc).
inline constexpr uint32_t kMaxFrameBytes = 16 * 1024;

enum FrameType : uint8_t {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kRstStream = 3,
  kSettings = 4,
  kPushPromise = 5,
  kPing = 6,
  kGoAway = 7,
  kWindowUpdate = 8,
  kContinuation = 9,
};

enum FrameFlag : uint8_t { kAck = 1, kEndStream = 1, kEndHeaders = 4, kPadded = 8 };

enum Http2Error : uint32_t {
  kNoError = 0,
  kProtocolError = 1,
  kFrameSizeError = 6,
  kCancel = 8,
  kEnhanceYourCalm = 11,
};

struct FrameHeader {
  uint32_t length = 0;  // of the payload, in bytes
  uint8_t type = 0;
  uint8_t flags = 0;
  uint32_t stream = 0;

  bool Has(FrameFlag flag) const { return (flags & flag) != 0; }
};

// Of kFrameHeaderBytes bytes.
FrameHeader ParseFrameHeader(std::span<const uint8_t> bytes);

// Whole frames, ready to be written.
std::string GoAwayFrame(uint32_t last_stream, Http2Error error, std::string_view debug);
std::string RstStreamFrame(uint32_t stream, Http2Error error);
std::string EmptySettingsFrame();
std::string PingFrame(std::string_view eight_bytes);
std::string WindowUpdateFrame(uint32_t bytes);  // of the connection; more than 0
// An answer that is its own end (gRPC over HTTP/2: Trailers-Only), with no reference to HPACK's dynamic table, so that
// it may stand between any two frames of a connection. `message` is printable ASCII without '%'.
std::string TrailersOnlyFrame(uint32_t stream, int grpc_status, std::string_view message);

}  // namespace quantd
