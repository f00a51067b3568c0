// The small parts of the edge: frames, the server's side of a connection, buckets, addresses, descriptors, the heap.
#include <arpa/inet.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/edge/address.h"
#include "server/edge/descriptors.h"
#include "server/edge/heap_trim.h"
#include "server/edge/http2_frame.h"
#include "server/edge/peer_table.h"
#include "server/edge/replacement.h"
#include "server/edge/reply_frames.h"
#include "server/edge/token_bucket.h"
#include "tests/server/edge/http2_client.h"

namespace quantd {
namespace {
using quantd::testing::Bytes;
using quantd::testing::Data;
using quantd::testing::Frame;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;

const TimePoint kStart = TimePoint() + std::chrono::hours(1);

TEST(TokenBucketTest, GivesItsBurstAndThenItsRate) {
  TokenBucket bucket({10, 5});
  EXPECT_TRUE(bucket.Has(10, kStart));
  bucket.Take(10);
  EXPECT_FALSE(bucket.Has(1, kStart));
  const TimePoint when = bucket.When(1, kStart);
  EXPECT_GE(when, kStart + milliseconds(200));
  EXPECT_LT(when, kStart + milliseconds(201));
  EXPECT_TRUE(bucket.Has(1, when));
  EXPECT_FALSE(bucket.IsFull(kStart + seconds(1)));
  EXPECT_TRUE(bucket.IsFull(kStart + seconds(2)));
  bucket.Give(100);
  EXPECT_FALSE(bucket.Has(11, kStart + seconds(2))) << "never more than the burst";
}

TEST(Http2FrameTest, OurFramesAreWhatTheRfcSays) {
  const std::string goaway = GoAwayFrame(7, kEnhanceYourCalm, "why");
  const FrameHeader header = ParseFrameHeader(Bytes(goaway));
  EXPECT_EQ(header.type, kGoAway);
  EXPECT_EQ(header.length, 8u + 3u);
  EXPECT_EQ(header.stream, 0u);
  EXPECT_EQ(goaway.substr(kFrameHeaderBytes), std::string("\0\0\0\7\0\0\0\x0bwhy", 11));
  EXPECT_EQ(RstStreamFrame(5, kCancel), std::string("\0\0\4\3\0\0\0\0\5\0\0\0\x08", 13));
  EXPECT_EQ(EmptySettingsFrame(), std::string("\0\0\0\4\0\0\0\0\0", 9));
  // Literals with new names (0), of lengths in seven bits; over 126 an integer of RFC 7541, 5.1 goes on.
  const std::string trailers = TrailersOnlyFrame(3, 8, std::string(130, 'm'));
  EXPECT_EQ(trailers[3], kHeaders);
  EXPECT_EQ(trailers[4], kEndHeaders | kEndStream);
  EXPECT_EQ(trailers.substr(kFrameHeaderBytes, 1), "\x88");
  EXPECT_NE(trailers.find(std::string("\0\x0bgrpc-status\1"
                                      "8",
                                      15)),
            std::string::npos);
  EXPECT_NE(trailers.find(std::string("\0\x0cgrpc-message\x7f\x03mmm", 19)), std::string::npos);
}

// Wherever the bytes are split the same frames are seen, and the places between them are known.
TEST(ReplyFramesTest, FollowsFramesThroughAnySplit) {
  const std::string bytes = Frame(kSettings, 0, 0) + Frame(kHeaders, kEndHeaders, 1, "abc") + Data(1, "0123456789");
  const size_t first = 9, second = first + 12;
  for (size_t split = 0; split <= bytes.size(); ++split) {
    ReplyFrames frames;
    std::vector<int> types;
    const auto see = [&](const FrameHeader& f) { types.push_back(f.type); };
    const size_t boundary = frames.Pass(Bytes(std::string_view(bytes).substr(0, split)), see);
    const size_t expected = split == bytes.size() ? split : split >= second ? second : split >= first ? first : 0;
    EXPECT_EQ(boundary, expected) << split;
    EXPECT_EQ(frames.at_boundary(), boundary == split) << split;
    frames.Pass(Bytes(std::string_view(bytes).substr(split)), see);
    EXPECT_TRUE(frames.at_boundary());
    EXPECT_THAT(types, ElementsAre(kSettings, kHeaders, kData)) << split;
  }
}

// Who makes room: state -> decision.
TEST(ReplacementTest, TakesThePlaceThatIsLeastMissed) {
  using Candidate = Replacement::Candidate;
  const auto ago = [](double s) { return kStart - FromSeconds(s); };
  const auto best = [](int newcomers, const std::vector<Candidate>& candidates) {
    Replacement replacement(newcomers, seconds(10), kStart);
    for (const Candidate& c : candidates) replacement.Offer(c);
    return replacement.best();
  };
  EXPECT_EQ(best(0, {}), 0u);
  EXPECT_EQ(best(0, {{1, false, ago(1), 1}, {2, false, ago(2), 1}}), 2u) << "idle for longest";
  EXPECT_EQ(best(0, {{1, false, ago(1), 2}, {2, false, ago(2), 1}}), 1u) << "of the address with the most";
  EXPECT_EQ(best(0, {{1, false, ago(0), 1}, {2, true, ago(99), 9}}), 1u) << "idle ones before those with calls";
  EXPECT_EQ(best(9, {{1, true, ago(9), 10}, {2, true, ago(11), 1}}), 2u) << "whose calls stood still for long";
  EXPECT_EQ(best(9, {{1, true, ago(9), 10}, {2, true, ago(9), 19}}), 0u);
  EXPECT_EQ(best(9, {{1, true, ago(9), 10}, {2, true, ago(1), 20}}), 2u) << "or less long, of a far larger address";
  EXPECT_EQ(best(0, {{1, true, ago(0.5), 4000}}), 0u) << "but not while they move";
}

sockaddr_storage Address(int family, const char* text) {
  sockaddr_storage address{};
  address.ss_family = static_cast<sa_family_t>(family);
  void* ip = family == AF_INET ? static_cast<void*>(&reinterpret_cast<sockaddr_in&>(address).sin_addr)
                               : &reinterpret_cast<sockaddr_in6&>(address).sin6_addr;
  EXPECT_EQ(inet_pton(family, text, ip), 1);
  return address;
}

TEST(PeerTableTest, AnAddressIsOnePeerAndSoAreTheFirst64BitsOfIpv6) {
  const PeerKey a = KeyOf(Address(AF_INET, "10.0.0.1"));
  EXPECT_NE(a, KeyOf(Address(AF_INET, "10.0.0.2")));
  EXPECT_EQ(a, KeyOf(Address(AF_INET6, "::ffff:10.0.0.1")));
  EXPECT_EQ(KeyOf(Address(AF_INET6, "2001:db8::1")), KeyOf(Address(AF_INET6, "2001:db8::2:3:4:5")));
  EXPECT_NE(KeyOf(Address(AF_INET6, "2001:db8::1")), KeyOf(Address(AF_INET6, "2001:db8:0:1::1")));
  sockaddr_storage local{};
  local.ss_family = AF_UNIX;
  EXPECT_NE(KeyOf(local), KeyOf(Address(AF_INET6, "::1")));
  EXPECT_EQ(DescribePeer(local), "unix");
  EXPECT_EQ(DescribePeer(Address(AF_INET6, "::1")), "[::1]:0");
}

// Whoever leaves with an empty bucket finds it empty again; whoever took nothing is forgotten.
TEST(PeerTableTest, RemembersWhatWasUsedUp) {
  PeerTable table;
  const PeerKey a = KeyOf(Address(AF_INET, "10.0.0.1")), b = KeyOf(Address(AF_INET, "10.0.0.2"));
  Peer& peer = table.Enter(a, kStart);
  ASSERT_TRUE(peer.budget.resets.Has(8000, kStart));
  peer.budget.resets.Take(8000);
  table.Enter(b, kStart);
  table.Leave(a, kStart);
  table.Leave(b, kStart);
  EXPECT_EQ(table.size(), 1u);
  EXPECT_EQ(table.connections(a), 0);
  EXPECT_FALSE(table.Enter(a, kStart).budget.resets.Has(1, kStart));
}

TEST(PeerTableTest, IsBounded) {
  PeerTable table;
  for (uint32_t i = 0; i < 5 * PeerTable::kMaxIdle; ++i) {
    PeerKey key{};
    std::memcpy(key.data(), &i, sizeof i);
    Peer& peer = table.Enter(key, kStart);
    ASSERT_TRUE(peer.budget.resets.Has(1, kStart));
    peer.budget.resets.Take(1);
    table.Leave(key, kStart);
    ASSERT_LE(table.size(), PeerTable::kMaxIdle + 1);
  }
}

TEST(AddressTest, SaysWhoCanReachIt) {
  for (const char* host : {"127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"}) {
    EXPECT_TRUE(IsLoopback({host, 1})) << host;
  }
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "127.example.com", "example.com"}) {
    EXPECT_FALSE(IsLoopback({host, 1})) << host;
  }
  EXPECT_TRUE(IsLoopback({"", 0, "/run/s"}));
  EXPECT_EQ(ToString(HostPort{"", 0, "/run/s"}), "unix:/run/s");
  EXPECT_EQ(ToString(HostPort{"", 0, "@s"}), "unix-abstract:s");
  EXPECT_EQ(ToString(HostPort{"::1", 80}), "[::1]:80");
}

TEST(DescriptorsTest, AreSharedOutSoThatEveryoneHasSome) {
  for (int64_t limit : {64, 100, 256, 1024, 4096, 20'000, 1 << 20}) {
    const auto plan = PlanDescriptors(limit, 4096, 512);
    ASSERT_TRUE(plan.ok());
    EXPECT_GE(plan->connections, 5) << limit;
    EXPECT_GE(plan->metrics_connections, 3) << limit;
    EXPECT_LE(3 * plan->connections + plan->metrics_connections + 40, limit);
  }
  EXPECT_EQ(PlanDescriptors(1 << 20, 4096, 512)->connections, 4096);
  EXPECT_EQ(PlanDescriptors(63, 4096, 512).status().code(), absl::StatusCode::kResourceExhausted);
  const Descriptors now = CountDescriptors();
  EXPECT_GT(now.open, 2);
  EXPECT_GT(now.limit, now.open);
}

TEST(TrimPolicyTest, TrimsWhatWasFreedAndWhatWasUsedAgain) {
  constexpr int64_t kMi = 1 << 20;
  TrimPolicy policy;
  EXPECT_FALSE(policy.ShouldTrim({31 * kMi, 500 * kMi}, kStart));
  EXPECT_TRUE(policy.ShouldTrim({33 * kMi, 500 * kMi}, kStart));
  policy.OnTrimmed({33 * kMi, 470 * kMi}, milliseconds(100), kStart);
  EXPECT_FALSE(policy.ShouldTrim({33 * kMi, 470 * kMi}, kStart + seconds(60))) << "what is given back counts as free";
  EXPECT_FALSE(policy.ShouldTrim({33 * kMi, 495 * kMi}, kStart + seconds(60)));
  EXPECT_TRUE(policy.ShouldTrim({70 * kMi, 470 * kMi}, kStart + seconds(60))) << "freed since then";
  EXPECT_TRUE(policy.ShouldTrim({33 * kMi, 503 * kMi}, kStart + seconds(60))) << "taken, touched, and freed";
  EXPECT_FALSE(policy.ShouldTrim({900 * kMi, 900 * kMi}, kStart + seconds(4))) << "a fiftieth of the time at most";
}

}  // namespace
}  // namespace quantd
