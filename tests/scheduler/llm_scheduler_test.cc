#include "scheduler/llm_scheduler.h"

#include <map>
#include <numeric>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace quantd {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;

// A scheduler with a manual clock and a model that always says 7.
class LlmSchedulerTest : public testing::Test {
 protected:
  void Make(const SchedulerOptions& options) { s_ = std::make_unique<LlmScheduler>(options); }
  static SchedulerOptions Options(int64_t blocks, int64_t batch = 64, int64_t sequences = 8) {
    SchedulerOptions o;
    o.kv_blocks = blocks;
    o.block_tokens = 4;
    o.max_batch_tokens = batch;
    o.max_sequences = sequences;
    o.max_context = 1000;
    return o;
  }
  SequenceSpec Spec(int64_t prompt, int64_t max_new, Priority priority = Priority::kStandard) {
    SequenceSpec spec;
    spec.id = ++last_id_;
    spec.priority = priority;
    spec.prompt.resize(static_cast<size_t>(prompt));
    std::iota(spec.prompt.begin(), spec.prompt.end(), static_cast<int32_t>(spec.id) * 10000);
    spec.max_new_tokens = max_new;
    spec.arrival = now_;
    return spec;
  }
  SequenceId Submit(SequenceSpec spec) {
    const SequenceId id = spec.id;
    s_->On(Submitted{std::move(spec)});
    return id;
  }
  SequenceId Submit(int64_t prompt, int64_t max_new, Priority priority = Priority::kStandard) {
    return Submit(Spec(prompt, max_new, priority));
  }
  void Note(const Actions& actions) {
    for (const Ended& e : actions) EXPECT_TRUE(ended_.emplace(e.id, e).second) << "ended twice: " << e.id;
  }
  void Tick() { Note(s_->Tick(now_)); }
  const StepPlan& Plan() { return plan_ = &s_->Plan(now_), *plan_; }
  void Done(bool ok = true) {
    std::vector<StepOutput> outputs;
    for (const PlannedSequence& p : plan_->sequences) {
      if (ok && p.wants_token) outputs.push_back({p.id, 7, false});
    }
    Note(s_->On(StepDone{ok, outputs}));
  }
  // (id, tokens) of the next step, which succeeds.
  std::vector<std::pair<SequenceId, size_t>> Step() {
    Tick();
    std::vector<std::pair<SequenceId, size_t>> ran;
    for (const PlannedSequence& p : Plan().sequences) ran.emplace_back(p.id, p.tokens.size());
    if (!plan_->empty()) Done();
    return ran;
  }
  std::optional<EndCause> CauseOf(SequenceId id) const {
    const auto it = ended_.find(id);
    return it == ended_.end() ? std::nullopt : std::optional(it->second.cause);
  }
  void RunToTheEnd(int limit = 10000) {
    while (s_->Peek(now_)) {
      ASSERT_FALSE(Step().empty());
      ASSERT_GT(--limit, 0);
    }
  }
  void ExpectAllBlocksBack() {
    EXPECT_EQ(s_->live(), 0u);
    EXPECT_EQ(s_->blocks().cached() + s_->blocks().free(), s_->blocks().total());
  }

  std::unique_ptr<LlmScheduler> s_;
  TimePoint now_{seconds(1000)};
  SequenceId last_id_ = 0;
  const StepPlan* plan_ = nullptr;
  std::map<SequenceId, Ended> ended_;
};

TEST_F(LlmSchedulerTest, DecodesComeFirstThenPromptChunksWithinTheBudget) {
  Make(Options(100, /*batch=*/10));
  const auto a = Submit(3, 10);
  EXPECT_THAT(Step(), ElementsAre(std::pair(a, 3)));
  const auto b = Submit(25, 10), c = Submit(4, 10);
  EXPECT_THAT(Step(), ElementsAre(std::pair(a, 1), std::pair(b, 9)));
  EXPECT_THAT(Step(), ElementsAre(std::pair(a, 1), std::pair(b, 9)));
  EXPECT_THAT(Step(), ElementsAre(std::pair(a, 1), std::pair(b, 7), std::pair(c, 2)));
  EXPECT_THAT(Step(), ElementsAre(std::pair(a, 1), std::pair(b, 1), std::pair(c, 2)));
  RunToTheEnd();
  ExpectAllBlocksBack();
}

TEST_F(LlmSchedulerTest, PlansPositionsTokensAndBlocksOfAChunk) {
  Make(Options(100, /*batch=*/6));
  const auto a = Submit(9, 3);
  Step();
  const PlannedSequence p = Plan().sequences.at(0);
  EXPECT_EQ(p.first, 6);
  EXPECT_THAT(std::vector(p.tokens.begin(), p.tokens.end()), ElementsAre(a * 10000 + 6, a * 10000 + 7, a * 10000 + 8));
  EXPECT_EQ(p.block_table.size(), 3u);
  EXPECT_TRUE(p.wants_token);
  Done();
  const PlannedSequence decode = Plan().sequences.at(0);
  EXPECT_THAT(std::vector(decode.tokens.begin(), decode.tokens.end()), ElementsAre(7));
  EXPECT_EQ(decode.first, 9);
  Done();
}

TEST_F(LlmSchedulerTest, EndsAtMaxNewTokensAndAtTheContext) {
  SchedulerOptions options = Options(100);
  options.max_context = 20;
  Make(options);
  const auto a = Submit(5, 3), b = Submit(5, 0);
  RunToTheEnd();
  EXPECT_EQ(CauseOf(a), EndCause::kMaxTokens);
  EXPECT_EQ(ended_.at(a).new_tokens, 3);
  EXPECT_EQ(CauseOf(b), EndCause::kContextFull);
  EXPECT_EQ(ended_.at(b).new_tokens, 15);
}

TEST_F(LlmSchedulerTest, AnOpenEndedRequestMayFillTheWholeCache) {
  Make(Options(5));
  const auto a = Submit(6, 0);
  RunToTheEnd();
  EXPECT_EQ(CauseOf(a), EndCause::kContextFull);
  EXPECT_EQ(ended_.at(a).new_tokens, 5 * 4 + 1 - 6);
  ExpectAllBlocksBack();
}

TEST_F(LlmSchedulerTest, ClassesAreServedInOrderAndWithinAClassByArrival) {
  Make(Options(100, 64, /*sequences=*/1));
  const auto batch = Submit(4, 1, Priority::kBatch), s1 = Submit(4, 1), s2 = Submit(4, 1),
             interactive = Submit(4, 1, Priority::kInteractive);
  std::vector<SequenceId> order;
  while (s_->Peek(now_)) order.push_back(Step().at(0).first);
  EXPECT_THAT(order, ElementsAre(interactive, s1, s2, batch));
}

// Ageing bound of a request of class c: c * ageing after its arrival nothing that arrived later starts before it.
TEST_F(LlmSchedulerTest, NobodyWaitsLongerThanTheAgeingBound) {
  for (const Priority priority : {Priority::kStandard, Priority::kBatch}) {
    SchedulerOptions options = Options(100, 64, /*sequences=*/1);
    options.ageing = seconds(10);
    Make(options);
    const auto old = Submit(4, 1, priority);
    const TimePoint bound = now_ + static_cast<int>(priority) * options.ageing;
    SequenceId started = 0;
    int steps = 0;
    while (started != old) {  // a new interactive request before every step: it would wait for ever without ageing
      Submit(4, 1, Priority::kInteractive);
      started = Step().at(0).first;
      now_ += milliseconds(100);
      ASSERT_LT(++steps, 1000);
    }
    // Ahead of it at the bound: at most the one interactive request that arrived with it.
    EXPECT_LE(now_, bound + milliseconds(300));
    EXPECT_GE(now_, bound);
  }
}

TEST_F(LlmSchedulerTest, TheHeadOfTheQueueIsNotOvertakenBySmallerRequests) {
  Make(Options(10));
  const auto a = Submit(28, 4);  // 8 blocks with its output
  Step();
  const auto big = Submit(20, 1), small = Submit(2, 1);
  std::vector<SequenceId> order;
  while (s_->Peek(now_)) {
    for (const auto& [id, n] : Step()) {
      if (order.empty() || order.back() != id) order.push_back(id);
    }
  }
  EXPECT_EQ(CauseOf(a), EndCause::kMaxTokens);
  EXPECT_THAT(order, ElementsAre(a, big, small));
}

TEST_F(LlmSchedulerTest, ADeadlineInTheQueueMeansItNeverStarts) {
  Make(Options(100, 64, 1));
  Submit(4, 50);
  Step();
  SequenceSpec spec = Spec(4, 1);
  spec.deadline = now_ + seconds(1);
  const auto b = Submit(spec);
  Step();
  now_ += seconds(1);
  for (const auto& [id, n] : Step()) EXPECT_NE(id, b);
  EXPECT_EQ(CauseOf(b), EndCause::kExpiredInQueue);
}

TEST_F(LlmSchedulerTest, ADeadlineFiresWhenNothingElseHappens) {
  Make(Options(100));
  SequenceSpec spec = Spec(4, 50);
  spec.deadline = now_ + seconds(3);
  const auto a = Submit(spec);
  Step();
  s_->On(ReaderBlocked{a});  // nothing to run any more
  EXPECT_FALSE(s_->Peek(now_));
  ASSERT_EQ(s_->NextWakeup(), now_ + seconds(3));
  now_ = *s_->NextWakeup();
  Tick();
  EXPECT_EQ(CauseOf(a), EndCause::kExpiredRunning);
  EXPECT_FALSE(s_->NextWakeup());
  ExpectAllBlocksBack();
}

TEST_F(LlmSchedulerTest, MaxQueueTimeCountsUntilTheFirstStepOnly) {
  Make(Options(100, 64, 1));
  SequenceSpec a = Spec(4, 5), b = Spec(4, 5);
  a.start_by = b.start_by = now_ + seconds(1);
  const auto ida = Submit(a), idb = Submit(b);
  Step();
  now_ += seconds(1);
  Step();
  EXPECT_EQ(CauseOf(idb), EndCause::kQueueTimeout);
  EXPECT_FALSE(CauseOf(ida));
  RunToTheEnd();
  EXPECT_EQ(CauseOf(ida), EndCause::kMaxTokens);
}

TEST_F(LlmSchedulerTest, ATimeLimitEndsWell) {
  Make(Options(100));
  SequenceSpec spec = Spec(4, 50);
  spec.finish_by = now_ + seconds(2);
  const auto a = Submit(spec);
  Step();
  Step();
  now_ += seconds(2);
  Tick();
  EXPECT_EQ(CauseOf(a), EndCause::kTimeLimit);
  EXPECT_EQ(ended_.at(a).new_tokens, 2);
}

TEST_F(LlmSchedulerTest, ACancelledRequestFreesItsBlocksAtOnce) {
  Make(Options(100));
  const auto a = Submit(40, 50), b = Submit(4, 50);
  Step();
  const int64_t used = s_->blocks().used();
  Note(s_->On(Cancelled{a}));
  EXPECT_EQ(s_->blocks().used(), used - 10);
  EXPECT_EQ(CauseOf(a), EndCause::kCancelled);
  Note(s_->On(Cancelled{a}));  // ignored
  EXPECT_THAT(Step(), ElementsAre(std::pair(b, 1)));
}

TEST_F(LlmSchedulerTest, ARequestExpiresWhenItsClientSaysSo) {
  Make(Options(100, 64, /*sequences=*/1));
  const auto running = Submit(4, 50), waiting = Submit(4, 50);
  Step();
  Note(s_->On(Expired{running}));
  Note(s_->On(Expired{waiting}));
  EXPECT_EQ(CauseOf(running), EndCause::kExpiredRunning);
  EXPECT_EQ(CauseOf(waiting), EndCause::kExpiredInQueue);
  ExpectAllBlocksBack();
}

TEST_F(LlmSchedulerTest, TheSlowestReaderEndsWhereTooManyAreFull) {
  SchedulerOptions options = Options(100);
  options.max_paused = 2;
  Make(options);
  const auto a = Submit(4, 50), b = Submit(4, 50), c = Submit(4, 50), d = Submit(4, 50);
  Step();
  for (const auto id : {b, a}) Note(s_->On(ReaderBlocked{id}));
  Note(s_->On(ReaderReady{b}));
  Note(s_->On(ReaderBlocked{b}));
  EXPECT_TRUE(ended_.empty());
  Note(s_->On(ReaderBlocked{c}));
  EXPECT_EQ(CauseOf(a), EndCause::kSlowReader) << "b was read since";
  EXPECT_EQ(ended_.size(), 1u);
  EXPECT_THAT(Step(), ElementsAre(std::pair(d, 1)));
}

TEST_F(LlmSchedulerTest, PreemptsTheWorstClassThenTheLeastWork) {
  Make(Options(9));
  const auto a = Submit(8, 20), b = Submit(4, 20, Priority::kBatch), c = Submit(8, 20);
  Step();  // blocks: a 2, b 1, c 2
  std::vector<SequenceId> preempted;
  while (preempted.size() < 2) {
    Tick();
    for (const auto& p : Plan().preempted) preempted.push_back(p.id);
    Done();
  }
  EXPECT_EQ(preempted[0], b);
  EXPECT_EQ(preempted[1], c);  // never a: it is the first of the best class
  RunToTheEnd();
  for (const auto id : {a, b, c}) EXPECT_EQ(CauseOf(id), EndCause::kMaxTokens);
  ExpectAllBlocksBack();
}

TEST_F(LlmSchedulerTest, AFullReaderIsTheFirstVictimAndCostsItsOwnSequenceOnly) {
  Make(Options(6));
  const auto first = Submit(8, 12), other = Submit(4, 8);
  Step();
  s_->On(ReaderBlocked{first});  // the oldest, with the most work
  std::vector<SequenceId> preempted;
  Submit(8, 4);
  for (int i = 0; i < 30 && s_->Peek(now_); ++i) {
    Tick();
    for (const auto& p : Plan().preempted) preempted.push_back(p.id);
    for (const auto& p : plan_->sequences) EXPECT_NE(p.id, first);
    Done();
  }
  EXPECT_THAT(preempted, ElementsAre(first));
  EXPECT_EQ(CauseOf(other), EndCause::kMaxTokens);
  EXPECT_FALSE(s_->Peek(now_));
  s_->On(ReaderReady{first});
  RunToTheEnd();
  EXPECT_EQ(CauseOf(first), EndCause::kMaxTokens);
  EXPECT_EQ(ended_.at(first).preemptions, 1);
  ExpectAllBlocksBack();
}

TEST_F(LlmSchedulerTest, AFullReaderKeepsItsBlocksAndTakesNoPlaceInTheStep) {
  Make(Options(100, 64, /*sequences=*/1));
  const auto slow = Submit(8, 4);
  Step();
  const int64_t used = s_->blocks().used();
  s_->On(ReaderBlocked{slow});
  const auto b = Submit(4, 2);
  EXPECT_THAT(Step(), ElementsAre(std::pair(b, 4)));
  EXPECT_GT(s_->blocks().used(), used);
  s_->On(ReaderReady{slow});
  EXPECT_THAT(Step(), ElementsAre(std::pair(slow, 1)));  // older, so it goes on first
  RunToTheEnd();
  EXPECT_EQ(ended_.at(slow).preemptions, 0);
}

TEST_F(LlmSchedulerTest, NoDeadlockWhenEveryBlockIsTaken) {
  Make(Options(8, 64, 8));
  for (int i = 0; i < 8; ++i) Submit(3, 25);  // each can fill 7 of the 8 blocks
  int64_t fullest = 0;
  int limit = 10000;
  while (s_->Peek(now_)) {
    ASSERT_FALSE(Step().empty());
    fullest = std::max(fullest, s_->blocks().used());
    ASSERT_GT(--limit, 0);
  }
  EXPECT_EQ(fullest, 8);
  EXPECT_EQ(ended_.size(), 8u);
  for (const auto& [id, e] : ended_) {
    EXPECT_EQ(e.cause, EndCause::kMaxTokens);
    EXPECT_LE(e.preemptions, s_->options().max_preemptions);
  }
  ExpectAllBlocksBack();
}

TEST_F(LlmSchedulerTest, APrefixIsSharedOnceItsStepHasSucceeded) {
  Make(Options(100));
  SequenceSpec a = Spec(12, 2), b = a, c = a, salted = a, bypass = a;
  b.id = ++last_id_, c.id = ++last_id_, salted.id = ++last_id_, bypass.id = ++last_id_;
  salted.cache_salt = CacheSalt("x");
  bypass.bypass_prefix_cache = true;
  Submit(a);
  Submit(b);
  EXPECT_THAT(Step(), ElementsAre(std::pair(a.id, 12), std::pair(b.id, 12)));
  Submit(c);
  Submit(salted);
  Submit(bypass);
  EXPECT_THAT(Step(), testing::IsSupersetOf({std::pair(c.id, size_t{4}), std::pair(salted.id, size_t{12}),
                                             std::pair(bypass.id, size_t{12})}));
  RunToTheEnd();
  EXPECT_EQ(ended_.at(b.id).cached_tokens, 0);
  EXPECT_EQ(ended_.at(c.id).cached_tokens, 8);
}

TEST_F(LlmSchedulerTest, AFailedStepEndsItsRequestsAndSharesNothing) {
  Make(Options(100));
  SequenceSpec a = Spec(12, 2), b = a;
  b.id = ++last_id_;
  Submit(a);
  Plan();
  Done(/*ok=*/false);
  EXPECT_EQ(CauseOf(a.id), EndCause::kStepFailed);
  EXPECT_EQ(s_->blocks().free(), 100);
  Submit(b);
  EXPECT_THAT(Step(), ElementsAre(std::pair(b.id, 12)));
}

TEST_F(LlmSchedulerTest, LogitsThatAreNotFiniteEndOneRequestAlone) {
  Make(Options(100));
  const auto a = Submit(12, 2), b = Submit(4, 2);
  Plan();
  const std::vector<StepOutput> outputs = {{a, -1, false}, {b, 7, false}};
  Note(s_->On(StepDone{true, outputs}));
  EXPECT_EQ(CauseOf(a), EndCause::kNotFinite);
  EXPECT_FALSE(CauseOf(b));
  EXPECT_EQ(s_->blocks().cached(), 0);
}

TEST_F(LlmSchedulerTest, PeekSaysTheBestClassAfterAgeing) {
  Make(Options(100));
  EXPECT_FALSE(s_->Peek(now_));
  Submit(4, 1, Priority::kBatch);
  EXPECT_EQ(s_->Peek(now_)->priority, Priority::kBatch);
  now_ += s_->options().ageing;
  EXPECT_EQ(s_->Peek(now_)->priority, Priority::kStandard);
  EXPECT_EQ(s_->Peek(now_)->tokens, 4);
}

}  // namespace
}  // namespace quantd
