#include "server/inflate.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "base/error.h"

namespace quantd {
namespace {
using ::testing::HasSubstr;

std::string Compress(const std::string& text, Compression kind) {
  z_stream z{};
  EXPECT_EQ(deflateInit2(&z, 9, Z_DEFLATED, kind == Compression::kGzip ? 15 + 16 : 15, 9, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&z, text.size()), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(out.size() - z.avail_out);
  deflateEnd(&z);
  return out;
}

absl::StatusOr<std::string> InflateOne(const std::string& bytes, Compression kind, size_t max_bytes) {
  const std::vector<std::string_view> parts = {bytes};
  return Inflate(parts, kind, max_bytes);
}

std::string Numbers(int n) {
  std::string text;
  for (int i = 0; i < n; ++i) text += std::to_string(i);
  return text;
}

class InflateTest : public ::testing::TestWithParam<Compression> {};
INSTANTIATE_TEST_SUITE_P(Kinds, InflateTest, ::testing::Values(Compression::kGzip, Compression::kDeflate));

TEST_P(InflateTest, GivesBackWhatWasCompressed) {
  for (const std::string& text : {std::string(), std::string("a"), std::string(4096, 'x'), Numbers(20000)}) {
    EXPECT_EQ(*InflateOne(Compress(text, GetParam()), GetParam(), text.size()), text) << text.size();
  }
}

TEST_P(InflateTest, TakesPartsOfAnySize) {
  const std::string text = Numbers(3000), bytes = Compress(text, GetParam());
  for (size_t size : {1, 2, 7, 1000}) {
    std::vector<std::string_view> parts;
    for (size_t at = 0; at < bytes.size(); at += size) parts.push_back(std::string_view(bytes).substr(at, size));
    parts.push_back("");
    EXPECT_EQ(*Inflate(parts, GetParam(), 1 << 20), text) << size;
  }
}

TEST_P(InflateTest, StopsOneByteBeyondItsBound) {
  const std::string bytes = Compress(std::string(100'000, '\0'), GetParam());
  EXPECT_TRUE(InflateOne(bytes, GetParam(), 100'000).ok());
  const absl::Status status = InflateOne(bytes, GetParam(), 99'999).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetReason(status), "LIMIT");
  EXPECT_EQ(status.message(), "the request has more than 99999 bytes when it is decompressed");
}

TEST_P(InflateTest, RefusesEveryCutOffStream) {
  const std::string bytes = Compress(Numbers(500), GetParam());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const absl::Status status = InflateOne(bytes.substr(0, size), GetParam(), 1 << 20).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << size;
    EXPECT_EQ(status.message(), "the compressed request is cut off") << size;
  }
}

TEST_P(InflateTest, RefusesWhatStandsBehindTheEnd) {
  const std::string bytes = Compress("text", GetParam());
  for (const std::string& behind : {std::string("\0", 1), bytes}) {
    EXPECT_EQ(InflateOne(bytes + behind, GetParam(), 1 << 20).status().message(),
              "the compressed request has bytes behind its end");
    const std::vector<std::string_view> parts = {bytes, behind};
    EXPECT_EQ(Inflate(parts, GetParam(), 1 << 20).status().message(),
              "the compressed request has bytes behind its end");
  }
}

TEST_P(InflateTest, RefusesOtherFormatsAndBrokenOnes) {
  const Compression other = GetParam() == Compression::kGzip ? Compression::kDeflate : Compression::kGzip;
  EXPECT_THAT(std::string(InflateOne(Compress("text", other), GetParam(), 100).status().message()),
              HasSubstr("is not"));
  EXPECT_THAT(std::string(InflateOne("plain text, long enough", GetParam(), 100).status().message()),
              HasSubstr("is not"));
  std::string broken = Compress(Numbers(500), GetParam());
  broken[broken.size() - 2] ^= 1;  // in the checksum, or the length
  EXPECT_EQ(InflateOne(broken, GetParam(), 1 << 20).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace quantd
