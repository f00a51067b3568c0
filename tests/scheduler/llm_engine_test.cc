#include "scheduler/llm_engine.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/scheduler/fakes.h"
#include "tests/testing/allocation_counter.h"

namespace quantd {
namespace {

using namespace testing_fakes;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::UnorderedElementsAre;

TimePoint now{seconds(100)};  // of the manual clock
int64_t news_at_clock = 0;    // when the engine last looked at it
TimePoint ManualClock() {
  news_at_clock = allocation_count;
  return now;
}

class LlmEngineTest : public testing::Test {
 protected:
  void Make(const LlmLimits& limits, std::vector<int32_t> eos = {}) {
    mailbox_ = std::make_shared<Mailbox>();
    observer_ = std::make_shared<CountingObserver>();
    LlmEngineOptions options;
    options.port.name = "fake";
    options.port.limits = limits;
    options.port.observer = observer_;
    options.port.mailbox = mailbox_;
    options.port.clock = ManualClock;
    options.tokenizer = text_;
    options.eos_token_ids = std::move(eos);
    options.suppress_tokens = suppress_;
    options.begin_suppress_tokens = begin_suppress_;
    auto runner = std::make_unique<FakeRunner>(limits.kv_blocks, static_cast<int>(limits.kv_block_tokens),
                                               static_cast<int32_t>(limits.vocab_size));
    runner_ = runner.get();
    engine_ = std::make_unique<LlmEngine>(options, std::move(runner));
  }
  void TearDown() override {
    if (!engine_) return;
    engine_->EndAll(absl::CancelledError("the test ends"));
    const BlockManager& blocks = engine_->scheduler().blocks();
    EXPECT_EQ(blocks.cached() + blocks.free(), blocks.total());
    for (const auto& [id, times] : observer_->ended) EXPECT_EQ(times, 1) << id;
  }
  static LlmRequest Request(int64_t prompt, int64_t max_new, int first = 1) {
    LlmRequest r;
    static int id = 0;
    r.id = "r" + std::to_string(++id);
    for (int64_t i = 0; i < prompt; ++i) r.prompt.push_back(static_cast<int32_t>(first + i));
    r.stopping.max_new_tokens = max_new;
    r.arrival = now;
    return r;
  }
  std::shared_ptr<RecordingSink> Submit(LlmRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    Submit(std::move(request), sink);
    return sink;
  }
  std::shared_ptr<RequestControl> Submit(LlmRequest request, const std::shared_ptr<RecordingSink>& sink) {
    auto reservation = engine_->port()->Reserve(request, {static_cast<int64_t>(request.prompt.size())});
    EXPECT_TRUE(reservation.ok()) << reservation.status();
    auto control = engine_->port()->Submit(std::move(*reservation), std::move(request), sink);
    EXPECT_TRUE(control.ok()) << control.status();
    Deliver();
    return *control;
  }
  void Deliver() { mailbox_->Take(TimePoint::min()).Deliver(); }
  void RunToTheEnd() {
    int steps = 0;
    while (engine_->Peek(now)) {
      engine_->Run();
      Deliver();
      ASSERT_LT(++steps, 100000);
    }
  }
  // What a request generates when it is alone.
  std::vector<int32_t> Alone(const LlmRequest& request) {
    auto sink = Submit(request);
    RunToTheEnd();
    return sink->ids;
  }
  // The generated tokens become these, over and over.
  void Say(std::vector<int32_t> tokens, int64_t prompt) {
    runner_->force_token = [tokens = std::move(tokens), prompt](const SamplingRow& row, int32_t) {
      return tokens[(row.position - static_cast<uint64_t>(prompt)) % tokens.size()];
    };
  }

  FakeTokenizer tokenizer_{1000};
  const Tokenizer* text_ = &tokenizer_;
  std::vector<int32_t> suppress_, begin_suppress_;
  std::shared_ptr<Mailbox> mailbox_;
  std::shared_ptr<CountingObserver> observer_;
  FakeRunner* runner_ = nullptr;
  std::unique_ptr<LlmEngine> engine_;
};

// a=0, b=1, …
std::vector<int32_t> Letters(std::string_view text) {
  std::vector<int32_t> ids;
  for (char c : text) ids.push_back(c - 'a');
  return ids;
}

TEST_F(LlmEngineTest, GeneratesUpToMaxNewTokens) {
  Make(FakeLimits(50));
  auto sink = Submit(Request(10, 5));
  EXPECT_EQ(sink->accepted, 1);
  RunToTheEnd();
  EXPECT_EQ(sink->done(), 1);
  EXPECT_TRUE(sink->status.ok());
  EXPECT_EQ(sink->ids.size(), 5u);
  EXPECT_EQ(sink->end->reason, FinishReason::kMaxTokens);
  EXPECT_EQ(sink->end->new_tokens, 5);
  EXPECT_EQ(sink->usage.prompt_tokens, 10);
  EXPECT_EQ(sink->usage.new_tokens, 5);
  EXPECT_EQ(observer_->first_tokens, 1);
  EXPECT_EQ(observer_->inter_tokens, 4);
  EXPECT_EQ(observer_->reasons["max_tokens"], 1);
  EXPECT_EQ(engine_->port()->load().waiting, 0);
}

// The promise that counts: batch mates, chunks, preemptions and prefix hits change nothing.
TEST_F(LlmEngineTest, TheSameTokensAloneAndAmongFifteenOthers) {
  const uint64_t seed = std::random_device()();
  std::cout << "seed " << seed << std::endl;
  std::mt19937_64 rng(seed);
  int64_t batch = 0, hits = 0, preemptions = 0, chunks = 0;
  for (int round = 0; round < 20; ++round) {
    std::vector<LlmRequest> requests;
    for (int i = 0; i < 16; ++i) {
      LlmRequest r = Request(0, 1 + static_cast<int64_t>(rng() % 60));
      const int prompt = 1 + static_cast<int>(rng() % 70);
      for (int t = 0; t < prompt; ++t)
        r.prompt.push_back(t < 30 ? static_cast<int32_t>(i % 3) : static_cast<int32_t>(rng() % 1000));
      r.sampling.seed = rng();
      r.priority = static_cast<Priority>(rng() % 3);
      r.bypass_prefix_cache = rng() % 8 == 0;
      if (rng() % 2 == 0) r.sampling.repetition_penalty = 1.1f;
      if (rng() % 3 == 0) r.sampling.frequency_penalty = 0.5f;
      if (rng() % 3 == 0) r.sampling.no_repeat_ngram_size = 3;
      requests.push_back(std::move(r));
    }
    std::vector<std::vector<int32_t>> expected;
    for (const LlmRequest& r : requests) {
      Make(FakeLimits(200, /*batch_tokens=*/200));  // a new one each time: no hits, no chunks
      expected.push_back(Alone(r));
      TearDown();
    }
    Make(FakeLimits(40 + static_cast<int64_t>(rng() % 60), /*batch_tokens=*/24));
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (LlmRequest& r : requests) {
      r.id += " together";
      sinks.push_back(Submit(r));
      if (rng() % 2 == 0) engine_->Run();
    }
    RunToTheEnd();
    for (size_t i = 0; i < sinks.size(); ++i)
      ASSERT_EQ(sinks[i]->ids, expected[i]) << "request " << i << ", round " << round;
    batch = std::max<int64_t>(batch, runner_->largest_batch);
    chunks += runner_->chunks;
    hits += observer_->hit_tokens;
    preemptions += observer_->preempted;
    TearDown();
  }
  EXPECT_GE(batch, 8);
  EXPECT_GT(chunks, 20);
  EXPECT_GT(hits, 100);
  EXPECT_GT(preemptions, 20);
}

TEST_F(LlmEngineTest, NothingIsAllocatedBetweenPlanAndTheEndOfTheStep) {
  Make(FakeLimits(100, 32));
  int64_t news_after_step = -1, steps = 0;
  runner_->after_step = [&] {
    news_after_step = allocation_count;
    EXPECT_EQ(news_after_step, news_at_clock);  // the engine looks at the clock once Plan has returned
    ++steps;
  };
  for (int i = 0; i < 8; ++i) {
    LlmRequest r = Request(30, 20, i * 50);
    r.sampling.repetition_penalty = 1.1f;
    r.sampling.no_repeat_ngram_size = 3;
    Submit(std::move(r));
  }
  RunToTheEnd();
  EXPECT_GT(steps, 20);
}

// What the sampler is told of a sequence: the whole prompt and output, whatever chunks and preemptions came between.
TEST_F(LlmEngineTest, PenaltiesSeeThePromptAndTheOutputSoFar) {
  for (const bool repetition : {true, false}) {
    Make(FakeLimits(50, /*batch_tokens=*/4));
    const auto counts = [](std::span<const SeenToken> seen) {
      std::map<int32_t, int32_t> result;
      for (const SeenToken& t : seen) EXPECT_TRUE(result.emplace(t.id, t.times_chosen).second) << "once each: " << t.id;
      return result;
    };
    std::vector<std::map<int32_t, int32_t>> seen;
    std::vector<std::vector<int32_t>> contexts;
    runner_->force_token = [&](const SamplingRow& row, int32_t) {
      seen.push_back(counts(row.seen));
      contexts.emplace_back(row.context.begin(), row.context.end());
      return seen.size() == 2 ? 900 : 5;
    };
    LlmRequest r = Request(0, 3);
    r.prompt = {7, 5, 7, 8, 7, 9};
    (repetition ? r.sampling.repetition_penalty : r.sampling.presence_penalty) = 1.5f;
    Submit(r);
    RunToTheEnd();
    using Counts = std::map<int32_t, int32_t>;
    if (repetition) {
      EXPECT_THAT(seen, ElementsAre(Counts{{5, 0}, {7, 0}, {8, 0}, {9, 0}}, Counts{{5, 1}, {7, 0}, {8, 0}, {9, 0}},
                                    Counts{{5, 1}, {7, 0}, {8, 0}, {9, 0}, {900, 1}}));
    } else {
      EXPECT_THAT(seen, ElementsAre(Counts{}, Counts{{5, 1}}, Counts{{5, 1}, {900, 1}})) << "the output alone";
    }
    EXPECT_THAT(contexts, ElementsAre(ElementsAre(7, 5, 7, 8, 7, 9), ElementsAre(7, 5, 7, 8, 7, 9, 5),
                                      ElementsAre(7, 5, 7, 8, 7, 9, 5, 900)));
    TearDown();
  }
}

TEST_F(LlmEngineTest, TheModelsSuppressedTokensAreBannedAndSomeAtTheBeginAlone) {
  suppress_ = {3, 4};
  begin_suppress_ = {9};
  Make(FakeLimits(50));
  std::vector<std::vector<int32_t>> banned;
  runner_->force_token = [&](const SamplingRow& row, int32_t token) {
    banned.emplace_back(row.banned_ids.begin(), row.banned_ids.end());
    return token;
  };
  Submit(Request(4, 3));
  RunToTheEnd();
  EXPECT_THAT(banned, ElementsAre(UnorderedElementsAre(3, 4, 9), ElementsAre(3, 4), ElementsAre(3, 4)));
}

// A tokenizer of bytes: id i is the byte i.
class ByteTokenizer : public FakeTokenizer {
 public:
  ByteTokenizer() : FakeTokenizer(1000) {
    for (int i = 0; i < 256; ++i) bytes_.push_back(std::string(1, static_cast<char>(i)));
  }
  std::string_view TokenBytes(int32_t id) const override {
    return id < 256 ? std::string_view(bytes_[static_cast<size_t>(id)]) : std::string_view();
  }

 private:
  std::vector<std::string> bytes_;
};

std::vector<int32_t> Bytes(std::string_view text) {
  std::vector<int32_t> ids;
  for (char c : text) ids.push_back(static_cast<uint8_t>(c));
  return ids;
}

// Whatever ends an output within a character: its bytes are not text, its ids are delivered.
TEST_F(LlmEngineTest, AnEndWithinACharacterLeavesItsBytesOut) {
  const ByteTokenizer bytes;
  struct Case {
    const char* name;
    std::string says;
    std::function<void(LlmRequest&)> limit;
    FinishReason reason;
    std::string text;
  };
  const std::string cut = "hi \xF0\x9F\x98";  // three of an emoji's four bytes
  const auto max_tokens = [](LlmRequest& r) { r.stopping.max_new_tokens = 6; };
  const std::vector<Case> cases = {
      {"max_tokens", cut + "\x80", max_tokens, FinishReason::kMaxTokens, "hi "},
      {"a character that is whole", "hi \xE2\x82\xAC", max_tokens, FinishReason::kMaxTokens, "hi \xE2\x82\xAC"},
      {"bytes that can be no character", "hi \xFF\xE2\x82", max_tokens, FinishReason::kMaxTokens, "hi \xEF\xBF\xBD"},
      {"invalid in the middle", "\xE2\x82hi \xC3", max_tokens, FinishReason::kMaxTokens, "\xEF\xBF\xBDhi "},
      {"held back for a stop text", "hi \xF0\x9F\x98",
       [](LlmRequest& r) {
         r.stopping.max_new_tokens = 6;
         r.stopping.stop = {"i \xF0\x9F\x98\x80"};
       },
       FinishReason::kMaxTokens, "hi "},
      {"context_full", cut + "\x80", [](LlmRequest& r) { r.prompt.resize(512 - 6, 1); }, FinishReason::kContextFull,
       "hi "},
      {"time_limit", cut + "\x80", [](LlmRequest& r) { r.stopping.time_limit = seconds(6); }, FinishReason::kTimeLimit,
       "hi "},
      {"eos", cut + "\x01", [](LlmRequest&) {}, FinishReason::kEos, "hi "},
      {"stop_token", cut + "\x02", [](LlmRequest& r) { r.stopping.stop_token_ids = {2}; }, FinishReason::kStopToken,
       "hi "},
      {"stop_text", "hi. \xF0", [](LlmRequest& r) { r.stopping.stop = {"."}; }, FinishReason::kStopText, "hi"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    text_ = &bytes;
    Make(FakeLimits(200), {1});
    runner_->after_step = [] { now += seconds(1); };
    LlmRequest r = Request(4, 0);
    c.limit(r);
    Say(Bytes(c.says), static_cast<int64_t>(r.prompt.size()));
    auto sink = Submit(r);
    RunToTheEnd();
    ASSERT_TRUE(sink->end);
    EXPECT_EQ(sink->end->reason, c.reason);
    EXPECT_EQ(sink->text, c.text);
    EXPECT_EQ(static_cast<int64_t>(sink->ids.size()), sink->end->new_tokens) << "every id is delivered";
    TearDown();
  }
}

TEST_F(LlmEngineTest, TokensAreCountedInTheStepThatTheyComeIn) {
  Make(FakeLimits(100, /*batch_tokens=*/8));
  const auto counted = [&] {
    return std::vector<int64_t>{observer_->prompt_tokens, observer_->prompt_cached_tokens, observer_->generated_tokens};
  };
  Submit(Request(20, 3));
  const std::vector<std::vector<int64_t>> steps = {{8, 0, 0}, {16, 0, 0}, {20, 0, 1}, {20, 0, 2}, {20, 0, 3}};
  for (const auto& expected : steps) {
    engine_->Run();
    EXPECT_EQ(counted(), expected);
  }
  Submit(Request(20, 1));  // the same prompt: four blocks of four are known and half of the last is computed anew
  RunToTheEnd();
  EXPECT_EQ(counted(), (std::vector<int64_t>{24, 16, 4})) << "each prompt token is of one kind";
}

TEST_F(LlmEngineTest, WhatAPreemptionThrowsAwayIsNotCountedTwice) {
  Make(FakeLimits(/*blocks=*/24, /*batch_tokens=*/24));
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  int64_t prompts = 0, generated = 0;
  for (int i = 0; i < 8; ++i) {
    sinks.push_back(Submit(Request(10 + i, 20, /*first=*/i % 3 * 100)));
    prompts += 10 + i;
  }
  RunToTheEnd();
  for (const auto& sink : sinks) generated += sink->usage.new_tokens;
  EXPECT_GT(observer_->preempted, 0);
  EXPECT_EQ(observer_->prompt_tokens + observer_->prompt_cached_tokens, prompts);
  EXPECT_EQ(observer_->generated_tokens, generated);
}

TEST_F(LlmEngineTest, AFailedStepCountsNoTokens) {
  Make(FakeLimits(50));
  runner_->before_step = [](const LlmStepInput&) { return absl::InternalError("unwell"); };
  Submit(Request(4, 5));
  RunToTheEnd();
  EXPECT_EQ(observer_->prompt_tokens + observer_->generated_tokens, 0);
}

TEST_F(LlmEngineTest, TheQueueIsEstimatedBeforeAFirstRequestHasEnded) {
  LlmLimits limits = FakeLimits(100);
  limits.max_sequences = 1;
  limits.queue.max_waiting_requests = 3;
  Make(limits);
  runner_->after_step = [] { now += seconds(1); };
  Submit(Request(1, 100));
  engine_->Run();
  for (int i = 0; i < 3; ++i) Submit(Request(1, 1));
  for (int i = 2; i <= 5; ++i) {
    engine_->Run();
    const Duration estimate = engine_->port()->load().estimated_queue_time.back();
    EXPECT_EQ(estimate, seconds(3 * i)) << "three wait for what has run for " << i << " s";
    const absl::Status full = engine_->port()->Reserve({}, {1}).status();
    EXPECT_EQ(GetReason(full), "QUEUE_FULL");
    EXPECT_EQ(GetRetryAfter(full), estimate);
  }
}

TEST_F(LlmEngineTest, AStopTextEndsTheOutputBeforeItAcrossDeltas) {
  for (const bool include : {false, true}) {
    Make(FakeLimits(50));
    Say(Letters("hexstoprest"), 4);
    LlmRequest r = Request(4, 50);
    r.stopping.stop = {"zz", "stop"};
    r.stopping.include_stop = include;
    auto sink = Submit(r);
    RunToTheEnd();
    EXPECT_EQ(sink->text, include ? "hexstop" : "hex");
    EXPECT_EQ(sink->end->reason, FinishReason::kStopText);
    EXPECT_EQ(sink->end->stop_text, "stop");
    EXPECT_EQ(sink->usage.new_tokens, 7);
    EXPECT_EQ(sink->ids.size(), 7u);
    for (const Delta& d : sink->deltas) EXPECT_TRUE(include || d.text.find('s') == std::string::npos);
    TearDown();
  }
}

TEST_F(LlmEngineTest, HeldBackTextLeavesWhenTheOutputEndsOtherwise) {
  Make(FakeLimits(50));
  Say(Letters("hexsto"), 4);
  LlmRequest r = Request(4, 6);
  r.stopping.stop = {"stop"};
  auto sink = Submit(r);
  RunToTheEnd();
  EXPECT_EQ(sink->text, "hexsto");
  EXPECT_EQ(sink->end->reason, FinishReason::kMaxTokens);
}

TEST_F(LlmEngineTest, EndTokensEndTheOutputWithoutTheirText) {
  for (const bool asked_for : {false, true}) {
    Make(FakeLimits(50), asked_for ? std::vector<int32_t>{} : std::vector<int32_t>{25});
    Say(Letters("abcz"), 4);
    LlmRequest r = Request(4, 50);
    if (asked_for) r.stopping.stop_token_ids = {25};
    auto sink = Submit(r);
    RunToTheEnd();
    EXPECT_EQ(sink->text, "abc");
    EXPECT_THAT(sink->ids, ElementsAre(0, 1, 2, 25));
    EXPECT_EQ(sink->end->reason, asked_for ? FinishReason::kStopToken : FinishReason::kEos);
    EXPECT_EQ(sink->end->stop_token_id, 25);
    TearDown();
  }
}

TEST_F(LlmEngineTest, IgnoreEosGoesOnAndMinNewTokensSuppressesEndTokens) {
  Make(FakeLimits(50), {25});
  Say(Letters("abcz"), 4);
  LlmRequest r = Request(4, 9);
  r.stopping.ignore_eos = true;
  auto sink = Submit(r);
  RunToTheEnd();
  EXPECT_EQ(sink->end->reason, FinishReason::kMaxTokens);
  EXPECT_EQ(sink->text, "abczabcza");

  std::vector<size_t> suppressed;
  runner_->force_token = [&](const SamplingRow& row, int32_t) {
    suppressed.push_back(row.suppressed_ids.size());
    return suppressed.size() == 4 ? 25 : 3;
  };
  r = Request(4, 9);
  r.stopping.min_new_tokens = 3;
  r.stopping.stop_token_ids = {7};
  sink = Submit(r);
  RunToTheEnd();
  EXPECT_THAT(suppressed, ElementsAre(2, 2, 2, 0));
  EXPECT_EQ(sink->usage.new_tokens, 4);
}

TEST_F(LlmEngineTest, MinNewTokensHoldsForStopTextsToo) {
  Make(FakeLimits(50));
  Say(Letters("xxxxxx"), 4);
  LlmRequest r = Request(4, 9);
  r.stopping.min_new_tokens = 3;
  r.stopping.stop = {"x"};
  auto sink = Submit(r);
  RunToTheEnd();
  EXPECT_EQ(sink->text, "xx");
  EXPECT_EQ(sink->usage.new_tokens, 3);
}

TEST_F(LlmEngineTest, StreamIntervalCoalescesTokens) {
  Make(FakeLimits(50));
  LlmRequest r = Request(4, 10);
  r.stream_interval = 4;
  auto sink = Submit(r);
  RunToTheEnd();
  std::vector<size_t> sizes;
  for (const Delta& d : sink->deltas) sizes.push_back(d.token_ids.size());
  EXPECT_THAT(sizes, ElementsAre(4, 4, 2));
}

TEST_F(LlmEngineTest, LogitsThatAreNotFiniteFailThatRequestAlone) {
  Make(FakeLimits(50));
  runner_->force_token = [](const SamplingRow& row, int32_t t) { return row.params.seed == 13 ? -1 : t; };
  LlmRequest bad = Request(4, 5);
  bad.sampling.seed = 13;
  auto bad_sink = Submit(bad), good_sink = Submit(Request(6, 5));
  RunToTheEnd();
  EXPECT_EQ(bad_sink->status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(GetReason(bad_sink->status), "NAN_LOGITS");
  EXPECT_FALSE(bad_sink->end);
  EXPECT_TRUE(good_sink->status.ok());
}

TEST_F(LlmEngineTest, AFailedStepFailsItsRequestsAndTheEngineLives) {
  Make(FakeLimits(50));
  bool fail = true;
  runner_->before_step = [&](const LlmStepInput&) {
    return std::exchange(fail, false) ? absl::ResourceExhaustedError("the device is unwell") : absl::OkStatus();
  };
  auto a = Submit(Request(4, 5));
  RunToTheEnd();
  EXPECT_EQ(a->status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(GetReason(a->status), "STEP_FAILED");
  EXPECT_THAT(std::string(a->status.message()), testing::HasSubstr("the device is unwell"));
  auto b = Submit(Request(4, 5));
  RunToTheEnd();
  EXPECT_TRUE(b->status.ok());
}

TEST_F(LlmEngineTest, EveryEndHasItsStatus) {
  Make(FakeLimits(100, 64, /*sequences=*/1));
  auto first_sink = std::make_shared<RecordingSink>();
  LlmRequest first = Request(4, 100);
  first.deadline = now + seconds(5);
  Submit(first, first_sink);
  engine_->Run();
  LlmRequest expires = Request(4, 5), queued = Request(4, 5), soft = Request(4, 5);
  expires.deadline = now + seconds(1);
  queued.max_queue_time = seconds(1);
  soft.stopping.time_limit = seconds(1);
  auto expires_sink = Submit(expires), queued_sink = Submit(queued), soft_sink = Submit(soft);
  auto cancelled_sink = std::make_shared<RecordingSink>();
  auto control = Submit(Request(4, 5), cancelled_sink);
  control->Cancel();
  control->Cancel();
  Deliver();
  EXPECT_EQ(cancelled_sink->status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(GetReason(cancelled_sink->status), "CLIENT");
  EXPECT_EQ(*engine_->NextWakeup(), now + seconds(1));
  now += seconds(1);
  engine_->Tick(now);
  EXPECT_EQ(expires_sink->status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(GetReason(expires_sink->status), "EXPIRED_IN_QUEUE");
  EXPECT_EQ(queued_sink->status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetReason(queued_sink->status), "QUEUE_TIMEOUT");
  EXPECT_TRUE(GetRetryAfter(queued_sink->status));
  EXPECT_TRUE(soft_sink->status.ok());
  EXPECT_EQ(soft_sink->end->reason, FinishReason::kTimeLimit);
  now += seconds(4);
  engine_->Run();
  EXPECT_EQ(GetReason(first_sink->status), "EXPIRED_RUNNING");
  control->Cancel();  // long gone
  Deliver();
  EXPECT_EQ(cancelled_sink->done(), 1);
}

TEST_F(LlmEngineTest, ACancelledRequestFreesItsBlocksWithinOneStep) {
  Make(FakeLimits(100));
  auto sink = std::make_shared<RecordingSink>();
  auto control = Submit(Request(40, 100), sink);
  engine_->Run();
  EXPECT_GE(engine_->port()->load().blocks_used, 10);
  control->Cancel();
  Deliver();
  EXPECT_EQ(engine_->port()->load().blocks_used, 0);
}

TEST_F(LlmEngineTest, AFullReaderPausesItsOwnSequenceOnly) {
  Make(FakeLimits(100));
  auto slow = std::make_shared<RecordingSink>();
  slow->on_delta = [] { return LlmSink::Flow::kFull; };
  auto control = Submit(Request(4, 10), slow);
  auto fast = Submit(Request(4, 10));
  RunToTheEnd();
  EXPECT_TRUE(fast->status.ok());
  EXPECT_EQ(fast->ids.size(), 10u);
  EXPECT_EQ(slow->ids.size(), 1u);
  control->ReaderReady();
  Deliver();
  RunToTheEnd();
  EXPECT_EQ(slow->ids.size(), 2u);
  slow->on_delta = nullptr;
  control->ReaderReady();
  Deliver();
  RunToTheEnd();
  EXPECT_EQ(slow->ids.size(), 10u);
}

TEST_F(LlmEngineTest, ReservationsBoundTheQueueInRequestsAndTokens) {
  LlmLimits limits = FakeLimits(100);
  limits.queue = {.max_waiting_requests = 3, .max_waiting_tokens = 100};
  Make(limits);
  LlmPort& port = *engine_->port();
  {
    auto a = port.Reserve({}, {60}), b = port.Reserve({}, {41}), c = port.Reserve({}, {40}), d = port.Reserve({}, {0}),
         e = port.Reserve({}, {0});
    EXPECT_TRUE(a.ok() && c.ok() && d.ok());
    EXPECT_EQ(b.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(GetReason(b.status()), "TOKEN_BUDGET");
    EXPECT_TRUE(GetRetryAfter(b.status()));
    EXPECT_EQ(GetReason(e.status()), "QUEUE_FULL");
    EXPECT_TRUE(GetRetryAfter(e.status()));
    for (const absl::Status& status : {b.status(), e.status()}) port.RecordEnded(Request(1, 1), status);
  }
  EXPECT_EQ(observer_->rejected["token_budget"], 1);
  EXPECT_EQ(observer_->rejected["queue_full"], 1);
  // All was given back; Submit corrects an estimate both ways.
  auto much = port.Reserve({}, {100});
  ASSERT_TRUE(much.ok());
  auto sink = std::make_shared<RecordingSink>();
  ASSERT_TRUE(port.Submit(std::move(*much), Request(10, 1), sink).ok());
  auto rest = port.Reserve({}, {90});
  EXPECT_TRUE(rest.ok());
  auto little = port.Reserve({}, {0});
  ASSERT_TRUE(little.ok());
  EXPECT_EQ(GetReason(port.Submit(std::move(*little), Request(1, 1), sink).status()), "TOKEN_BUDGET");
  rest = Reservation();
  Deliver();
  RunToTheEnd();
  EXPECT_TRUE(port.Reserve({}, {100}).ok());  // it started, so its place is free
  EXPECT_EQ(sink->done(), 1);
}

TEST_F(LlmEngineTest, ADeadlineThatTheQueueWillNotMeetIsRefusedAtTheDoor) {
  LlmLimits limits = FakeLimits(100);
  limits.max_sequences = 2;
  Make(limits);
  const auto reserve = [&](Priority priority, Duration until_deadline) {
    LlmRequest r;
    r.priority = priority;
    r.deadline = now + until_deadline;
    return engine_->port()->Reserve(r, {1}).status();
  };
  runner_->after_step = [] { now += seconds(1); };
  Submit(Request(1, 6));
  RunToTheEnd();  // a service time of six seconds, so of three a place
  for (int i = 0; i < 2; ++i) Submit(Request(1, 100));
  engine_->Run();
  EXPECT_TRUE(reserve(Priority::kStandard, milliseconds(1)).ok()) << "nobody waits";
  for (int i = 0; i < 2; ++i) Submit(Request(1, 1));
  const absl::Status refused = reserve(Priority::kStandard, milliseconds(5999));
  EXPECT_EQ(refused.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(GetReason(refused), "CANNOT_MEET") << refused;
  EXPECT_TRUE(reserve(Priority::kStandard, seconds(6)).ok());
  EXPECT_TRUE(reserve(Priority::kInteractive, milliseconds(1)).ok()) << "the others wait behind it";
  EXPECT_EQ(GetReason(reserve(Priority::kBatch, milliseconds(5999))), "CANNOT_MEET");
}

TEST_F(LlmEngineTest, TooManyFullReadersCostTheSlowestItsRequest) {
  LlmLimits limits = FakeLimits(100);
  limits.queue.max_waiting_requests = 2;
  Make(limits);
  std::vector<std::shared_ptr<RecordingSink>> slow;
  for (int i = 0; i < 3; ++i) {
    slow.push_back(Submit(Request(1, 20)));
    slow.back()->on_delta = [] { return LlmSink::Flow::kFull; };
    engine_->Run();
  }
  EXPECT_EQ(slow[0]->done(), 1);
  EXPECT_EQ(GetReason(slow[0]->status), "SLOW_READER");
  EXPECT_EQ(slow[0]->status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(slow[1]->done() + slow[2]->done(), 0);
}

TEST_F(LlmEngineTest, AnExpiryThatTheClientSaysCountsAsTheDeadline) {
  Make(FakeLimits(100));
  auto sink = std::make_shared<RecordingSink>();
  auto control = Submit(Request(1, 20), sink);
  engine_->Run();
  control->Expire();
  Deliver();
  EXPECT_EQ(sink->done(), 1);
  EXPECT_EQ(GetReason(sink->status), "EXPIRED_RUNNING");
}

TEST_F(LlmEngineTest, ASlowReadersTimeIsNoServiceTime) {
  Make(FakeLimits(50));
  auto slow = std::make_shared<RecordingSink>();
  auto control = Submit(Request(1, 4), slow);
  runner_->after_step = [] { now += seconds(1); };
  slow->on_delta = [] { return LlmSink::Flow::kFull; };
  RunToTheEnd();
  now += seconds(1000);
  slow->on_delta = nullptr;
  control->ReaderReady();
  Deliver();
  RunToTheEnd();
  ASSERT_EQ(slow->done(), 1);
  for (int i = 0; i < 200; ++i) Submit(Request(1, 1));
  const Duration wait = engine_->port()->load().estimated_queue_time.back();
  const int64_t ahead = 200 - FakeLimits(50).max_sequences;
  EXPECT_EQ(wait, seconds(4 * ahead) / FakeLimits(50).max_sequences);
  RunToTheEnd();
}

// It is refused once it is counted, and until then others wait beside it.
TEST_F(LlmEngineTest, ATextThatMayBeLongerThanTheContextTakesNoMoreOfTheQueueThanTheContext) {
  LlmLimits limits = FakeLimits(100);  // a context of 512
  limits.queue.max_waiting_tokens = 1000;
  Make(limits);
  LlmPort& port = *engine_->port();
  const auto giant = port.Reserve({}, {.tokens = 16 << 20, .exact = false});
  EXPECT_TRUE(giant.ok()) << giant.status();
  const auto neighbour = port.Reserve({}, {.tokens = 400, .exact = true});
  EXPECT_TRUE(neighbour.ok()) << neighbour.status();
}

TEST_F(LlmEngineTest, WhatAnEmptyQueueCannotTakeIsNotToBeTriedAgain) {
  LlmLimits limits = FakeLimits(100);  // a context of 512
  limits.queue.max_waiting_tokens = 100;
  Make(limits);
  LlmPort& port = *engine_->port();
  for (const int64_t estimate : {int64_t{101}, int64_t{1} << 40}) {
    const PromptSize guess = {.tokens = estimate, .exact = false};
    auto place = port.Reserve({}, guess);
    EXPECT_TRUE(place.ok()) << "a guess of " << estimate << " refuses nothing for good: " << place.status();
    EXPECT_EQ(GetReason(port.Reserve({}, guess).status()), "TOKEN_BUDGET") << "the queue is full now";
    EXPECT_TRUE(port.Submit(*std::move(place), Request(1, 1), std::make_shared<RecordingSink>()).ok());
    Deliver();
    RunToTheEnd();
  }
  const absl::Status more = port.Reserve({}, {101}).status(), most = port.Reserve({}, {int64_t{1} << 40}).status();
  EXPECT_EQ(more.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(more), "EXCEEDS_CAPACITY");
  EXPECT_EQ(most.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(most), "CONTEXT_TOO_LONG");
  auto place = port.Reserve({}, {1});
  const absl::Status exact =
      port.Submit(std::move(*place), Request(101, 1), std::make_shared<RecordingSink>()).status();
  EXPECT_EQ(GetReason(exact), "EXCEEDS_CAPACITY");
  for (const absl::Status& status : {more, most, exact}) {
    EXPECT_FALSE(GetRetryAfter(status));
    port.RecordEnded(Request(1, 1), status);
  }
  EXPECT_EQ(observer_->rejected["too_large"], 3);
  EXPECT_TRUE(port.Reserve({}, {100}).ok()) << "all places were given back";
}

TEST_F(LlmEngineTest, ARequestThatNoSinkHeardOfCountsOnceAndAsRejectedWhereItWasRefused) {
  Make(FakeLimits(100));
  const std::pair<const char*, const char*> cases[] = {{"QUEUE_FULL", "queue_full"},
                                                       {"TOKEN_BUDGET", "token_budget"},
                                                       {"CONTEXT_TOO_LONG", "too_large"},
                                                       {"CANNOT_MEET", "deadline"},
                                                       {"EXPIRED_IN_QUEUE", "deadline"},
                                                       {"EXCEEDS_CAPACITY", "too_large"},
                                                       {"DRAINING", "draining"},
                                                       {"FIELD_INVALID", ""},
                                                       {"CLIENT", ""}};
  std::map<std::string, int> expected;
  for (const auto& [reason, label] : cases) {
    engine_->port()->RecordEnded(Request(1, 1), WithReason(absl::UnknownError("x"), reason));
    if (*label != 0) ++expected[label];
  }
  EXPECT_EQ(observer_->ended.size(), std::size(cases));
  EXPECT_EQ(observer_->rejected, expected);
}

TEST_F(LlmEngineTest, SubmitRefusesWhatCanNeverRun) {
  LlmLimits limits = FakeLimits(/*blocks=*/10);  // 40 tokens
  limits.max_context = 60;
  Make(limits);
  const auto submit = [&](LlmRequest r) {
    auto place = engine_->port()->Reserve({}, {0});
    return engine_->port()->Submit(std::move(*place), std::move(r), std::make_shared<RecordingSink>()).status();
  };
  EXPECT_EQ(GetReason(submit(Request(50, 11))), "CONTEXT_TOO_LONG");
  EXPECT_EQ(submit(Request(60, 0)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(submit(Request(30, 12))), "EXCEEDS_CAPACITY");
  EXPECT_EQ(submit(Request(30, 12)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(submit(Request(0, 1))), "FIELD_INVALID");
  EXPECT_EQ(GetField(submit(Request(1, 1, /*first=*/1000))), "input");
  LlmRequest late = Request(1, 1);
  late.deadline = now;
  EXPECT_EQ(GetReason(submit(late)), "EXPIRED_IN_QUEUE");
  EXPECT_TRUE(submit(Request(30, 11)).ok());
  Deliver();
  RunToTheEnd();
  engine_->port()->StartDraining();
  EXPECT_EQ(GetReason(engine_->port()->Reserve({}, {1}).status()), "DRAINING");
}

// A config may claim any context; tables are as long as the pool.
TEST_F(LlmEngineTest, ContextBeyondThePoolTakesNoMemory) {
  LlmLimits limits = FakeLimits(/*blocks=*/10);
  limits.max_context = int64_t{1} << 50;
  Make(limits);
  auto sink = Submit(Request(30, 11));  // as much as the pool holds, and the last token, which needs no place
  RunToTheEnd();
  EXPECT_EQ(sink->ids.size(), 11u);
}

TEST_F(LlmEngineTest, RecordEndedCountsARequestThatNeverReachedTheWorker) {
  Make(FakeLimits(10));
  LlmRequest r = Request(3, 1);
  engine_->port()->RecordEnded(r, WithReason(absl::InvalidArgumentError("no"), "FIELD_INVALID"));
  EXPECT_EQ(observer_->ended[r.id], 1);
  EXPECT_EQ(observer_->reasons["FIELD_INVALID"], 1);
}

TEST_F(LlmEngineTest, AReaderThatIsReadyAgainIsWorkThatWaits) {
  Make(FakeLimits(10));
  auto sink = std::make_shared<RecordingSink>();
  sink->on_delta = [] { return LlmSink::Flow::kFull; };
  auto control = Submit(Request(3, 9), sink);
  RunToTheEnd();
  EXPECT_EQ(engine_->port()->step_age(), Duration::zero());
  control->ReaderReady();
  Deliver();
  now += seconds(4);  // and no step comes
  EXPECT_EQ(engine_->port()->step_age(), seconds(4));
}

TEST_F(LlmEngineTest, StepAgeGrowsOnlyWhileWorkWaits) {
  Make(FakeLimits(10));
  LlmPort& port = *engine_->port();
  now += seconds(5);
  EXPECT_EQ(port.step_age(), Duration::zero());
  auto sink = Submit(Request(3, 2));
  now += seconds(3);
  EXPECT_EQ(port.step_age(), seconds(3));
  engine_->Run();
  EXPECT_EQ(port.step_age(), Duration::zero());
  now += seconds(2);
  EXPECT_EQ(port.step_age(), seconds(2));
  RunToTheEnd();
  now += seconds(9);
  EXPECT_EQ(port.step_age(), Duration::zero());
}

}  // namespace
}  // namespace quantd
