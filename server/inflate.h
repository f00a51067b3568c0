// Decompression into a bounded buffer.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <absl/status/statusor.h>

namespace quantd {

enum class Compression { kNone, kGzip, kDeflate };  // kDeflate is zlib's format (RFC 1950), as gRPC has it

// Deflate makes at most 1032 bytes of one (zlib's technical notes, "Maximum Compression Factor").
inline constexpr size_t kMaxDeflateRatio = 1032;

// The bytes of `parts`, one after another, as they were before they were compressed. ResourceExhausted LIMIT: more than
// `max_bytes`, of which no more than that is ever held. InvalidArgument: no stream of that kind, one that is cut off,
// or one with something behind it.
absl::StatusOr<std::string> Inflate(std::span<const std::string_view> parts, Compression kind, size_t max_bytes);

}  // namespace quantd
