#include "server/message_gate.h"

#include <algorithm>
#include <vector>

#include <grpcpp/support/proto_buffer_reader.h>

#include "base/check.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "server/inflate.h"
#include "server/wire_check.h"

namespace quantd {
namespace {

// How a message was compressed. gRPC knows it and has no name for it but in its core's struct, which a reader of the
// buffer holds.
class BufferReader final : public grpc::ProtoBufferReader {
 public:
  explicit BufferReader(grpc::ByteBuffer& buffer) : ProtoBufferReader(&buffer) {}
  absl::StatusOr<Compression> compression() {
    if (!status().ok()) return absl::InvalidArgumentError("the request has no message");
    switch (reader()->buffer_in->data.raw.compression) {
      case GRPC_COMPRESS_NONE:
        return Compression::kNone;
      case GRPC_COMPRESS_DEFLATE:
        return Compression::kDeflate;
      case GRPC_COMPRESS_GZIP:
        return Compression::kGzip;
      default:
        return absl::UnimplementedError("the request is compressed in a way that this server does not know");
    }
  }
};

std::string_view View(const grpc::Slice& slice) { return {reinterpret_cast<const char*>(slice.begin()), slice.size()}; }

absl::Status TooLarge(int64_t max_bytes) {
  return WithReason(absl::ResourceExhaustedError(absl::StrCat("the request has more than ", max_bytes, " bytes")),
                    "LIMIT");
}

}  // namespace

MessageGate::Charge::~Charge() {
  if (gate_ != nullptr) gate_->open_bytes_ -= bytes_;
}

absl::StatusOr<MessageGate::Charge> MessageGate::Hold(int64_t bytes) {
  Charge charge(this, bytes);
  if ((open_bytes_ += bytes) <= limits_.max_total_bytes) return charge;
  return WithReason(
      WithRetryAfter(absl::ResourceExhaustedError("too many requests of this size are being read at once"),
                     std::chrono::seconds(1)),
      "OUT_OF_MEMORY");
}

absl::StatusOr<MessageGate::Charge> MessageGate::Open(grpc::ByteBuffer& sent, google::protobuf::Message& message) {
  QD_ASSIGN_OR_RETURN(const Compression compression, BufferReader(sent).compression());
  const auto length = static_cast<int64_t>(sent.Length());
  if (length > limits_.max_bytes) return TooLarge(limits_.max_bytes);
  const int64_t most = compression == Compression::kNone
                           ? length
                           : std::min(limits_.max_bytes, length * static_cast<int64_t>(kMaxDeflateRatio));
  QD_ASSIGN_OR_RETURN(const Charge of_bytes, Hold(length + most));

  std::vector<grpc::Slice> slices;
  if (!sent.Dump(&slices).ok()) return AllocationFailedError();
  sent.Clear();
  std::string flat;
  std::string_view bytes;
  if (compression != Compression::kNone) {
    const std::vector<std::string_view> parts = [&] {
      std::vector<std::string_view> views;
      for (const grpc::Slice& slice : slices) views.push_back(View(slice));
      return views;
    }();
    QD_ASSIGN_OR_RETURN(flat, Inflate(parts, compression, static_cast<size_t>(limits_.max_bytes)));
    bytes = flat;
  } else if (slices.size() == 1) {
    bytes = View(slices[0]);
  } else {
    flat.reserve(static_cast<size_t>(length));
    for (const grpc::Slice& slice : slices) flat.append(View(slice));
    bytes = flat;
    slices.clear();
  }
  QD_ASSIGN_OR_RETURN(const WireCounts counts, CheckWire(bytes, *message.GetDescriptor(), limits_.wire));
  QD_ASSIGN_OR_RETURN(Charge of_message, Hold(static_cast<int64_t>(bytes.size()) + counts.overhead_bytes()));
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return WithReason(
        absl::InvalidArgumentError(absl::StrCat("the request is not a ", message.GetDescriptor()->full_name())),
        "FIELD_INVALID");
  }
  return of_message;
}

const google::protobuf::ServiceDescriptor& ServiceIn(const google::protobuf::Descriptor* any_message_of_the_file,
                                                     const char* name) {
  const google::protobuf::ServiceDescriptor* service = any_message_of_the_file->file()->FindServiceByName(name);
  QD_CHECK(service != nullptr);
  return *service;
}

}  // namespace quantd
