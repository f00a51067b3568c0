#include "server/edge/http2_frame.h"

namespace quantd {
namespace {

void AppendUint(std::string& out, uint32_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

std::string Frame(FrameType type, uint8_t flags, uint32_t stream, std::string_view payload) {
  std::string out;
  AppendUint(out, static_cast<uint32_t>(payload.size()), 3);
  out.push_back(static_cast<char>(type));
  out.push_back(static_cast<char>(flags));
  AppendUint(out, stream, 4);
  out.append(payload);
  return out;
}

// RFC 7541, 6.2.2, with a new name: neither side's dynamic table changes. Lengths are integers of a 7-bit prefix (5.1).
void AppendText(std::string& out, std::string_view text) {
  constexpr size_t kPrefix = 127;
  if (text.size() < kPrefix) {
    out.push_back(static_cast<char>(text.size()));
  } else {
    out.push_back(static_cast<char>(kPrefix));
    size_t rest = text.size() - kPrefix;
    for (; rest >= 128; rest /= 128) out.push_back(static_cast<char>(rest % 128 + 128));
    out.push_back(static_cast<char>(rest));
  }
  out.append(text);
}
void AppendField(std::string& out, std::string_view name, std::string_view value) {
  out.push_back(0);
  AppendText(out, name);
  AppendText(out, value);
}

}  // namespace

FrameHeader ParseFrameHeader(std::span<const uint8_t> b) {
  FrameHeader header;
  header.length = static_cast<uint32_t>(b[0] << 16 | b[1] << 8 | b[2]);
  header.type = b[3];
  header.flags = b[4];
  header.stream = (static_cast<uint32_t>(b[5] & 0x7f) << 24) | static_cast<uint32_t>(b[6] << 16 | b[7] << 8 | b[8]);
  return header;
}

std::string GoAwayFrame(uint32_t last_stream, Http2Error error, std::string_view debug) {
  std::string payload;
  AppendUint(payload, last_stream, 4);
  AppendUint(payload, error, 4);
  payload.append(debug);
  return Frame(kGoAway, 0, 0, payload);
}

std::string RstStreamFrame(uint32_t stream, Http2Error error) {
  std::string payload;
  AppendUint(payload, error, 4);
  return Frame(kRstStream, 0, stream, payload);
}

std::string WindowUpdateFrame(uint32_t bytes) {
  std::string payload;
  AppendUint(payload, bytes, 4);
  return Frame(kWindowUpdate, 0, 0, payload);
}

std::string EmptySettingsFrame() { return Frame(kSettings, 0, 0, ""); }

std::string PingFrame(std::string_view eight_bytes) { return Frame(kPing, 0, 0, eight_bytes); }

std::string TrailersOnlyFrame(uint32_t stream, int grpc_status, std::string_view message) {
  std::string block;
  block.push_back(static_cast<char>(0x88));  // :status 200, the 8th of the static table
  AppendField(block, "content-type", "application/grpc");
  AppendField(block, "grpc-status", std::to_string(grpc_status));
  AppendField(block, "grpc-message", message);
  return Frame(kHeaders, kEndHeaders | kEndStream, stream, block);
}

}  // namespace quantd
