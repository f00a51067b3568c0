// The edge over real sockets, with the test as its clients and as gRPC.
#include "server/edge/edge.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <deque>
#include <filesystem>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/mutex.h"
#include "server/edge/connection.h"
#include "tests/server/edge/http2_client.h"
#include "tests/server/edge/socket.h"
#include "tests/testing/temp_dir.h"

namespace quantd {
namespace {
using quantd::testing::Call;
using quantd::testing::Data;
using quantd::testing::Frame;
using quantd::testing::Headers;
using quantd::testing::Message;
using quantd::testing::Ping;
using quantd::testing::Preface;
using quantd::testing::Prefix;
using quantd::testing::Reset;
using quantd::testing::Socket;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// What the edge hands over.
class FakeGrpc {
 public:
  void Take(int fd) {
    MutexLock lock(mutex_);
    taken_.emplace_back(fd);
    changed_.NotifyAll();
  }
  Socket Next() {
    MutexLock lock(mutex_);
    while (taken_.empty()) {
      if (!changed_.WaitUntil(mutex_, Now() + seconds(60))) return Socket();
    }
    Socket next = std::move(taken_.front());
    taken_.pop_front();
    return next;
  }
  bool empty() {
    MutexLock lock(mutex_);
    return taken_.empty();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::deque<Socket> taken_ QD_GUARDED_BY(mutex_);
};

class EdgeTest : public ::testing::Test {
 protected:
  void Start(const HostPort& address = {"127.0.0.1", 0}) {
    auto edge = Edge::Listen(address, limits_);
    ASSERT_TRUE(edge.ok()) << edge.status();
    edge_ = *std::move(edge);
    edge_->Start([this](int fd) { grpc_.Take(fd); });
  }
  Socket Connect() const {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(edge_->address().port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return Socket(fd);
  }
  // A client and what gRPC has of it, after their greetings.
  std::pair<Socket, Socket> Pair() {
    Socket client = Connect();
    client.Send(Preface());
    Socket server = grpc_.Next();
    EXPECT_EQ(server.Read(Preface().size()), Preface());
    server.Send(Frame(kSettings, 0, 0));
    EXPECT_EQ(client.ReadFrame(), Frame(kSettings, 0, 0));
    return {std::move(client), std::move(server)};
  }
  // Blocks until the edge has seen a whole frame of the client: its acknowledgement of nothing.
  static void Pass(const Socket& client, const Socket& server) {
    client.Send(Ping());
    EXPECT_EQ(server.ReadFrame(), Ping());
    server.Send(Ping(kAck));
    EXPECT_EQ(client.ReadFrame(), Ping(kAck));
  }
  // Sends until the edge takes nothing more of it, though it has had many turns.
  static std::string SendUntilHeldUp(const Socket& from, const std::string& frame, const Socket& other_client,
                                     const Socket& other_server) {
    int turns = 0;
    return from.SendUntil(frame, [&] {
      Pass(other_client, other_server);
      return ++turns > 100;
    });
  }
  // Newcomers, of which the first that is not refused leaves its place again. `meanwhile` is done between them.
  void ConnectUntilOneIsReplaced(const std::function<void()>& meanwhile = [] {}) {
    const int64_t before = CutCount(Cut::kReplaced);
    while (CutCount(Cut::kReplaced) == before) {
      meanwhile();
      const int64_t refused = RefusedCount();
      Socket newcomer = Connect();
      while (CutCount(Cut::kReplaced) == before && RefusedCount() == refused) std::this_thread::yield();
    }
    while (edge_->stats().connections >= limits_.max_connections) std::this_thread::yield();
  }
  int64_t RefusedCount() const {
    int64_t all = 0;
    for (const EdgeStats::Count& count : edge_->stats().refused) all += count;
    return all;
  }
  int64_t CutCount(Cut cut) const { return edge_->stats().cut[static_cast<size_t>(cut)]; }

  EdgeLimits limits_;
  FakeGrpc grpc_;  // gone after the edge
  std::unique_ptr<Edge> edge_;
};

TEST_F(EdgeTest, PassesBothWaysOnceTheClientSpeaksHttp2) {
  Start();
  Socket client = Connect();
  client.Send(Preface().substr(0, 30));
  Socket other = Connect();  // accepted after the first, so that the first was seen
  other.Send(Preface());
  Socket server = grpc_.Next();
  EXPECT_EQ(server.Read(Preface().size()), Preface());
  EXPECT_TRUE(grpc_.empty()) << "half a greeting is nothing for gRPC";
  client.Send(Preface().substr(30) + Headers(1));
  server = grpc_.Next();
  EXPECT_EQ(server.Read(Preface().size() + Headers(1).size()), Preface() + Headers(1));
  server.Send(Frame(kSettings, 0, 0) + Data(1, "hello"));
  EXPECT_EQ(client.ReadFrame(), Frame(kSettings, 0, 0));
  EXPECT_EQ(client.ReadFrame(), Data(1, "hello"));
  EXPECT_EQ(edge_->stats().accepted, 2);
  EXPECT_EQ(edge_->stats().connections, 2);
}

TEST_F(EdgeTest, AnEndOfEitherSideReachesTheOther) {
  Start();
  auto [client, server] = Pair();
  client.Send(Headers(1));
  client.Close();  // gRPC is to cancel what it does for nobody
  EXPECT_EQ(server.ReadAll(), Headers(1));

  auto [second, second_server] = Pair();
  second_server.Send(Data(1, "what was still to be said"));
  second_server.Close();
  EXPECT_EQ(second.ReadAll(), Data(1, "what was still to be said"));
}

// Its machine does not reset the connection when it is asked whether it reads still.
TEST_F(EdgeTest, WhoHasOnlyShutDownItsSendingSideGetsItsAnswers) {
  Start();
  auto [client, server] = Pair();
  client.Send(Call(1) + Call(3));
  shutdown(client.fd(), SHUT_WR);
  EXPECT_EQ(server.Read(2 * Call(1).size()), Call(1) + Call(3));
  EXPECT_EQ(client.ReadFrame(), PingFrame("leaving?"));
  server.Send(Data(3, "the second", kEndStream) + Data(1, "the fir"));
  EXPECT_EQ(client.Read(2 * 9 + 17), Data(3, "the second", kEndStream) + Data(1, "the fir"));
  const std::string last = Data(1, "st", kEndStream);
  server.Send(last.substr(0, 10));
  EXPECT_EQ(client.Read(10), last.substr(0, 10)) << "half a frame is no end";
  server.Send(last.substr(10));
  EXPECT_EQ(client.ReadToCleanEnd(), last.substr(10));
  EXPECT_EQ(server.ReadAll(), "");
}

TEST_F(EdgeTest, AnHalfClosedClientThatIsPacedGetsItsAnswersToo) {
  Start();
  auto [client, server] = Pair();
  std::string sent;
  for (uint32_t i = 0; i < 300; ++i) sent += Headers(1 + 2 * i) + Reset(1 + 2 * i);
  sent += Call(1001);
  client.Send(sent);
  shutdown(client.fd(), SHUT_WR);
  EXPECT_EQ(server.Read(sent.size()), sent);
  EXPECT_GE(edge_->stats().paced[static_cast<size_t>(Pace::kResets)], 1);
  server.Send(Data(1001, "the answer", kEndStream));
  EXPECT_THAT(client.ReadToCleanEnd(), EndsWith(Data(1001, "the answer", kEndStream)));
}

// Its request waits with the edge: nobody is to be kept waiting by those who have left.
TEST_F(EdgeTest, WhoLeavesWhileItIsPacedIsGone) {
  Start();
  auto [good, good_server] = Pair();
  auto [client, server] = Pair();
  std::string flood;
  for (uint32_t i = 0; i < 2000; ++i) flood += Headers(1 + 2 * i) + Reset(1 + 2 * i);
  client.Send(flood);
  client.Close();
  server.ReadAll();
  while (edge_->stats().connections > 1) Pass(good, good_server);
  EXPECT_EQ(edge_->stats().receiving_bytes, 0);
}

TEST_F(EdgeTest, SilentConnectionsAreClosed) {
  limits_.handshake_timeout = milliseconds(20);
  Start();
  Socket silent = Connect(), slow = Connect();
  slow.Send(Preface().substr(0, 10));
  EXPECT_EQ(silent.ReadFrame(), Frame(kSettings, 0, 0));
  EXPECT_THAT(silent.ReadAll(), EndsWith("handshake_timeout"));
  EXPECT_THAT(slow.ReadAll(), EndsWith("handshake_timeout"));
  EXPECT_EQ(CutCount(Cut::kHandshakeTimeout), 2);
  EXPECT_TRUE(grpc_.empty());
}

TEST_F(EdgeTest, AFrameThatStopsHalfwayEndsItsConnectionAlone) {
  limits_.handshake_timeout = milliseconds(20);
  Start();
  auto [client, server] = Pair();
  auto [good, good_server] = Pair();
  client.Send(Headers(1).substr(0, 20));
  EXPECT_THAT(client.ReadAll(), EndsWith("frame_timeout"));
  EXPECT_EQ(server.ReadAll(), "") << "nothing of a frame that is not whole";
  Pass(good, good_server);
}

TEST_F(EdgeTest, WhoSpeaksHttp1IsToldWhatThisIs) {
  Start();
  Socket curl = Connect(), tls = Connect();
  curl.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string answer = curl.ReadAll();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 Bad Request\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\n\r\n{\"code\": \"unimplemented\", \"message\": \"this port speaks gRPC: "));
  tls.Send(std::string("\x16\x03\x01\x02\0\1", 6));
  EXPECT_EQ(tls.ReadAll(), "");
  EXPECT_TRUE(grpc_.empty());
}

TEST_F(EdgeTest, ACutConnectionHearsWhyAndItsNeighbourGoesOn) {
  Start();
  auto [client, server] = Pair();
  auto [good, good_server] = Pair();
  client.Send(Headers(1) + Frame(kPushPromise, 0, 1, "1234"));
  EXPECT_EQ(client.ReadAll(), GoAwayFrame(1, kProtocolError, "protocol"));
  server.ReadAll();  // ends
  EXPECT_EQ(CutCount(Cut::kProtocol), 1);
  EXPECT_EQ(edge_->stats().streams, 0);
  Pass(good, good_server);
}

// gRPC 1.51 ends all calls of a connection on which one has too much metadata.
TEST_F(EdgeTest, TooMuchMetadataEndsItsCallAloneAndTheConnectionAfterTheOthers) {
  Start();
  auto [client, server] = Pair();
  client.Send(Call(1));
  EXPECT_EQ(server.Read(Call(1).size()), Call(1));
  client.Send(Headers(3, 0, kMaxFrameBytes));
  for (int i = 0; i < 20; ++i) client.Send(Frame(kContinuation, 0, 3, std::string(kMaxFrameBytes, 'c')));
  client.Send(Frame(kContinuation, kEndHeaders, 3, "end") + Data(3, Message("y"), kEndStream));
  EXPECT_THAT(client.ReadFrame(), HasSubstr("the metadata of the call has more than 128 KiB"));
  EXPECT_EQ(client.ReadFrame(), RstStreamFrame(3, kNoError));
  EXPECT_EQ(client.ReadFrame(), GoAwayFrame(3, kNoError, "header_block"));
  EXPECT_EQ(client.ReadFrame(), WindowUpdateFrame(static_cast<uint32_t>(Message("y").size())));
  Pass(client, server);  // nothing of the call came to gRPC
  server.Send(Data(1, "the answer", kEndStream));
  EXPECT_EQ(client.ReadFrame(), Data(1, "the answer", kEndStream));
  EXPECT_EQ(client.ReadAll(), "") << "it ends when its last call has";
  EXPECT_EQ(server.ReadAll(), "");
}

// The last frame of the last call is not the end before all of it has gone by.
TEST_F(EdgeTest, ALeavingConnectionGivesTheLastAnswerWhole) {
  Start();
  auto [client, server] = Pair();
  auto [good, good_server] = Pair();
  client.Send(Call(1));
  EXPECT_EQ(server.Read(Call(1).size()), Call(1));
  client.Send(Headers(3, 0, kMaxFrameBytes));
  for (int i = 0; i < 8; ++i) client.Send(Frame(kContinuation, 0, 3, std::string(kMaxFrameBytes, 'c')));
  client.Send(Frame(kContinuation, kEndHeaders, 3, "end"));
  EXPECT_THAT(client.ReadFrame(), HasSubstr("the metadata of the call has more than 128 KiB"));
  EXPECT_EQ(client.ReadFrame(), RstStreamFrame(3, kNoError));
  EXPECT_EQ(client.ReadFrame(), GoAwayFrame(3, kNoError, "header_block"));
  const std::string answer = Data(1, std::string(kMaxFrameBytes, 'a'), kEndStream);
  server.Send(answer.substr(0, 5000));
  EXPECT_EQ(client.Read(5000), answer.substr(0, 5000));
  Pass(good, good_server);
  server.Send(answer.substr(5000));
  EXPECT_EQ(client.ReadToCleanEnd(), answer.substr(5000));
}

// Nobody is locked out by those who only connect.
TEST_F(EdgeTest, ANewcomerTakesThePlaceOfWhoWasIdleForLongest) {
  limits_.max_connections = 4;
  limits_.max_connections_per_peer = 4;
  Start();
  auto [busy, busy_server] = Pair();
  busy.Send(Headers(1));
  EXPECT_EQ(busy_server.ReadFrame(), Headers(1));
  auto [oldest, oldest_server] = Pair();
  auto [younger, younger_server] = Pair();
  Socket silent = Connect();
  auto [newcomer, newcomer_server] = Pair();
  EXPECT_EQ(oldest.ReadAll(), GoAwayFrame(0, kNoError, "replaced"));
  std::vector<std::pair<Socket, Socket>> more;
  for (int i = 0; i < 6; ++i) more.push_back(Pair());
  Pass(busy, busy_server);
  EXPECT_EQ(edge_->stats().connections, 4);
  EXPECT_EQ(edge_->stats().refused[static_cast<size_t>(Refusal::kLimit)], 0);
}

TEST_F(EdgeTest, WhereAllHaveCallsANewcomerIsRefused) {
  limits_.max_connections = 4;
  limits_.max_connections_per_peer = 2;
  Start();
  std::vector<std::pair<Socket, Socket>> busy;
  for (int i = 0; i < 2; ++i) {
    busy.push_back(Pair());
    busy[i].first.Send(Headers(1));
    EXPECT_EQ(busy[i].second.ReadFrame(), Headers(1));
  }
  Socket refused = Connect();
  refused.Send(Preface() + Call(1));  // which nobody reads, and which resets no connection
  EXPECT_THAT(refused.ReadToCleanEnd(), EndsWith("too many connections"));
  EXPECT_EQ(edge_->stats().refused[static_cast<size_t>(Refusal::kPeerLimit)], 1);
  busy[0].first.Send(Reset(1));  // now it is idle
  EXPECT_EQ(busy[0].second.ReadFrame(), Reset(1));
  Pair();
}

// As a watch does, or an answer that its client does not read.
TEST_F(EdgeTest, CallsThatStandStillMakeRoomOnceTheyHaveForLong) {
  limits_.max_connections = limits_.max_connections_per_peer = 3;
  limits_.quiet_time = milliseconds(50);
  Start();
  auto [watch, watch_server] = Pair();
  watch.Send(Call(1));
  EXPECT_EQ(watch_server.Read(Call(1).size()), Call(1));
  watch_server.Send(Data(1, Message("state")));
  EXPECT_EQ(watch.ReadFrame(), Data(1, Message("state")));
  auto [half, half_server] = Pair();
  half.Send(Headers(1) + Data(1, Prefix(100)));
  EXPECT_EQ(half_server.Read(Headers(1).size() + 14), Headers(1) + Data(1, Prefix(100)));
  auto [busy, busy_server] = Pair();
  busy.Send(Call(1));  // its answer is being computed, however long that takes
  EXPECT_EQ(busy_server.Read(Call(1).size()), Call(1));
  ConnectUntilOneIsReplaced();
  EXPECT_THAT(watch.ReadToCleanEnd(), EndsWith(GoAwayFrame(1, kNoError, "replaced")));
  auto [busy2, busy2_server] = Pair();
  busy2.Send(Call(1));
  EXPECT_EQ(busy2_server.Read(Call(1).size()), Call(1));
  ConnectUntilOneIsReplaced();
  EXPECT_THAT(half.ReadToCleanEnd(), EndsWith(GoAwayFrame(1, kNoError, "replaced")));
  Pass(busy, busy_server);
  Pass(busy2, busy2_server);
}

TEST_F(EdgeTest, CallsThatAreAnsweredKeepTheirPlaceBesideThoseThatStandStill) {
  limits_.max_connections = limits_.max_connections_per_peer = 2;
  limits_.quiet_time = milliseconds(20);
  Start();
  auto [stream, stream_server] = Pair();
  stream.Send(Call(1));
  EXPECT_EQ(stream_server.Read(Call(1).size()), Call(1));
  stream_server.Send(Data(1, "token"));
  EXPECT_EQ(stream.ReadFrame(), Data(1, "token"));
  std::vector<std::pair<Socket, Socket>> watches;
  for (int i = 0; i < 3; ++i) {
    if (i > 0) {
      ConnectUntilOneIsReplaced([&] {
        stream_server.Send(Data(1, "token"));
        EXPECT_EQ(stream.ReadFrame(), Data(1, "token"));
      });
    }
    watches.push_back(Pair());
    watches.back().first.Send(Call(1));
    EXPECT_EQ(watches.back().second.Read(Call(1).size()), Call(1));
    watches.back().second.Send(Data(1, Message("state")));
    EXPECT_EQ(watches.back().first.ReadFrame(), Data(1, Message("state")));
  }
  Pass(stream, stream_server);
}

// A reader that stops holds up its own connection, with a bounded number of bytes on the way, and loses none of them.
TEST_F(EdgeTest, ASlowReaderHoldsUpItsServerAndGetsEveryByte) {
  Start();
  auto [client, server] = Pair();
  auto [good, good_server] = Pair();
  const std::string sent = SendUntilHeldUp(server, Data(1, std::string(16'000, 'd')), good, good_server);
  EXPECT_LT(sent.size(), 16u << 20);
  EXPECT_GT(edge_->stats().sending_bytes, 0) << "it is counted";
  EXPECT_LE(edge_->stats().sending_bytes, static_cast<int64_t>(Connection::kReadBytes));
  EXPECT_EQ(client.Read(sent.size()), sent);
  Pass(good, good_server);
  EXPECT_EQ(edge_->stats().sending_bytes, 0);
}

// Of all connections the edge holds no more than its budget and a little of each.
TEST_F(EdgeTest, ManySlowReadersShareABudget) {
  limits_.send_budget = 100'000;
  Start();
  auto [good, good_server] = Pair();
  constexpr int kReaders = 10;
  std::vector<std::pair<Socket, Socket>> pairs;
  std::vector<std::string> sent;
  for (int i = 0; i < kReaders; ++i) {
    pairs.push_back(Pair());
    sent.push_back(SendUntilHeldUp(pairs.back().second, Data(1, std::string(16'000, 'd')), good, good_server));
  }
  EXPECT_LE(edge_->stats().sending_bytes, 100'000 + static_cast<int64_t>(Connection::kReadBytes) +
                                              kReaders * static_cast<int64_t>(Connection::kScarceReadBytes));
  for (int i = 0; i < kReaders; ++i) EXPECT_EQ(pairs[i].first.Read(sent[i].size()), sent[i]) << i;
  Pass(good, good_server);
  EXPECT_EQ(edge_->stats().sending_bytes, 0);
}

// A server that does not read stops the client, whose bytes the edge does not collect.
TEST_F(EdgeTest, AServerThatDoesNotReadHoldsUpItsClient) {
  Start();
  auto [client, server] = Pair();
  auto [good, good_server] = Pair();
  client.Send(Headers(1));
  const std::string frame = Data(1, std::string(16'000, 'd'));
  const std::string sent = SendUntilHeldUp(client, frame, good, good_server);
  EXPECT_LT(sent.size(), 32u << 20);
  EXPECT_GT(edge_->stats().receiving_bytes, kStreamBytes) << "it is counted";
  const std::string expected = Headers(1) + sent.substr(0, sent.size() - sent.size() % frame.size());
  EXPECT_EQ(server.Read(expected.size()), expected);
}

// What waits with the edge, of clients that are paced, counts as what is received; who waits for longest goes.
TEST_F(EdgeTest, WhatPacedClientsHaveSentIsCountedAndBounded) {
  limits_.receive_budget = 400'000;
  Start();
  std::string flood;
  for (uint32_t i = 0; i < 1000; ++i) flood += Headers(1 + 2 * i) + Reset(1 + 2 * i);
  std::vector<std::pair<Socket, Socket>> paced;
  while (CutCount(Cut::kReceiveBudget) == 0) {
    ASSERT_LT(paced.size(), 40u);
    paced.push_back(Pair());
    paced.back().first.Send(flood);
  }
  auto [good, good_server] = Pair();
  Pass(good, good_server);
  EXPECT_LE(edge_->stats().receiving_bytes, 400'000 + static_cast<int64_t>(Connection::kReadBytes));
  EXPECT_GT(paced.size(), 5u);
}

TEST_F(EdgeTest, AMessageThatIsNotWholeInTimeEndsItsCallAlone) {
  limits_.receive_timeout = milliseconds(20);
  Start();
  auto [client, server] = Pair();
  client.Send(Headers(1) + Data(1, Prefix(100)) + Headers(3) + Data(3, Message("whole")));
  const std::string sent = Headers(1) + Data(1, Prefix(100)) + Headers(3) + Data(3, Message("whole"));
  EXPECT_EQ(server.Read(sent.size()), sent);
  EXPECT_EQ(server.ReadFrame(), RstStreamFrame(1, kCancel));
  const std::string trailers = client.ReadFrame();
  EXPECT_EQ(trailers[3], kHeaders);
  EXPECT_THAT(trailers, HasSubstr("the message of the request was not whole in time"));
  EXPECT_EQ(client.ReadFrame(), RstStreamFrame(1, kNoError));
  EXPECT_EQ(edge_->stats().streams_reset[static_cast<size_t>(StreamReset::kReceiveTimeout)], 1);
  Pass(client, server);
  EXPECT_EQ(edge_->stats().streams, 1);
}

TEST_F(EdgeTest, OverTheBudgetTheOldestUnfinishedMessagesEnd) {
  limits_.receive_budget = 1 << 20;
  Start();
  auto [attacker, attacker_server] = Pair();
  auto [good, good_server] = Pair();
  const std::string part = Data(1, std::string(16'000, 'x'));
  std::string sent = Headers(1) + Data(1, Prefix(16 << 20));
  for (int i = 0; i < 40; ++i) sent += part;
  attacker.Send(sent);
  EXPECT_EQ(attacker_server.Read(sent.size()), sent);
  Pass(attacker, attacker_server);  // the edge has counted them
  EXPECT_GE(edge_->stats().receiving_bytes, 640'000);
  std::string upload = Headers(1) + Data(1, Prefix(600'000));
  for (int i = 0; i < 37; ++i) upload += part;
  good.Send(upload);
  EXPECT_EQ(good_server.Read(upload.size()), upload) << "who uploads now goes on";
  EXPECT_EQ(attacker_server.ReadFrame(), RstStreamFrame(1, kCancel));
  EXPECT_THAT(attacker.ReadFrame(), HasSubstr("too many unfinished requests"));
  EXPECT_LE(edge_->stats().receiving_bytes, 1 << 20);
}

TEST_F(EdgeTest, TooManyOpenStreamsRefuseTheNewestAlone) {
  limits_.max_open_streams = 6;  // of one address: 3
  Start();
  auto [client, server] = Pair();
  std::string calls;
  for (uint32_t i = 0; i < 4; ++i) calls += Headers(1 + 2 * i);
  client.Send(calls);
  EXPECT_EQ(server.Read(calls.size()), calls);
  EXPECT_EQ(server.ReadFrame(), RstStreamFrame(7, kCancel));
  EXPECT_THAT(client.ReadFrame(), HasSubstr("too many calls are open"));
  EXPECT_EQ(client.ReadFrame(), RstStreamFrame(7, kNoError));
  client.Send(Reset(1) + Headers(9));
  EXPECT_EQ(server.Read(Reset(1).size() + Headers(9).size()), Reset(1) + Headers(9));
  Pass(client, server);
}

// What the edge says stands between two frames of gRPC, however gRPC's bytes are cut.
TEST_F(EdgeTest, OurFramesStandBetweenTwoOfGrpc) {
  limits_.max_open_streams = 2;
  Start();
  auto [client, server] = Pair();
  const std::string answer = Data(1, std::string(1000, 'a'));
  server.Send(answer.substr(0, 500));
  EXPECT_EQ(client.Read(500), answer.substr(0, 500));
  client.Send(Headers(1) + Headers(3));
  EXPECT_EQ(server.Read(2 * Headers(1).size()), Headers(1) + Headers(3));
  EXPECT_EQ(server.ReadFrame(), RstStreamFrame(3, kCancel));
  server.Send(answer.substr(500));
  EXPECT_EQ(client.Read(answer.size() - 500), answer.substr(500));
  EXPECT_THAT(client.ReadFrame(), HasSubstr("too many calls are open"));
  EXPECT_EQ(client.ReadFrame(), RstStreamFrame(3, kNoError));
}

// A flood of resets is held up, in its own socket, while the neighbour's calls pass.
TEST_F(EdgeTest, RapidResetDoesNotReachGrpcBeyondItsBurst) {
  Start();
  auto [good, good_server] = Pair();
  auto [client, server] = Pair();
  const std::string call = Headers(1) + Reset(1);
  std::string flood;
  for (uint32_t i = 0; i < 2000; ++i) flood += Headers(1 + 2 * i) + Reset(1 + 2 * i);
  client.Send(flood);
  const auto burst = static_cast<size_t>(Http2Guard::kResetPace.burst);
  EXPECT_EQ(server.Read(burst * call.size()), flood.substr(0, burst * call.size()));
  const TimePoint begin = Now();
  for (int i = 0; i < 10; ++i) Pass(good, good_server);
  std::string more(flood.size(), '\0');
  const ssize_t n = recv(server.fd(), more.data(), more.size(), MSG_DONTWAIT);
  const double rate = Http2Guard::kResetPace.per_second;
  EXPECT_LE(static_cast<double>(n), (50 + 2 * rate * ToSeconds(Now() - begin)) * static_cast<double>(call.size()));
  EXPECT_GE(edge_->stats().paced[static_cast<size_t>(Pace::kResets)], 1);
}

// Debian's gRPC never accepts again once descriptors ran out (CVE-2023-4785).
TEST_F(EdgeTest, AcceptsAgainAfterDescriptorsRanOut) {
  Start();
  auto [busy, busy_server] = Pair();
  busy.Send(Headers(1));
  EXPECT_EQ(busy_server.ReadFrame(), Headers(1));
  std::vector<Socket> clients;
  for (int i = 0; i < 4; ++i) clients.push_back(Socket(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{static_cast<rlim_t>(clients.back().fd() + 1), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  std::vector<Socket> fillers;
  for (int fd; (fd = open("/dev/null", O_RDONLY)) >= 0;) fillers.emplace_back(fd);
  EXPECT_FALSE(edge_->Answers()) << "readiness tells the truth";
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(edge_->address().port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (Socket& c : clients) {
    ASSERT_EQ(connect(c.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    c.ReadAll();  // closed: there was no descriptor for it
  }
  EXPECT_GE(edge_->stats().refused[static_cast<size_t>(Refusal::kDescriptors)], 4);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  fillers.clear();
  auto [next, next_server] = Pair();
  Pass(next, next_server);
  Pass(busy, busy_server);
}

TEST_F(EdgeTest, ItKnowsWhetherItAnswers) {
  limits_.max_connections = 2;
  limits_.max_connections_per_peer = 1;
  Start();
  auto [busy, busy_server] = Pair();
  busy.Send(Headers(1));
  EXPECT_EQ(busy_server.ReadFrame(), Headers(1));
  std::thread grpc([this] {
    Socket server = grpc_.Next();
    server.Send(Frame(kSettings, 0, 0, std::string(6, '\0')));
    server.ReadAll();
  });
  EXPECT_TRUE(edge_->Answers()) << "no bound of a single address holds for it";
  grpc.join();
  EXPECT_EQ(edge_->stats().accepted, 1) << "nor is it counted";
  EXPECT_TRUE(edge_->Answers()) << "an answer stands for a moment: nobody answers for gRPC now";
}

TEST_F(EdgeTest, ItDoesNotAnswerWhereGrpcDoesNot) {
  Start();
  EXPECT_FALSE(edge_->Answers());
}

TEST_F(EdgeTest, StoppingCutsWhoTakesNothingAndGivesTheOthersTheirRest) {
  Start();
  auto [stalled, stalled_server] = Pair();
  stalled.Send(Headers(1));
  EXPECT_EQ(stalled_server.ReadFrame(), Headers(1));
  stalled_server.Send(Data(1, "begins"));
  EXPECT_EQ(stalled.ReadFrame(), Data(1, "begins"));
  auto [waiting, waiting_server] = Pair();
  waiting.Send(Headers(1));  // its answer has not begun: it may be computed still
  EXPECT_EQ(waiting_server.ReadFrame(), Headers(1));
  edge_->StopAccepting(milliseconds(10));
  EXPECT_EQ(stalled.ReadAll(), GoAwayFrame(1, kNoError, "stalled"));
  Pass(waiting, waiting_server);
  waiting_server.Send(Data(1, "late", kEndStream));
  waiting_server.Close();
  edge_->Stop(seconds(60));
  EXPECT_EQ(waiting.ReadAll(), Data(1, "late", kEndStream));
  EXPECT_EQ(edge_->stats().connections, 0);
}

TEST_F(EdgeTest, StopsWhileClientsAreConnected) {
  Start();
  Socket silent = Connect();
  auto [client, server] = Pair();
  edge_->Stop(milliseconds(1));
  EXPECT_EQ(client.ReadAll(), "");
}

Socket ConnectUnix(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return Socket(fd);
}

TEST_F(EdgeTest, AUnixSocketIsServedAndRemoved) {
  const testing::TempDir files;
  const std::string path = files.path() + "/socket";
  Start({"", 0, path});
  Socket client = ConnectUnix(path);
  client.Send(Preface());
  EXPECT_EQ(grpc_.Next().Read(Preface().size()), Preface());
  edge_.reset();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(EdgeTest, AnAbstractUnixSocketIsServed) {
  Start({"", 0, "@quantd-test-" + std::to_string(getpid())});
  EXPECT_EQ(Edge::Listen(edge_->address(), limits_).status().code(), absl::StatusCode::kUnavailable);
}

TEST(ListenTest, AStaleUnixSocketIsReplacedALiveOneAndAFileAreNot) {
  const testing::TempDir files;
  const HostPort address{"", 0, files.path() + "/socket"};
  {
    const int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);  // bound and closed, as by a killed daemon
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    address.unix_path.copy(name.sun_path, sizeof name.sun_path - 1);
    ASSERT_EQ(bind(dead, reinterpret_cast<const sockaddr*>(&name), sizeof name), 0);
    close(dead);
  }
  auto first = Edge::Listen(address, {});
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status second = Edge::Listen(address, {}).status();
  EXPECT_EQ(GetReason(second), "BIND_FAILED");
  EXPECT_EQ(second.message(), "cannot listen on unix:" + address.unix_path + ": Address already in use");
  EXPECT_TRUE(std::filesystem::exists(address.unix_path)) << "it is the first one's";

  const HostPort file{"", 0, files.Write("file", "precious")};
  EXPECT_THAT(std::string(Edge::Listen(file, {}).status().message()), EndsWith(": what stands there is no socket"));
  EXPECT_TRUE(std::filesystem::exists(file.unix_path));
  EXPECT_EQ(GetReason(Edge::Listen({"", 0, files.path() + "/none/socket"}, {}).status()), "BIND_FAILED");
}

TEST(ListenTest, ATakenPortAndAnUnknownHostAreErrors) {
  auto first = Edge::Listen({"127.0.0.1", 0}, {});
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status second = Edge::Listen((*first)->address(), {}).status();
  EXPECT_EQ(GetReason(second), "BIND_FAILED");
  EXPECT_THAT(std::string(second.message()), EndsWith(": Address already in use"));
  EXPECT_EQ(GetReason(Edge::Listen({"no.such.host.invalid", 1}, {}).status()), "BIND_FAILED");
  EXPECT_EQ(GetReason(Edge::Listen({"192.0.2.1", 0}, {}).status()), "BIND_FAILED") << "not an address of this machine";
  for (const char* host : {"localhost", "0.0.0.0"}) EXPECT_TRUE(Edge::Listen({host, 0}, {}).ok()) << host;
}

}  // namespace
}  // namespace quantd
