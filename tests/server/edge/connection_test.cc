// One connection over socket pairs, with the test as its client and as gRPC, and at times of the test's choice.
#include "server/edge/connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/edge/http2_client.h"
#include "tests/server/edge/socket.h"

namespace quantd {
namespace {
using quantd::testing::Call;
using quantd::testing::Data;
using quantd::testing::Frame;
using quantd::testing::Headers;
using quantd::testing::Preface;
using quantd::testing::Socket;
using std::chrono::milliseconds;
using std::chrono::seconds;

class ConnectionTest : public ::testing::Test {
 protected:
  ConnectionTest() {
    int client[2], server[2];
    constexpr int kType = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    EXPECT_EQ(socketpair(AF_UNIX, kType, 0, client), 0);
    EXPECT_EQ(socketpair(AF_UNIX, kType, 0, server), 0);
    client_ = Socket(client[0]);
    server_ = Socket(server[0]);
    connection_ = std::make_unique<Connection>(client[1], Connection::Origin{}, limits_, peer_, stats_, now_);
    client_.Send(Preface());
    connection_->OnClientReadable(scratch_, now_);
    EXPECT_TRUE(connection_->wants_server());
    connection_->GiveServer(server[1], now_);
    EXPECT_EQ(server_.Read(Preface().size()), Preface());
    Answer(Frame(kSettings, 0, 0));
    EXPECT_EQ(client_.ReadFrame(), Frame(kSettings, 0, 0));
  }

  void Ask(const std::string& bytes) {
    client_.Send(bytes);
    connection_->OnClientReadable(scratch_, now_);
  }
  void Answer(const std::string& bytes) {
    server_.Send(bytes);
    connection_->OnServerReadable(scratch_, now_);
  }
  // gRPC's answers, frame after frame, until the client's socket takes no more of them.
  std::string AnswerUntilHeldUp(uint32_t stream) {
    std::string all;
    while (connection_->interest().server_readable) {
      all += Data(stream, std::string(16'000, 'd'));
      Answer(Data(stream, std::string(16'000, 'd')));
    }
    return all;
  }
  void Turn() {
    if (connection_->interest().client_writable) connection_->OnClientWritable(now_);
    if (connection_->interest().server_readable) connection_->OnServerReadable(scratch_, now_);
    connection_->Tick(now_, Connection::kPatience);
  }

  EdgeLimits limits_;
  Peer peer_;
  EdgeStats stats_;
  TimePoint now_ = TimePoint() + std::chrono::hours(1);
  std::vector<uint8_t> scratch_ = std::vector<uint8_t>(Connection::kReadBytes);
  Socket client_, server_;
  std::unique_ptr<Connection> connection_;
};

// A slow reader of the last answer, whose other call was refused for its metadata: 30 s for some 200 KiB are slow.
TEST_F(ConnectionTest, ALeavingConnectionWaitsForAClientThatTakesItsAnswerSlowly) {
  Ask(Call(1));
  Ask(Headers(3, 0, kMaxFrameBytes));
  for (int i = 0; i < 8; ++i) Ask(Frame(kContinuation, 0, 3, std::string(kMaxFrameBytes, 'c')));
  Ask(Frame(kContinuation, kEndHeaders, 3, "end"));
  ASSERT_TRUE(connection_->guard().leaving());
  for (int i = 0; i < 3; ++i) client_.ReadFrame();  // the refusal
  std::string expected = AnswerUntilHeldUp(1) + Data(1, "the end", kEndStream);
  server_.Send(Data(1, "the end", kEndStream));
  std::string got;
  while (got.size() < expected.size()) {
    EXPECT_FALSE(connection_->idle());
    EXPECT_FALSE(connection_->settled());
    got += client_.Read(std::min<size_t>(expected.size() - got.size(), 8000));
    now_ += seconds(1);
    Turn();
    ASSERT_FALSE(connection_->dead()) << got.size() << " of " << expected.size();
  }
  EXPECT_EQ(got, expected);
  EXPECT_TRUE(connection_->settled());
  EXPECT_EQ(stats_.streams, 0);
}

TEST_F(ConnectionTest, WhoTakesNothingOfWhatItIsOwedLosesItInTheEnd) {
  Ask(Call(1));
  AnswerUntilHeldUp(1);
  server_.Close();
  client_.Read(100'000);
  for (int i = 0; i < 10; ++i) Turn();  // gRPC's end is seen
  now_ += Connection::kPatience - milliseconds(1);
  Turn();
  EXPECT_FALSE(connection_->dead());
  client_.Read(100'000);
  for (int i = 0; i < 3; ++i) Turn();
  now_ += Connection::kPatience - milliseconds(1);
  Turn();
  EXPECT_FALSE(connection_->dead()) << "it took something meanwhile";
  now_ += milliseconds(1);
  Turn();
  EXPECT_TRUE(connection_->dead());
}

// The daemon stops: what was begun to be said is said, and nobody waits for who does not listen.
TEST_F(ConnectionTest, ThePatienceIsTheCallersWhereItIsLess) {
  Ask(Call(1));
  AnswerUntilHeldUp(1);
  connection_->CutOff(Cut::kReplaced, now_);
  connection_->Tick(now_, milliseconds(500));
  connection_->Tick(now_ + milliseconds(499), milliseconds(500));
  EXPECT_FALSE(connection_->dead());
  connection_->Tick(now_ + milliseconds(500), milliseconds(500));
  EXPECT_TRUE(connection_->dead());
}

TEST_F(ConnectionTest, WhoIsCutGetsLittleTimeToHearIt) {
  Ask(Call(1));
  AnswerUntilHeldUp(1);
  Ask(Frame(kPushPromise, 0, 1, "1234"));
  Turn();
  now_ += Connection::kLinger;
  Turn();
  EXPECT_TRUE(connection_->dead());
}

// Each call beyond a bound is answered by the edge itself, which needs room where nobody reads.
TEST_F(ConnectionTest, WhoDoesNotReadRefusalsIsNotRead) {
  limits_.max_open_streams = 2;
  std::string calls;
  for (uint32_t i = 0; connection_->interest().client_readable; ++i) {
    ASSERT_LT(i, 100'000u);
    client_.Send(Headers(1 + 2 * i));
    now_ += milliseconds(1);
    connection_->OnClientReadable(scratch_, now_);
    server_.ReadNow();
  }
  EXPECT_LE(stats_.sending_bytes, 3 * static_cast<int64_t>(Connection::kReadBytes));
  client_.ReadNow();
  while (connection_->interest().client_writable) {
    connection_->OnClientWritable(now_);
    client_.ReadNow();
  }
  EXPECT_EQ(stats_.sending_bytes, 0);
  EXPECT_TRUE(connection_->interest().client_readable);
}

TEST_F(ConnectionTest, ConnectionsThatEndLeaveNothingInTheAccounts) {
  Ask(Headers(1) + Data(1, "unfinished").substr(0, 12));
  AnswerUntilHeldUp(1);
  EXPECT_GT(stats_.sending_bytes, 0);
  EXPECT_GT(stats_.receiving_bytes, 0);
  EXPECT_EQ(stats_.streams, 1);
  connection_.reset();
  EXPECT_EQ(stats_.sending_bytes, 0);
  EXPECT_EQ(stats_.receiving_bytes, 0);
  EXPECT_EQ(stats_.streams, 0);
}

}  // namespace
}  // namespace quantd
