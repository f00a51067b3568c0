#include "server/edge/http2_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/edge/http2_client.h"

namespace quantd {
namespace {
using quantd::testing::Bytes;
using quantd::testing::Call;
using quantd::testing::Data;
using quantd::testing::Frame;
using quantd::testing::Headers;
using quantd::testing::Message;
using quantd::testing::Ping;
using quantd::testing::Preface;
using quantd::testing::Prefix;
using quantd::testing::Reset;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Step = Http2Guard::Step;

class Http2GuardTest : public ::testing::Test {
 protected:
  // What the guard makes of `bytes`, with what it kept of those before: how many are let pass, and the last step.
  Step Send(std::string_view bytes) {
    kept_.append(bytes);
    for (;;) {
      const Step step = guard_.Next(Bytes(kept_), now_);
      if (step.what != Step::kForward && step.what != Step::kDrop) return step;
      if (step.what == Step::kForward) passed_ += kept_.substr(0, step.bytes);
      if (step.refused != 0) refused_.push_back(step.refused);
      window_ += step.window;
      kept_.erase(0, step.bytes);
    }
  }
  // The same, where each wait is waited for.
  Step SendPatiently(std::string_view bytes) {
    Step step = Send(bytes);
    while (step.what == Step::kWait) {
      EXPECT_GT(step.until, now_) << "a wait ends";
      now_ = step.until;
      step = Send("");
    }
    return step;
  }
  void ExpectCut(std::string_view bytes, Cut cut) {
    const Step step = Send(bytes);
    ASSERT_EQ(step.what, Step::kCut);
    EXPECT_EQ(Name(step.cut), Name(cut));
  }
  void ExpectPassed(std::string_view bytes) {
    EXPECT_EQ(Send(bytes).what, Step::kNeedMore);
    EXPECT_EQ(kept_, "");
  }
  void Answer(uint32_t stream, int flags = 0) {
    guard_.OnServerFrame({.length = 10, .type = kHeaders, .flags = static_cast<uint8_t>(flags), .stream = stream},
                         now_);
  }

  EdgeLimits limits_;
  PeerBudget peer_;
  Http2Guard guard_{limits_, peer_};
  TimePoint now_ = TimePoint() + std::chrono::hours(1);
  std::string kept_, passed_;
  std::vector<uint32_t> refused_;
  uint32_t window_ = 0;  // given back
};

// The same decision wherever the bytes are split, and nothing of a frame before all of it is there.
TEST_F(Http2GuardTest, ACallPassesInPiecesOfAnySize) {
  const std::string call = Preface() + Headers(1, 0) + Frame(kContinuation, kEndHeaders, 1, "more") +
                           Data(1, Message("hello"), kEndStream) + Ping() + Frame(kWindowUpdate, 0, 0, "1234");
  for (size_t split = 0; split <= call.size(); ++split) {
    PeerBudget peer;
    Http2Guard guard(limits_, peer);
    size_t passed = 0;
    for (const size_t end : {split, call.size()}) {
      for (;;) {
        const Step step = guard.Next(Bytes(std::string_view(call).substr(passed, end - passed)), now_);
        if (step.what != Step::kForward) {
          ASSERT_EQ(step.what, Step::kNeedMore) << split;
          break;
        }
        passed += step.bytes;
        ASSERT_LE(passed, end);
      }
    }
    EXPECT_EQ(passed, call.size()) << split;
    EXPECT_EQ(guard.open_streams(), 1u);
    EXPECT_EQ(guard.receiving_bytes(), 0);
  }
}

TEST_F(Http2GuardTest, ByteByByteIsTheSameAsAtOnce) {
  const std::string call = Preface() + Headers(1) + Data(1, Message("hello").substr(0, 7)) + Headers(3) + Reset(3);
  for (char c : call) EXPECT_EQ(Send(std::string(1, c)).what, Step::kNeedMore);
  EXPECT_EQ(passed_, call);
  EXPECT_TRUE(guard_.greeted());
  EXPECT_EQ(guard_.receiving_bytes(), 7 + Http2Guard::kSmallDataOverhead + kStreamBytes);
  EXPECT_EQ(guard_.last_stream(), 3u);
}

TEST_F(Http2GuardTest, WhatIsNoPrefaceIsCutAtItsFirstWrongByte) {
  ExpectCut("G", Cut::kNotHttp2);
  Http2Guard other(limits_, peer_);
  EXPECT_EQ(other.Next(Bytes("PRI * HTTP/2.0\r\n\r\nXX"), now_).what, Step::kCut);
  Http2Guard tls(limits_, peer_);
  EXPECT_EQ(tls.Next(Bytes("\x16\x03\x01"), now_).what, Step::kCut);
}

TEST_F(Http2GuardTest, FramesThatMayNotStandWhereTheyStandAreCut) {
  struct Case {
    std::string bytes;
    Cut cut;
  };
  const std::string big(kMaxFrameBytes + 1, 'x');
  const std::vector<Case> cases = {
      {Data(0, "x"), Cut::kProtocol},
      {Headers(0), Cut::kProtocol},
      {Headers(2), Cut::kProtocol},
      {Frame(kContinuation, 0, 1), Cut::kProtocol},
      {Headers(1, 0) + Data(1, "x"), Cut::kProtocol},
      {Headers(1, 0) + Ping(), Cut::kProtocol},
      {Headers(1, 0) + Frame(kContinuation, 0, 3), Cut::kProtocol},
      {Frame(kPushPromise, 0, 1, "1234"), Cut::kProtocol},
      {Frame(kRstStream, 0, 0, "1234"), Cut::kProtocol},
      {Frame(kRstStream, 0, 1, "123"), Cut::kFrameSize},
      {Frame(kPing, 0, 0, "1234567"), Cut::kFrameSize},
      {Frame(kPing, 0, 1, "12345678"), Cut::kProtocol},
      {Frame(kSettings, 0, 1), Cut::kProtocol},
      {Frame(kSettings, 0, 0, "12345"), Cut::kFrameSize},
      {Frame(kSettings, kAck, 0, "123456"), Cut::kFrameSize},
      {Frame(kWindowUpdate, 0, 0, "123"), Cut::kFrameSize},
      {Headers(1) + Data(1, "\x05hell", kPadded), Cut::kProtocol},
      {Headers(1) + Data(1, "", kPadded), Cut::kProtocol},
      {Frame(kData, 0, 1, big).substr(0, kFrameHeaderBytes), Cut::kFrameSize},
      {std::string("\xff\xff\xff\x63\0\0\0\0\1", 9), Cut::kFrameSize},
  };
  for (const Case& c : cases) {
    PeerBudget peer;
    Http2Guard guard(limits_, peer);
    std::string bytes = Preface() + c.bytes;
    Step step = guard.Next(Bytes(bytes), now_);
    while (step.what == Step::kForward) {
      bytes.erase(0, step.bytes);
      step = guard.Next(Bytes(bytes), now_);
    }
    ASSERT_EQ(step.what, Step::kCut) << ::testing::PrintToString(c.bytes);
    EXPECT_EQ(Name(step.cut), Name(c.cut)) << ::testing::PrintToString(c.bytes);
  }
}

TEST_F(Http2GuardTest, TheFirstFrameMustBeSettings) {
  ExpectPassed(kHttp2Preface);
  EXPECT_FALSE(guard_.greeted());
  ExpectCut(Headers(1), Cut::kProtocol);
}

// 16 MiB of header cost gRPC 11 s: of a block over 128 KiB gRPC sees nothing, and the calls beside it go on.
TEST_F(Http2GuardTest, ACallWithTooLargeAHeaderBlockIsRefusedAlone) {
  const std::string before = Preface() + Headers(1) + Data(1, Prefix(100));
  ExpectPassed(before);
  EXPECT_EQ(Send(Headers(3, 0, kMaxFrameBytes)).what, Step::kNeedMore);
  std::string part = Frame(kContinuation, 0, 3, std::string(kMaxFrameBytes, 'c'));
  for (int i = 1; i < 8; ++i) EXPECT_EQ(Send(part).what, Step::kNeedMore);
  EXPECT_THAT(refused_, IsEmpty()) << "128 KiB are taken";
  EXPECT_EQ(Send(Frame(kContinuation, 0, 3, "c").substr(0, kFrameHeaderBytes)).what, Step::kNeedMore);
  EXPECT_THAT(refused_, ElementsAre(3));
  ExpectPassed("c");
  for (int i = 0; i < 100; ++i) ExpectPassed(part);
  ExpectPassed(Frame(kContinuation, kEndHeaders, 3, "end"));
  EXPECT_TRUE(guard_.leaving());
  // What it begins later cannot be understood any more, what is open can.
  ExpectPassed(Data(3, "body") + Headers(5) + Data(5, Message("new")) + Reset(3));
  EXPECT_EQ(window_, 4 + Message("new").size());
  ExpectPassed(Data(1, std::string(100, 'x'), kEndStream) + Ping());
  EXPECT_EQ(passed_, before + Data(1, std::string(100, 'x'), kEndStream) + Ping());
  EXPECT_THAT(refused_, ElementsAre(3));
  EXPECT_EQ(guard_.open_streams(), 1u);
}

TEST_F(Http2GuardTest, AnEndlessHeaderBlockIsCut) {
  ExpectPassed(Preface());
  EXPECT_EQ(Send(Headers(1, 0)).what, Step::kNeedMore);
  const std::string part = Frame(kContinuation, 0, 1, std::string(kMaxFrameBytes, 'c'));
  Step step;
  size_t frames = 0;
  while ((step = Send(part)).what == Step::kNeedMore) ASSERT_LE(++frames, 1000u);
  EXPECT_EQ(Name(step.cut), Name(Cut::kHeaderBlock));
  EXPECT_EQ(passed_, Preface());
}

TEST_F(Http2GuardTest, EmptyContinuationsAreRefusedThenCut) {
  ExpectPassed(Preface());
  EXPECT_EQ(Send(Headers(1, 0)).what, Step::kNeedMore);
  Step step;
  int frames = 0;
  while ((step = Send(Frame(kContinuation, 0, 1))).what == Step::kNeedMore) {
    EXPECT_EQ(refused_.size(), ++frames > Http2Guard::kMaxContinuations ? 1u : 0u);
    ASSERT_LE(frames, 10'000);
  }
  EXPECT_EQ(Name(step.cut), Name(Cut::kHeaderBlock));
  EXPECT_EQ(passed_, Preface());
}

TEST_F(Http2GuardTest, LargeHeadersCountAsReceived) {
  ExpectPassed(Preface());
  EXPECT_EQ(Send(Headers(1, 0, kMaxFrameBytes)).what, Step::kNeedMore);
  EXPECT_EQ(passed_, Preface()) << "nothing is passed before it is whole";
  ExpectPassed(Frame(kContinuation, kEndHeaders, 1, std::string(10'000, 'c')));
  EXPECT_EQ(guard_.receiving_bytes(), kStreamBytes + 10'000);
  ExpectPassed(Data(1, Message("whole"), kEndStream));
  EXPECT_EQ(guard_.receiving_bytes(), 10'000) << "until the stream ends";
}

TEST_F(Http2GuardTest, HeaderBytesArePaced) {
  ExpectPassed(Preface());
  Step step;
  uint32_t stream = 1;
  const TimePoint begin = now_;
  int64_t bytes = 0;
  for (; now_ < begin + seconds(1); stream += 2) {
    step = SendPatiently(Headers(stream, kEndHeaders | kEndStream, 10'000));
    ASSERT_EQ(step.what, Step::kNeedMore);
    Answer(stream, kEndStream);
    bytes += 10'000;
  }
  const auto rate = Http2Guard::kHeaderByteRate;
  EXPECT_LE(static_cast<double>(bytes), rate.burst + rate.per_second * 1.1);
}

// Streams that are answered and end are what a server is for: 5,000 of them a second on one connection do not wait.
TEST_F(Http2GuardTest, ShortCallsPassWithoutAWait) {
  ExpectPassed(Preface());
  for (uint32_t i = 0; i < 20'000; ++i) {
    const uint32_t stream = 1 + 2 * i;
    ExpectPassed(Headers(stream, kEndHeaders, 80) + Data(stream, Message("a request"), kEndStream));
    guard_.OnServerFrame({10, kHeaders, kEndHeaders, stream}, now_);
    guard_.OnServerFrame({100, kData, 0, stream}, now_);
    guard_.OnServerFrame({20, kHeaders, kEndStream, stream}, now_);
    ExpectPassed(Frame(kWindowUpdate, 0, 0, "1234") + Ping());
    guard_.OnServerFrame({8, kPing, kAck, 0}, now_);
    now_ += std::chrono::microseconds(200);
  }
  EXPECT_EQ(guard_.open_streams(), 0u);
}

TEST_F(Http2GuardTest, AStormOfThreeThousandCancelsIsPacedAndPasses) {
  ExpectPassed(Preface());
  const TimePoint begin = now_;
  for (uint32_t i = 0; i < 3000; ++i) {
    const uint32_t stream = 1 + 2 * i;
    ASSERT_EQ(SendPatiently(Headers(stream) + Data(stream, Message("x"), kEndStream) + Reset(stream)).what,
              Step::kNeedMore);
  }
  EXPECT_LT(now_ - begin, seconds(7));
  EXPECT_EQ(passed_.size(), Preface().size() + 3000 * (Headers(1) + Data(1, Message("x")) + Reset(1)).size());
}

// As grpcio sends them: each with a window for its stream and most with one for the connection.
TEST_F(Http2GuardTest, AStormOfThreeThousandUnaryCancelsPassesToo) {
  ExpectPassed(Preface());
  for (uint32_t i = 0; i < 3000; ++i) {
    const uint32_t stream = 1 + 2 * i;
    ASSERT_EQ(SendPatiently(Headers(stream) + Frame(kWindowUpdate, 0, stream, "1234") +
                            Frame(kWindowUpdate, 0, 0, "1234") + Data(stream, Message("x"), kEndStream) + Reset(stream))
                  .what,
              Step::kNeedMore)
        << i;
  }
}

// gRPC keeps some 46 bytes of a message that nobody has read yet, whatever is in it.
TEST_F(Http2GuardTest, EmptyMessagesOfAStreamCountForWhatTheyTake) {
  ExpectPassed(Preface() + Headers(1) + Data(1, Message("")));
  const int64_t before = guard_.receiving_bytes();
  for (int i = 0; i < 100; ++i) ExpectPassed(Data(1, Message("")));
  EXPECT_GE(guard_.receiving_bytes() - before, 100 * 64);
}

// A call that had a part of its answer has been paced by it: giving it up is free.
TEST_F(Http2GuardTest, CancelsOfAnsweredCallsAreNotPaced) {
  ExpectPassed(Preface());
  for (uint32_t i = 0; i < 20'000; ++i) {
    ExpectPassed(Headers(1 + 2 * i) + Data(1 + 2 * i, Message("x"), kEndStream));
    Answer(1 + 2 * i);
    ExpectPassed(Reset(1 + 2 * i));
    now_ += std::chrono::microseconds(200);
  }
}

TEST_F(Http2GuardTest, RapidResetIsPacedThenCut) {
  ExpectPassed(Preface());
  Step step;
  uint32_t resets = 0;
  bool paced = false;
  for (; step.what != Step::kCut; ++resets) {
    step = Send(Headers(1 + 2 * resets) + Reset(1 + 2 * resets));
    if (step.what == Step::kWait) {
      paced = true;
      EXPECT_GE(resets, Http2Guard::kResetPace.burst);
      step = SendPatiently("");
    }
    ASSERT_LT(resets, 10'000u);
  }
  EXPECT_TRUE(paced);
  EXPECT_EQ(Name(step.cut), Name(Cut::kResets));
  EXPECT_GE(resets, Http2Guard::kResetRate.burst);
}

// Who is cut and comes again begins where it was: the address is remembered.
TEST_F(Http2GuardTest, NewConnectionsOfAnAddressShareItsResets) {
  int connections = 0;
  int64_t resets = 0;
  for (; connections < 100; ++connections) {
    Http2Guard guard(limits_, peer_);
    std::string bytes = Preface();
    for (uint32_t i = 0; i < 5000; ++i) bytes += Headers(1 + 2 * i) + Reset(1 + 2 * i);
    std::string_view left = bytes;
    Step step;
    while ((step = guard.Next(Bytes(left), now_)).what == Step::kForward) {
      if (static_cast<uint8_t>(left[3]) == kRstStream) ++resets;
      left.remove_prefix(step.bytes);
    }
    ASSERT_NE(step.what, Step::kNeedMore);  // it waits, as whoever floods does not
  }
  EXPECT_EQ(resets, 512) << "the burst of PeerBudget::resets_pace, for all 100";
}

TEST_F(Http2GuardTest, ControlFramesWithoutAReasonAreCut) {
  const std::vector<std::string> floods = {Frame(kWindowUpdate, 0, 0, "1234"),
                                           Frame(kPriority, 0, 1, "12345"),
                                           Frame(kSettings, kAck, 0),
                                           Frame(99, 0, 0, "unknown"),
                                           Ping(kAck),
                                           Reset(1),
                                           Data(1, ""),
                                           Frame(kGoAway, 0, 0, "12345678")};
  for (const std::string& flood : floods) {
    PeerBudget peer;
    Http2Guard guard(limits_, peer);
    std::string first = Preface();
    size_t passed = 0;
    Step step = guard.Next(Bytes(first), now_);
    guard.Next(Bytes(std::string_view(first).substr(step.bytes)), now_);
    while ((step = guard.Next(Bytes(flood), now_)).what == Step::kForward) ASSERT_LE(++passed, 2000u);
    ASSERT_EQ(step.what, Step::kCut);
    EXPECT_EQ(Name(step.cut), Name(Cut::kControlFrames)) << ::testing::PrintToString(flood);
  }
}

// A client with a buffer of its own writes what it likes into a frame.
TEST_F(Http2GuardTest, ALargeMessageInSmallFramesPassesAtAPace) {
  ExpectPassed(Preface() + Headers(1) + Data(1, Prefix(10'000'000)));
  const TimePoint begin = now_;
  for (int i = 0; i < 20'000; ++i) ASSERT_EQ(SendPatiently(Data(1, std::string(500, 'x'))).what, Step::kNeedMore) << i;
  EXPECT_LT(now_ - begin, seconds(1));
  EXPECT_GT(now_ - begin, milliseconds(500));
  EXPECT_THAT(guard_.Late(now_), IsEmpty());
  EXPECT_EQ(guard_.receiving_bytes(), 0);
}

// In frames of one byte it would cost gRPC 32 times its size, which is counted.
TEST_F(Http2GuardTest, TinyFramesCountForWhatTheyTake) {
  ExpectPassed(Preface() + Headers(1) + Data(1, Prefix(16 << 20)));
  const int64_t before = guard_.receiving_bytes();
  for (int i = 0; i < 10'000; ++i) ASSERT_EQ(SendPatiently(Data(1, "x")).what, Step::kNeedMore);
  EXPECT_EQ(guard_.receiving_bytes() - before, 10'000 * 33);
}

TEST_F(Http2GuardTest, ConnectionsOfAnAddressShareAPaceOfSmallFrames) {
  int64_t frames = 0;
  for (int connections = 0; connections < 10; ++connections) {
    Http2Guard guard(limits_, peer_);
    std::string bytes = Preface() + Headers(1);
    for (int i = 0; i < 5000; ++i) bytes += Data(1, "x");
    std::string_view left = bytes;
    Step step;
    while ((step = guard.Next(Bytes(left), now_)).what == Step::kForward) {
      if (left[3] == kData) ++frames;
      left.remove_prefix(step.bytes);
    }
    ASSERT_EQ(step.what, Step::kWait);
    EXPECT_EQ(Name(step.pace), Name(Pace::kSmallData));
  }
  EXPECT_EQ(frames, 8192) << "the burst of PeerBudget::small_data";
}

// Each costs gRPC as much as one that computes nothing; and nothing else holds back who opens connection after
// connection of them.
TEST_F(Http2GuardTest, CallsThatFailAtOnceArePacedForTheirAddress) {
  ExpectPassed(Preface());
  const TimePoint begin = now_;
  for (uint32_t i = 0; i < 10'000; ++i) {
    ASSERT_EQ(SendPatiently(Call(1 + 2 * i)).what, Step::kNeedMore);
    Answer(1 + 2 * i, kEndStream);
  }
  EXPECT_GT(now_ - begin, seconds(15));
  Http2Guard other(limits_, peer_);
  std::string bytes = Preface() + Call(1);
  Step step;
  while ((step = other.Next(Bytes(bytes), now_)).what == Step::kForward) bytes.erase(0, step.bytes);
  EXPECT_EQ(step.what, Step::kWait);
  EXPECT_EQ(Name(step.pace), Name(Pace::kFailedCalls));
}

// The server's turn is told from the client's, and a call that moves from one that does not.
TEST_F(Http2GuardTest, KnowsWhoseTurnItIsAndWhenSomethingMoved) {
  ExpectPassed(Preface() + Headers(1));
  EXPECT_FALSE(guard_.owes_answers()) << "the request is to come";
  const TimePoint opened = now_;
  now_ += seconds(1);
  ExpectPassed(Ping() + Frame(kWindowUpdate, 0, 1, "1234"));
  EXPECT_EQ(guard_.active_at(), opened);
  ExpectPassed(Data(1, Message("x"), kEndStream));
  EXPECT_EQ(guard_.active_at(), now_);
  EXPECT_TRUE(guard_.owes_answers());
  Answer(1);
  EXPECT_FALSE(guard_.owes_answers()) << "it has begun";
  now_ += seconds(1);
  guard_.OnServerFrame({8, kPing, 0, 0}, now_);
  EXPECT_EQ(guard_.active_at(), now_ - seconds(1));
  guard_.OnServerFrame({100, kData, 0, 1}, now_);
  EXPECT_EQ(guard_.active_at(), now_);
  ExpectPassed(Call(3) + Call(5));
  Answer(3, kEndStream);
  EXPECT_TRUE(guard_.owes_answers());
  ExpectPassed(Reset(5));
  EXPECT_FALSE(guard_.owes_answers());
}

TEST_F(Http2GuardTest, UnacknowledgedPingsAreBounded) {
  ExpectPassed(Preface());
  guard_.OnServerFrame({0, kSettings, kAck, 0}, now_);
  for (int i = 0; i < Http2Guard::kMaxUnacknowledged; ++i) ExpectPassed(Ping());
  guard_.OnServerFrame({8, kPing, kAck, 0}, now_);
  ExpectPassed(Ping());
  ExpectCut(Ping(), Cut::kControlFrames);
}

TEST_F(Http2GuardTest, FarMoreStreamsThanSettingsAllowAreCut) {
  limits_.max_streams = 4;
  ExpectPassed(Preface());
  for (uint32_t i = 0; i < 8; ++i) ExpectPassed(Headers(1 + 2 * i));
  ExpectCut(Headers(17), Cut::kStreams);
}

TEST_F(Http2GuardTest, UnfinishedMessagesAreAccounted) {
  ExpectPassed(Preface() + Headers(1) + Headers(3) + Headers(5));
  EXPECT_EQ(guard_.receiving_bytes(), 3 * kStreamBytes);
  ExpectPassed(Data(1, Prefix(10'000) + std::string(5000, 'x')));
  EXPECT_EQ(guard_.receiving_bytes(), 3 * kStreamBytes + 5005);
  ExpectPassed(Data(3, std::string("\3") + Message("padded") + "xyz", kPadded));
  EXPECT_EQ(guard_.receiving_bytes(), 2 * kStreamBytes + 5005) << "a whole message is gRPC's, padding is nobody's";
  ExpectPassed(Data(1, std::string(5000, 'x'), kEndStream));
  EXPECT_EQ(guard_.receiving_bytes(), kStreamBytes);
  ExpectPassed(Data(3, Message("a second one, which a stream that has one message never reads")));
  EXPECT_GT(guard_.receiving_bytes(), kStreamBytes);
  ExpectPassed(Reset(3));
  Answer(5, kEndStream);
  EXPECT_EQ(guard_.receiving_bytes(), 0);
  EXPECT_EQ(guard_.open_streams(), 1u) << "stream 1 waits for its answer";
  ExpectPassed(Data(5, std::string(2000, 'x')));
  EXPECT_EQ(guard_.receiving_bytes(), 0) << "of a stream that has ended";
}

TEST_F(Http2GuardTest, SeveralMessagesInOneFrameAndOneMessageInManyFrames) {
  ExpectPassed(Preface() + Headers(1) + Headers(3));
  ExpectPassed(Data(1, Message("a") + Message("") + Message("b").substr(0, 3)));
  constexpr int64_t kOverhead = Http2Guard::kMessageOverhead + Http2Guard::kSmallDataOverhead;
  EXPECT_EQ(guard_.receiving_bytes(), 5 + 3 + kOverhead + kStreamBytes + kStreamBytes);
  for (char c : Message("hello")) ExpectPassed(Data(3, std::string(1, c)));
  EXPECT_EQ(guard_.receiving_bytes(), 5 + 3 + kOverhead + kStreamBytes);
}

TEST_F(Http2GuardTest, AMessageThatIsNotWholeInTimeIsLate) {
  ExpectPassed(Preface() + Headers(1) + Headers(3, kEndHeaders | kEndStream) + Headers(5));
  now_ += limits_.receive_timeout - milliseconds(1);
  EXPECT_THAT(guard_.Late(now_), IsEmpty());
  ExpectPassed(Data(5, Message("whole")));
  now_ += milliseconds(2);
  EXPECT_THAT(guard_.Late(now_), ElementsAre(1));
  // The next message of a stream has its own time.
  ExpectPassed(Data(5, Message("next").substr(0, 6)));
  now_ += limits_.receive_timeout - milliseconds(1);
  EXPECT_THAT(guard_.Late(now_), ElementsAre(1));
  now_ += milliseconds(2);
  EXPECT_EQ(guard_.Late(now_).size(), 2u);
  EXPECT_FALSE(guard_.Forget(1));
  EXPECT_THAT(guard_.Late(now_), ElementsAre(5));
}

// 16 MiB over a line of 1 Mbit/s take two minutes, which is not an attack.
TEST_F(Http2GuardTest, ASlowLineMayTakeLongerForMore) {
  ExpectPassed(Preface() + Headers(1) + Data(1, Prefix(16 << 20)));
  for (int second = 0; second < 100; ++second) {
    for (int i = 0; i < 8; ++i) ExpectPassed(Data(1, std::string(kMaxFrameBytes, 'x')));
    now_ += seconds(1);
    EXPECT_THAT(guard_.Late(now_), IsEmpty());
  }
}

TEST_F(Http2GuardTest, WhatWaitsForLongestCostsMost) {
  ExpectPassed(Preface() + Headers(1) + Data(1, Prefix(16 << 20) + std::string(10'000, 'x')));
  now_ += seconds(10);
  ExpectPassed(Headers(3) + Data(3, Prefix(16 << 20) + std::string(16'000, 'x')));
  now_ += seconds(1);
  const std::vector<Http2Guard::Unfinished> list = guard_.ListUnfinished(now_);
  ASSERT_EQ(list.size(), 2u);
  const auto& old = list[0].stream == 1 ? list[0] : list[1];
  const auto& young = list[0].stream == 1 ? list[1] : list[0];
  EXPECT_GT(young.bytes, old.bytes);
  EXPECT_GT(old.byte_seconds, young.byte_seconds);
}

}  // namespace
}  // namespace quantd
