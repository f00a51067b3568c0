#include "server/wire_check.h"

#include <algorithm>
#include <string>
#include <utility>

#include <absl/container/inlined_vector.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include "base/error.h"
#include "base/escape.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/utf8.h"

namespace quantd {
namespace {
using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

constexpr int kMaxVarintBytes = 10, kMaxVarint32Bytes = 5;

// Where a message is: the field that holds it, in the message that holds that field.
struct Place {
  const Place* outer = nullptr;
  const FieldDescriptor* field = nullptr;  // null: the request itself
  int64_t index = -1;                      // among the values of a repeated field; -1: all of it
};

std::string Path(const Place& place) {
  if (place.field == nullptr) return "";
  std::string path = Path(*place.outer);
  if (!path.empty()) path += '.';
  path += place.field->name();
  if (place.index >= 0) absl::StrAppend(&path, "[", place.index, "]");
  return path;
}

absl::Status At(const Place& place, absl::StatusCode code, std::string_view what, std::string_view reason) {
  constexpr size_t kMaxPath = 256;  // a deep one is longer than a message of a status may be
  std::string path = Path(place);
  if (path.size() > kMaxPath) path = absl::StrCat(ToAbsl(CutUtf8(path, kMaxPath)), "…");
  const absl::Status status(code, absl::StrCat(path.empty() ? "the request" : path, " ", ToAbsl(what)));
  return WithReason(path.empty() ? status : WithField(status, path), reason);
}
absl::Status Malformed(const Place& place, std::string_view what) {
  return At(place, absl::StatusCode::kInvalidArgument, what, "FIELD_INVALID");
}
absl::Status TooMany(const Place& place, int64_t limit, std::string_view what) {
  return At(place, absl::StatusCode::kResourceExhausted,
            absl::StrCat("is too much: a request may have at most ", limit, " ", ToAbsl(what)), "LIMIT");
}

WireFormatLite::WireType WireTypeOf(const FieldDescriptor& field) {
  return WireFormatLite::WireTypeForFieldType(static_cast<WireFormatLite::FieldType>(field.type()));
}
// Numbers one after another in one field: any client may send a repeated field of them so.
bool IsPacked(const FieldDescriptor& field, WireFormatLite::WireType wire) {
  return wire == WireFormatLite::WIRETYPE_LENGTH_DELIMITED && field.is_packable();
}

// How many values of one message's repeated fields there were so far.
class Repeats {
 public:
  int64_t Next(const FieldDescriptor* field) {
    const auto at = std::find_if(counts_.begin(), counts_.end(), [&](const auto& c) { return c.first == field; });
    if (at != counts_.end()) return at->second++;
    counts_.emplace_back(field, 1);
    return 0;
  }

 private:
  absl::InlinedVector<std::pair<const FieldDescriptor*, int64_t>, 4> counts_;
};

class WireScan {
 public:
  WireScan(std::string_view bytes, const WireLimits& limits)
      : limits_(limits), in_(reinterpret_cast<const uint8_t*>(bytes.data()), static_cast<int>(bytes.size())) {
    in_.PushLimit(static_cast<int>(bytes.size()));
  }

  const WireCounts& counts() const { return counts_; }

  // The message at `place`, up to the stream's limit.
  absl::Status Message(const Descriptor& type, const Place& place, int depth) {
    if (depth > limits_.max_depth) {
      return Malformed(place, absl::StrCat("is nested more than ", limits_.max_depth, " messages deep"));
    }
    Repeats repeats;
    while (const uint32_t tag = Tag()) {
      if (++counts_.fields > limits_.max_fields) return TooMany(place, limits_.max_fields, "fields");
      const int number = WireFormatLite::GetTagFieldNumber(tag);
      const FieldDescriptor* field = number > 0 ? type.FindFieldByNumber(number) : nullptr;
      if (field == nullptr) {
        QD_RETURN_IF_ERROR(Unknown(tag, place));
        continue;
      }
      const bool packed = IsPacked(*field, WireFormatLite::GetTagWireType(tag));
      const Place here{&place, field, field->is_repeated() && !packed ? repeats.Next(field) : -1};
      QD_RETURN_IF_ERROR(Field(WireFormatLite::GetTagWireType(tag), here, depth));
    }
    return in_.ConsumedEntireMessage() && !overlong_
               ? absl::OkStatus()
               : Malformed(place, "is not a message of its type: it has a broken field tag");
  }

 private:
  // A field's tag or a length; 0 and false where there is none. protobuf's parser takes five bytes of either at most,
  // its stream more.
  uint32_t Tag() {
    const int at = in_.CurrentPosition();
    const uint32_t tag = in_.ReadTag();
    overlong_ = in_.CurrentPosition() - at > kMaxVarint32Bytes;
    return overlong_ ? 0 : tag;
  }
  bool Size(int& size) {
    const int at = in_.CurrentPosition();
    return in_.ReadVarintSizeAsInt(&size) && in_.CurrentPosition() - at <= kMaxVarint32Bytes;
  }

  absl::Status Field(WireFormatLite::WireType wire, const Place& here, int depth) {
    const FieldDescriptor& field = *here.field;
    const WireFormatLite::WireType own = WireTypeOf(field);
    const bool packed = IsPacked(field, wire);
    if (wire != own && !packed) {
      return Malformed(here, absl::StrCat("has wire type ", static_cast<int>(wire), ", expected ",
                                          static_cast<int>(own), " (", field.type_name(), ")"));
    }
    if (own != WireFormatLite::WIRETYPE_LENGTH_DELIMITED && !packed) {
      if (field.is_repeated()) QD_RETURN_IF_ERROR(CountValues(1, here));
      return SkipNumber(wire, here);
    }
    int size = 0;
    if (!Size(size) || size > in_.BytesUntilLimit()) return Malformed(here, "is cut off");
    if (packed) return Packed(size, own, here);
    QD_RETURN_IF_ERROR(CountPart(here));
    if (field.type() != FieldDescriptor::TYPE_MESSAGE) return Text(size, here);
    const CodedInputStream::Limit outer = in_.PushLimit(size);
    QD_RETURN_IF_ERROR(Message(*field.message_type(), here, depth + 1));
    in_.PopLimit(outer);
    return absl::OkStatus();
  }

  // A field that `place`'s message does not have, as of a client with a later proto: protobuf keeps it.
  absl::Status Unknown(uint32_t tag, const Place& place) {
    const int number = WireFormatLite::GetTagFieldNumber(tag);
    if (number == 0) return Malformed(place, "is not a message of its type: it has a field of number 0");
    QD_RETURN_IF_ERROR(CountPart(place));
    const WireFormatLite::WireType wire = WireFormatLite::GetTagWireType(tag);
    if (wire != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) return SkipNumber(wire, place);
    int size = 0;
    if (!Size(size) || size > in_.BytesUntilLimit() || !in_.Skip(size)) {
      return Malformed(place, absl::StrCat("is cut off in its field of number ", number));
    }
    return absl::OkStatus();
  }

  absl::Status SkipNumber(WireFormatLite::WireType wire, const Place& here) {
    bool ok = false;
    uint64_t ignored;
    switch (wire) {
      case WireFormatLite::WIRETYPE_VARINT:
        ok = in_.ReadVarint64(&ignored);
        break;
      case WireFormatLite::WIRETYPE_FIXED32:
        ok = in_.Skip(4);
        break;
      case WireFormatLite::WIRETYPE_FIXED64:
        ok = in_.Skip(8);
        break;
      default:  // groups, which proto3 has not, and what is no wire type
        return Malformed(here, absl::StrCat("is not a message of its type: it has wire type ", static_cast<int>(wire)));
    }
    return ok ? absl::OkStatus() : Malformed(here, "is cut off");
  }

  absl::Status Text(int size, const Place& here) {
    const std::string_view text = View(size);
    in_.Skip(size);
    if (here.field->type() != FieldDescriptor::TYPE_STRING) return absl::OkStatus();
    if (const std::optional<size_t> at = FindInvalidUtf8(text)) {
      return Malformed(here, absl::StrCat("is not UTF-8 at byte ", *at));
    }
    return absl::OkStatus();
  }

  absl::Status Packed(int size, WireFormatLite::WireType own, const Place& here) {
    const std::string_view bytes = View(size);
    in_.Skip(size);
    int64_t values = 0;
    if (own == WireFormatLite::WIRETYPE_VARINT) {
      int length = 0;
      for (const char c : bytes) {
        if (++length > kMaxVarintBytes) return Malformed(here, "has a number that does not end");
        if ((c & 0x80) == 0) ++values, length = 0;
      }
      if (length != 0) return Malformed(here, "is cut off");
    } else {
      const int width = own == WireFormatLite::WIRETYPE_FIXED32 ? 4 : 8;
      if (size % width != 0) return Malformed(here, "is cut off");
      values = size / width;
    }
    return CountValues(values, here);
  }

  absl::Status CountPart(const Place& here) {
    return ++counts_.parts <= limits_.max_parts ? absl::OkStatus()
                                                : TooMany(here, limits_.max_parts, "messages and strings");
  }
  absl::Status CountValues(int64_t n, const Place& here) {
    counts_.values += n;
    return counts_.values <= limits_.max_values ? absl::OkStatus() : TooMany(here, limits_.max_values, "numbers");
  }

  // The next `size` bytes, which lie before the limit: the stream reads from one array.
  std::string_view View(int size) {
    const void* data = nullptr;
    int available = 0;
    if (size == 0 || !in_.GetDirectBufferPointer(&data, &available)) return {};
    return {static_cast<const char*>(data), static_cast<size_t>(size)};
  }

  const WireLimits limits_;
  CodedInputStream in_;
  bool overlong_ = false;  // the last tag
  WireCounts counts_;
};

}  // namespace

int64_t WireCounts::overhead_bytes() const {
  // The largest message of the API has less than 256 bytes with its place in a repeated field; a number at most 8, in
  // an array that doubles.
  return 256 * (parts + 1) + 16 * values;
}

absl::StatusOr<WireCounts> CheckWire(std::string_view bytes, const Descriptor& type, const WireLimits& limits) {
  WireScan scan(bytes, limits);
  QD_RETURN_IF_ERROR(scan.Message(type, Place(), 1));
  return scan.counts();
}

}  // namespace quantd
