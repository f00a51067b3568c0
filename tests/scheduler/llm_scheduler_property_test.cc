// Random orders of every event against the promises of llm_scheduler.h. Set QUANTD_TEST_SEED to repeat a run.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "scheduler/llm_scheduler.h"
#include "tests/testing/allocation_counter.h"

namespace quantd {
namespace {

using std::chrono::milliseconds;

// What the scheduler says of anything but Submitted, which alone may allocate.
template <typename Call>
const auto& WithoutMemory(const Call& call) {
  const int64_t before = allocation_count;
  const auto* result = call();
  EXPECT_EQ(allocation_count, before);
  return *result;
}

class World {
 public:
  World(uint64_t seed, const SchedulerOptions& options) : rng_(seed), options_(options), scheduler_(options) {}

  // One random event. False after a failed expectation.
  bool OneEvent() {
    const int dice = Random(0, 99);
    if (dice < 22) {
      Submit();
    } else if (dice < 27) {
      if (const SequenceId id = Anyone()) Note(Chance(50) ? Tell(Cancelled{id}) : Tell(Expired{id}));
    } else if (dice < 33) {
      if (const SequenceId id = AnyoneStarted()) {
        live_.at(id).blocked = true;
        Note(Tell(ReaderBlocked{id}));
      }
    } else if (dice < 41) {
      if (const SequenceId id = Anyone()) Ready(id);
    } else if (dice < 50) {
      now_ += milliseconds(Random(0, 400));
      Note(WithoutMemory([&] { return &scheduler_.Tick(now_); }));
    } else {
      Step();
    }
    Check();
    return !testing::Test::HasFailure();
  }

  // No more requests come and every reader reads: everybody must end.
  void Drain() {
    for (const auto& [id, r] : std::map(live_)) Ready(id);
    int steps = 0;
    while (scheduler_.Peek(now_) && !testing::Test::HasFailure()) {
      Step();
      ASSERT_LT(++steps, 100000) << "nobody ends any more";
    }
    EXPECT_TRUE(live_.empty());
    EXPECT_EQ(scheduler_.live(), 0u);
    EXPECT_FALSE(scheduler_.NextWakeup());
    EXPECT_EQ(scheduler_.blocks().cached() + scheduler_.blocks().free(), scheduler_.blocks().total());
    EXPECT_EQ(scheduler_.waiting_tokens(), 0);
    EXPECT_EQ(ended_.size(), submitted_);
  }

  size_t submitted() const { return submitted_; }
  int64_t preemptions = 0, hits = 0, chunks = 0, failures = 0, full = 0;
  std::map<EndCause, int> causes;

 private:
  struct Live {
    Priority priority;
    TimePoint arrival;
    std::optional<TimePoint> deadline, start_by;
    bool started = false, blocked = false;
  };

  int Random(int low, int high) { return std::uniform_int_distribution(low, high)(rng_); }
  bool Chance(int percent) { return Random(1, 100) <= percent; }

  void Submit() {
    SequenceSpec spec;
    spec.id = ++last_id_;
    spec.priority = static_cast<Priority>(Random(0, 2));
    const int64_t most = options_.max_sequence_tokens();
    const int prompt = Random(1, static_cast<int>(Chance(80) ? std::min<int64_t>(30, most - 1) : most - 1));
    const int family = Random(0, 2);  // prompts of a family share their beginnings
    for (int i = 0; i < prompt; ++i) spec.prompt.push_back(i < Random(8, 20) ? family : Random(0, 2));
    if (Chance(85)) spec.max_new_tokens = Random(1, std::min(40, static_cast<int>(most) - prompt));
    spec.cache_salt = CacheSalt(Chance(20) ? "other" : "");
    spec.bypass_prefix_cache = Chance(10);
    spec.arrival = now_;
    if (Chance(15)) spec.deadline = now_ + milliseconds(Random(-10, 3000));
    if (Chance(10)) spec.start_by = now_ + milliseconds(Random(0, 1000));
    if (Chance(10)) spec.finish_by = now_ + milliseconds(Random(0, 3000));
    live_[spec.id] = {spec.priority, spec.arrival, spec.deadline, spec.start_by};
    ++submitted_;
    scheduler_.On(Submitted{std::move(spec)});
  }

  SequenceId Anyone() {
    if (live_.empty()) return 0;
    return std::next(live_.begin(), Random(0, static_cast<int>(live_.size()) - 1))->first;
  }
  SequenceId AnyoneStarted() {
    const SequenceId id = Anyone();
    return id != 0 && live_.at(id).started ? id : 0;
  }
  const Actions& Tell(const Event& event) {
    return WithoutMemory([&] { return &scheduler_.On(event); });
  }
  void Ready(SequenceId id) {
    Tell(ReaderReady{id});
    live_.at(id).blocked = false;
  }

  void Note(const Actions& actions) {
    for (const Ended& e : actions) {
      EXPECT_TRUE(ended_.insert(e.id).second) << "ended twice";
      EXPECT_EQ(live_.erase(e.id), 1u);
      ++causes[e.cause];
    }
  }

  void Step() {
    now_ += milliseconds(Random(0, 20));
    Note(WithoutMemory([&] { return &scheduler_.Tick(now_); }));
    const bool offered = scheduler_.Peek(now_).has_value();
    const StepPlan& plan = WithoutMemory([&] { return &scheduler_.Plan(now_); });
    EXPECT_EQ(offered, !plan.empty());
    preemptions += static_cast<int64_t>(plan.preempted.size());
    CheckPlan(plan);
    if (plan.empty()) return;
    const bool ok = !Chance(1);
    std::vector<StepOutput> outputs;
    for (const PlannedSequence& s : plan.sequences) {
      if (ok && s.wants_token) outputs.push_back({s.id, Chance(1) ? -1 : Random(0, 2), Chance(3)});
    }
    failures += !ok;
    Note(Tell(StepDone{ok, outputs}));
  }

  void CheckPlan(const StepPlan& plan) {
    EXPECT_LE(plan.tokens, options_.max_batch_tokens);
    EXPECT_LE(static_cast<int64_t>(plan.sequences.size()), options_.max_sequences);
    std::map<int32_t, SequenceId> writers;  // of blocks
    std::set<SequenceId> in_plan;
    int64_t tokens = 0;
    for (const PlannedSequence& s : plan.sequences) {
      EXPECT_TRUE(in_plan.insert(s.id).second);
      const Live& r = live_.at(s.id);
      EXPECT_FALSE(r.blocked);
      EXPECT_FALSE(r.deadline && *r.deadline <= now_) << "an expired request runs";
      const int64_t count = static_cast<int64_t>(s.tokens.size());
      EXPECT_GT(count, 0);
      tokens += count;
      chunks += !s.wants_token;
      EXPECT_EQ(static_cast<int64_t>(s.block_table.size()), scheduler_.blocks().BlocksFor(s.first + count));
      for (int64_t b = s.first / options_.block_tokens; b < static_cast<int64_t>(s.block_table.size()); ++b) {
        EXPECT_TRUE(writers.emplace(s.block_table[static_cast<size_t>(b)], s.id).second) << "two write one block";
      }
    }
    for (const PlannedSequence& s : plan.sequences) {
      for (int32_t block : s.block_table) {
        const auto it = writers.find(block);
        EXPECT_TRUE(it == writers.end() || it->second == s.id) << "one reads what another writes";
      }
    }
    EXPECT_EQ(tokens, plan.tokens);
    for (const StepPlan::Started& s : plan.started) {
      EXPECT_TRUE(in_plan.contains(s.id));
      hits += s.cached_tokens > 0;
      CheckNotOvertaking(s.id, plan);
    }
    for (const StepPlan::Started& s : plan.started) live_.at(s.id).started = true;
  }

  // The ageing bound: nobody starts before an earlier arrival that has aged to the best class.
  void CheckNotOvertaking(SequenceId id, const StepPlan& plan) {
    const Live& starts = live_.at(id);
    for (const auto& [other, r] : live_) {
      if (r.started || std::pair(r.arrival, other) >= std::pair(starts.arrival, id)) continue;
      if (now_ < r.arrival + static_cast<int>(r.priority) * options_.ageing) continue;
      const bool starts_too =
          std::any_of(plan.started.begin(), plan.started.end(), [&](const auto& s) { return s.id == other; });
      EXPECT_TRUE(starts_too) << id << " started before " << other << ", which had waited its ageing bound";
    }
  }

  void Check() {
    const BlockManager& b = scheduler_.blocks();
    EXPECT_EQ(b.used() + b.cached() + b.free(), b.total());
    EXPECT_GE(b.free(), 0);
    EXPECT_GE(b.cached(), 0);
    EXPECT_EQ(scheduler_.live(), live_.size());
    full += b.available() == 0;
  }

  std::mt19937_64 rng_;
  const SchedulerOptions options_;
  LlmScheduler scheduler_;
  TimePoint now_{std::chrono::hours(1)};
  SequenceId last_id_ = 0;
  size_t submitted_ = 0;
  std::map<SequenceId, Live> live_;
  std::set<SequenceId> ended_;
};

TEST(LlmSchedulerProperty, NoLeakNoDeadlockEveryRequestEndsOnce) {
  const char* given = std::getenv("QUANTD_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::cout << "seed " << seed << std::endl;
  std::mt19937_64 rng(seed);
  constexpr int kWorlds = 60, kEvents = 2500;  // 150,000 events
  int64_t preemptions = 0, hits = 0, chunks = 0, failures = 0, full = 0;
  size_t submitted = 0;
  std::map<EndCause, int> causes;
  for (int w = 0; w < kWorlds; ++w) {
    SchedulerOptions options;
    options.block_tokens = 4;
    options.kv_blocks = 6 + static_cast<int64_t>(rng() % 40);
    options.max_context = 60 + static_cast<int64_t>(rng() % 100);
    options.max_batch_tokens = 1 + static_cast<int64_t>(rng() % 40);
    options.max_sequences = 1 + static_cast<int64_t>(rng() % 10);
    options.ageing = milliseconds(100 + rng() % 1000);
    options.max_preemptions = static_cast<int>(rng() % 4);
    options.max_paused = 1 + static_cast<int64_t>(rng() % 6);
    SCOPED_TRACE(testing::Message() << "world " << w << " of seed " << seed);
    World world(rng(), options);
    for (int i = 0; i < kEvents; ++i) ASSERT_TRUE(world.OneEvent()) << "event " << i;
    world.Drain();
    ASSERT_FALSE(HasFailure());
    preemptions += world.preemptions, hits += world.hits, chunks += world.chunks, failures += world.failures;
    full += world.full, submitted += world.submitted();
    for (const auto& [cause, n] : world.causes) causes[cause] += n;
  }
  std::cout << submitted << " requests, " << preemptions << " preemptions, " << hits << " prefix hits, " << chunks
            << " chunks, " << failures << " failed steps, " << full << " times no block left\n";
  // What was to be tried did happen.
  EXPECT_GT(preemptions, 100);
  EXPECT_GT(hits, 100);
  EXPECT_GT(chunks, 100);
  EXPECT_GT(failures, 10);
  EXPECT_GT(full, 100);
  EXPECT_EQ(causes.size(), 11u) << "an end cause never came up";
}

}  // namespace
}  // namespace quantd
