// Frames as a client writes them, for tests of the edge.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "server/edge/http2_frame.h"

namespace quantd::testing {

inline std::string Frame(int type, int flags, uint32_t stream, std::string_view payload = "") {
  std::string out;
  for (int shift : {16, 8, 0}) out.push_back(static_cast<char>(payload.size() >> shift));
  out.push_back(static_cast<char>(type));
  out.push_back(static_cast<char>(flags));
  for (int shift : {24, 16, 8, 0}) out.push_back(static_cast<char>(stream >> shift));
  return out.append(payload);
}
inline std::string Preface() { return std::string(kHttp2Preface) + Frame(kSettings, 0, 0); }
inline std::string Headers(uint32_t stream, int flags = kEndHeaders, size_t bytes = 40) {
  return Frame(kHeaders, flags, stream, std::string(bytes, 'h'));
}
inline std::string Data(uint32_t stream, std::string_view payload, int flags = 0) {
  return Frame(kData, flags, stream, payload);
}
inline std::string Reset(uint32_t stream) { return Frame(kRstStream, 0, stream, std::string(4, '\x08')); }
inline std::string Ping(int flags = 0) { return Frame(kPing, flags, 0, "12345678"); }
// gRPC's prefix of a message of so many bytes.
inline std::string Prefix(uint32_t bytes) {
  std::string out(1, '\0');
  for (int shift : {24, 16, 8, 0}) out.push_back(static_cast<char>(bytes >> shift));
  return out;
}
inline std::string Message(std::string_view text) { return Prefix(static_cast<uint32_t>(text.size())).append(text); }
// A unary call, whole.
inline std::string Call(uint32_t stream, std::string_view text = "x") {
  return Headers(stream) + Data(stream, Message(text), kEndStream);
}

inline std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace quantd::testing
