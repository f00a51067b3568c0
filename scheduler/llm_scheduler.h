// LlmScheduler: which sequences run in the next step. A pure state machine: events and `now` in, plans and endings out;
// no thread, lock, clock or device. One engine owns it and calls it from one thread.
//
// A sequence has `computed` tokens in the KV cache and must catch up with all of its tokens (vLLM V1's rule): decoding,
// prompt chunks, prefix hits and resuming after a preemption are all that one idea. A step hands out its token budget
// to sequences that are one token behind first, then to chunks of longer ones.
//
// Order and ageing. Requests are served by class, then by arrival. A request's class is its priority less one for each
// whole `ageing` since it arrived, at best kInteractive. So from arrival + class * ageing on nothing that arrived later
// is started before it: it waits for earlier arrivals and for what already runs, no longer. The head of the queue is
// never overtaken because a smaller request would fit.
//
// Blocks. A sequence gets the blocks of all its tokens when it is admitted and one more whenever decoding crosses into
// it. Where none is left, some sequence gives all of its blocks back and is recomputed later: first one whose reader is
// full, then by worst class, then by least work lost. Never the protected one: the first in order of all whose reader
// is not full, so that somebody always finishes. After `max_preemptions` a request is admitted again only with all the
// blocks that it can ever need, and is not a victim any more (slow readers excepted, at their own expense).
//
// A sequence whose reader is full keeps its blocks, is skipped by steps and takes no place among max_sequences. There
// may be `max_paused` of them; the one that was not read for longest ends when one more comes.
//
// Memory. All that a sequence can ever need here is allocated by Submitted, which takes the sequence whole or, where an
// allocation fails, throws and has changed nothing. Whatever comes afterwards allocates nothing: no plan, step or end
// can fail for memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "kernels/ragged_batch.h"
#include "scheduler/block_manager.h"
#include "scheduler/request.h"

namespace quantd {

using SequenceId = uint64_t;

struct SchedulerOptions {
  int64_t max_batch_tokens = 512;  // of a step
  int64_t max_sequences = 16;      // in a step
  int64_t max_context = 0;         // tokens of prompt and output together
  int64_t kv_blocks = 0;
  int block_tokens = kKvBlockTokens;
  Duration ageing = std::chrono::seconds(10);
  int max_preemptions = 2;
  int64_t max_paused = 256;

  // Most tokens of one sequence: the last one that is chosen is never computed, so it needs no place in the cache.
  int64_t max_sequence_tokens() const { return std::min(max_context, kv_blocks * block_tokens + 1); }
};

struct SequenceSpec {
  SequenceId id = 0;  // never used twice
  Priority priority = Priority::kStandard;
  std::vector<int32_t> prompt;  // at least one token
  int64_t max_new_tokens = 0;   // 0 = up to max_sequence_tokens; prompt + max_new_tokens is at most that
  CacheSalt cache_salt;
  bool bypass_prefix_cache = false;
  TimePoint arrival{};
  std::optional<TimePoint> deadline;   // hard: never starts at or after it, ends running at it
  std::optional<TimePoint> start_by;   // from max_queue_time
  std::optional<TimePoint> finish_by;  // soft, from time_limit
};

// One sampled token, in the order of the plan's sequences that want one.
struct StepOutput {
  SequenceId id = 0;
  int32_t token = -1;    // -1: the logits were not finite
  bool stopped = false;  // an end token or a stop text, which only the engine knows
};

struct Submitted {
  SequenceSpec spec;
};
struct Cancelled {
  SequenceId id = 0;
};
struct Expired {  // its deadline has passed by its client's clock
  SequenceId id = 0;
};
struct ReaderBlocked {
  SequenceId id = 0;
};
struct ReaderReady {
  SequenceId id = 0;
};
struct StepDone {
  bool ok = true;  // false: every sequence of the step ends, and none of its tokens counts as computed
  std::span<const StepOutput> outputs;
};
// Events about a sequence that has ended are ignored.
using Event = std::variant<Submitted, Cancelled, Expired, ReaderBlocked, ReaderReady, StepDone>;

enum class EndCause : uint8_t {
  kStopped,
  kMaxTokens,
  kContextFull,
  kTimeLimit,  // these are successes
  kCancelled,
  kExpiredInQueue,
  kExpiredRunning,
  kQueueTimeout,
  kSlowReader,
  kNotFinite,
  kStepFailed,
};

struct Ended {
  SequenceId id = 0;
  EndCause cause = EndCause::kStopped;
  int64_t cached_tokens = 0, new_tokens = 0;
  int32_t preemptions = 0;
};
using Actions = std::vector<Ended>;  // its blocks are free already

struct PlannedSequence {
  SequenceId id = 0;
  int64_t first = 0;                // position of the first token
  std::span<const int32_t> tokens;  // valid until StepDone
  std::span<const int32_t> block_table;
  bool wants_token = false;          // the step computes its last token
  std::span<const int32_t> context;  // prompt and output so far; valid until StepDone
};

struct StepPlan {
  std::vector<PlannedSequence> sequences;
  int64_t tokens = 0;
  struct Started {
    SequenceId id;
    int64_t cached_tokens;  // of the prompt
    bool looked_up;         // false: it bypasses the prefix cache
  };
  std::vector<Started> started;  // their first step
  struct Preempted {
    SequenceId id;
    int64_t lost_tokens;
  };
  std::vector<Preempted> preempted;

  bool empty() const { return sequences.empty(); }
};

// What the next step would be, for the choice between engines.
struct StepOffer {
  Priority priority = Priority::kStandard;  // best class, after ageing
  int64_t tokens = 0;                       // about
  std::optional<TimePoint> deadline;        // earliest
};

class LlmScheduler {
 public:
  explicit LlmScheduler(const SchedulerOptions& options);
  ~LlmScheduler();

  // Who has ended by it; valid until the next call of On or Tick.
  const Actions& On(Event event);
  // What time alone brings: deadlines, queue times, time limits. As On.
  const Actions& Tick(TimePoint now);
  // When Tick has something to do.
  std::optional<TimePoint> NextWakeup() const;
  // Nothing where no step could be planned. Otherwise Plan is not empty.
  std::optional<StepOffer> Peek(TimePoint now) const;
  // Between a Plan that was not empty and its StepDone.
  bool in_step() const { return in_step_; }
  // Call Tick(now) before: a plan holds nobody whose deadline has passed. Until StepDone no other event may come. Valid
  // until the next call. An empty plan wants no StepDone.
  const StepPlan& Plan(TimePoint now);

  const BlockManager& blocks() const { return blocks_; }
  const SchedulerOptions& options() const { return options_; }
  int64_t running() const { return static_cast<int64_t>(running_.size() + paused_.size()); }
  int64_t free_places() const;  // of max_sequences
  // Those of this priority and better ones.
  int64_t waiting(Priority worst = Priority::kBatch) const;
  int64_t waiting_tokens(Priority worst = Priority::kBatch) const;
  std::optional<TimePoint> oldest_waiting() const;
  size_t live() const { return sequences_.size(); }

 private:
  struct Sequence;
  // By arrival, then by order of submission.
  struct QueueKey {
    TimePoint arrival;
    SequenceId id;
    Sequence* sequence;
    bool operator<(const QueueKey& o) const { return std::pair(arrival, id) < std::pair(o.arrival, o.id); }
  };

  void Submit(SequenceSpec spec);
  void Reserve(size_t sequences);
  void Block(Sequence& s);
  void Unblock(Sequence& s);
  void Expire(Sequence& s);
  void FinishStep(const StepDone& done);
  void End(Sequence& s, EndCause cause);

  int ClassAt(const Sequence& s, TimePoint now) const;
  bool Before(const Sequence& a, const Sequence& b, TimePoint now) const;
  Sequence* QueueHead(TimePoint now) const;
  const Sequence* Protected(TimePoint now) const;
  Sequence* FindVictim(TimePoint now) const;
  void Preempt(Sequence& victim);
  bool SecureDecodes(TimePoint now);
  void Admit(TimePoint now);
  bool Place(Sequence& s);
  void FillStep();

  void Enqueue(Sequence& s);
  void Dequeue(Sequence& s);
  void SetTimer(Sequence& s);
  void ClearTimer(Sequence& s);

  SchedulerOptions options_;
  BlockManager blocks_;
  // std's tables are whole after an allocation that fails; nodes of the sets are made once for each sequence.
  using Queue = std::set<QueueKey>;
  using Timers = std::set<std::pair<TimePoint, SequenceId>>;
  std::unordered_map<SequenceId, std::unique_ptr<Sequence>> sequences_;
  std::array<Queue, kNumPriorities> queues_;  // by priority; within one, whoever is older has aged more
  std::vector<Sequence*> running_;  // hold blocks, reader ready; may exceed max_sequences when readers come back
  std::vector<Sequence*> paused_;   // reader full, longest first; with blocks or, once preempted, without
  Timers timers_;                   // the next one of each sequence
  std::array<int64_t, kNumPriorities> waiting_tokens_{};  // by priority
  StepPlan plan_;
  Actions ended_;  // by the last event
  bool in_step_ = false;
};

}  // namespace quantd
