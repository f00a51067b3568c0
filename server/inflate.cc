#include "server/inflate.h"

#include <algorithm>

#include <zlib.h>

#include "base/allocation_failure.h"
#include "base/check.h"
#include "base/error.h"
#include "base/strings.h"

namespace quantd {
namespace {

class Inflater {
 public:
  explicit Inflater(Compression kind) {
    QD_CHECK(kind != Compression::kNone);
    constexpr int kGzipAlone = 16;
    ok_ = inflateInit2(&stream_, kind == Compression::kGzip ? MAX_WBITS + kGzipAlone : MAX_WBITS) == Z_OK;
  }
  ~Inflater() {
    if (ok_) inflateEnd(&stream_);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  bool ok() const { return ok_; }
  z_stream& stream() { return stream_; }

 private:
  z_stream stream_{};
  bool ok_ = false;
};

absl::Status Malformed(std::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("the compressed request ", ToAbsl(why)));
}

}  // namespace

absl::StatusOr<std::string> Inflate(std::span<const std::string_view> parts, Compression kind, size_t max_bytes) {
  Inflater inflater(kind);
  if (!inflater.ok()) return AllocationFailedError();
  z_stream& z = inflater.stream();
  std::string out;
  size_t made = 0;  // bytes of `out` that are data
  bool ended = false;
  for (const std::string_view part : parts) {
    if (part.empty()) continue;
    if (ended) return Malformed("has bytes behind its end");
    // zlib reads through a pointer that is not const, and does not write.
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(part.data()));
    z.avail_in = static_cast<uInt>(part.size());
    do {
      // One byte more than there may be: it shows that there are too many.
      if (made == out.size()) out.resize(std::min(max_bytes + 1, std::max<size_t>(2 * out.size(), 4096)));
      z.next_out = reinterpret_cast<Bytef*>(out.data() + made);
      z.avail_out = static_cast<uInt>(out.size() - made);
      const int result = inflate(&z, Z_NO_FLUSH);
      made = out.size() - z.avail_out;
      if (made > max_bytes) {
        return WithReason(absl::ResourceExhaustedError(
                              absl::StrCat("the request has more than ", max_bytes, " bytes when it is decompressed")),
                          "LIMIT");
      }
      ended = result == Z_STREAM_END;
      if (result == Z_MEM_ERROR) return AllocationFailedError();
      if (!ended && result != Z_OK && result != Z_BUF_ERROR) {
        return Malformed(kind == Compression::kGzip ? "is not gzip" : "is not deflate");
      }
    } while (!ended && (z.avail_in > 0 || z.avail_out == 0));
    if (z.avail_in > 0) return Malformed("has bytes behind its end");
  }
  if (!ended) return Malformed("is cut off");
  out.resize(made);
  return out;
}

}  // namespace quantd
