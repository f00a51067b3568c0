#include "server/outbox.h"

#include <gtest/gtest.h>

namespace quantd {
namespace {

// Keeps what is written; a write is done when the test says so.
struct FakeStream final : Outbox::Stream {
  void StartWrite(const v1::GenerateEvent* event) override {
    EXPECT_FALSE(writing) << "two writes in flight";
    writing = true;
    written.push_back(event->delta().text());
  }
  void Finish(const absl::Status& s) override {
    EXPECT_FALSE(writing);
    ++finishes;
    status = s;
  }
  void ReaderReady() override { ++readies; }

  bool writing = false;
  std::vector<std::string> written;
  int finishes = 0, readies = 0;
  absl::Status status;
};

v1::GenerateEvent Text(std::string text) {
  v1::GenerateEvent event;
  event.mutable_delta()->set_text(std::move(text));
  return event;
}

class OutboxTest : public ::testing::Test {
 protected:
  void Done(bool ok = true) {
    ASSERT_TRUE(stream_.writing);
    stream_.writing = false;
    outbox_.OnWriteDone(ok);
  }
  FakeStream stream_;
  Outbox outbox_{stream_, {.messages = 4, .bytes = 1000}};
};

TEST_F(OutboxTest, WritesInOrderOneAtATimeAndFinishesLast) {
  EXPECT_EQ(outbox_.Push(Text("a")), LlmSink::Flow::kReady);
  EXPECT_EQ(outbox_.Push(Text("b")), LlmSink::Flow::kReady);
  outbox_.Close(absl::InternalError("x"));
  EXPECT_EQ(stream_.finishes, 0);
  Done();
  Done();
  EXPECT_EQ(stream_.written, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(stream_.finishes, 1);
  EXPECT_EQ(stream_.status.code(), absl::StatusCode::kInternal);
}

TEST_F(OutboxTest, SlowReaderPausesAndResumesAtHalfAndLosesNothing) {
  std::vector<std::string> sent;
  int next = 0;
  const auto push_until_full = [&] {
    for (;;) {
      sent.push_back(std::to_string(next++));
      if (outbox_.Push(Text(sent.back())) == LlmSink::Flow::kFull) return;
    }
  };
  push_until_full();
  EXPECT_EQ(sent.size(), 4u) << "the bound in messages";
  Done();
  EXPECT_EQ(stream_.readies, 0) << "three of four are left";
  Done();
  EXPECT_EQ(stream_.readies, 1);
  push_until_full();
  while (stream_.writing) Done();
  EXPECT_EQ(stream_.written, sent);
  EXPECT_EQ(stream_.readies, 2) << "once a pause";
}

TEST_F(OutboxTest, BytesAreBoundedToo) {
  EXPECT_EQ(outbox_.Push(Text(std::string(1000, 'x'))), LlmSink::Flow::kFull);
  Done();
  EXPECT_EQ(stream_.readies, 1);
}

TEST_F(OutboxTest, GoneReaderDropsWhatWaitsAndFreesTheProducer) {
  for (int i = 0; i < 3; ++i) EXPECT_EQ(outbox_.Push(Text("a")), LlmSink::Flow::kReady);
  EXPECT_EQ(outbox_.Push(Text("a")), LlmSink::Flow::kFull);
  outbox_.Abandon();
  EXPECT_EQ(stream_.readies, 1) << "a paused producer must run on to its end";
  EXPECT_EQ(outbox_.Push(Text("b")), LlmSink::Flow::kReady);
  outbox_.Close(absl::CancelledError());
  EXPECT_EQ(stream_.finishes, 0) << "one write is still in flight";
  Done(/*ok=*/false);
  EXPECT_EQ(stream_.finishes, 1);
  EXPECT_EQ(stream_.written.size(), 1u);
}

TEST_F(OutboxTest, FailedWriteMeansGone) {
  outbox_.Push(Text("a"));
  outbox_.Push(Text("b"));
  Done(/*ok=*/false);
  EXPECT_FALSE(stream_.writing);
  outbox_.Close(absl::OkStatus());
  EXPECT_EQ(stream_.finishes, 1);
}

}  // namespace
}  // namespace quantd
