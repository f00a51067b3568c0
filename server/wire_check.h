// What the bytes of a request would become, found before they are parsed: protobuf makes up to a hundred bytes of two,
// and says neither which field is at fault nor why.
#pragma once

#include <cstdint>
#include <string_view>

#include <absl/status/statusor.h>

namespace google::protobuf {
class Descriptor;
}

namespace quantd {

// Of one request, whatever its method. Parts are messages (an entry of a map is one), strings, bytes and fields that
// the message does not have: what takes memory of its own. Values are the numbers of repeated fields.
struct WireLimits {
  int64_t max_parts = 1 << 16;
  int64_t max_values = 1 << 20;
  int64_t max_fields = 1 << 20;  // tags of any kind
  int max_depth = 100;           // of messages in messages; protobuf's own bound
};

struct WireCounts {
  int64_t parts = 0, values = 0, fields = 0;
  // Bytes that the parsed message takes beside those of its strings: at least what it really takes.
  int64_t overhead_bytes() const;
};

// InvalidArgument with the field's path ("chat.messages[3].content"): what is no message of `type`, a field of another
// wire type, a string that is not UTF-8, messages nested too deeply. ResourceExhausted LIMIT, with the path: too many.
absl::StatusOr<WireCounts> CheckWire(std::string_view bytes, const google::protobuf::Descriptor& type,
                                     const WireLimits& limits = {});

}  // namespace quantd
