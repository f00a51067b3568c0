#include "scheduler/llm_scheduler.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "base/check.h"

namespace quantd {

struct LlmScheduler::Sequence {
  enum class State : uint8_t { kWaiting, kRunning, kPaused };

  SequenceSpec spec;
  std::vector<int32_t> tokens;  // prompt and output
  int64_t prompt_tokens = 0;
  int64_t max_tokens = 0;  // prompt and output together
  int64_t computed = 0;    // tokens in the cache
  BlockTable blocks;
  State state = State::kWaiting;
  bool started = false;
  int64_t cached_tokens = 0;
  int preemptions = 0;
  int charged_preemptions = 0;  // those that were not its reader's fault
  std::optional<TimePoint> timer;
  // While it stands in no queue and has no timer; a node is never made twice.
  Queue::node_type queue_node;
  Timers::node_type timer_node;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  int64_t behind() const { return size() - computed; }
};

namespace {

// A node that is in no set: to insert it takes no memory.
template <typename Set>
typename Set::node_type NodeOf(typename Set::value_type value) {
  Set set;
  return set.extract(set.insert(std::move(value)).first);
}

// Room for `size` elements. Grows as push_back would.
template <typename T>
void MakeRoom(std::vector<T>& vector, size_t size) {
  if (vector.capacity() < size) vector.reserve(std::max(size, 2 * vector.capacity()));
}

}  // namespace

LlmScheduler::LlmScheduler(const SchedulerOptions& options)
    : options_(options), blocks_(options.kv_blocks, options.block_tokens) {
  QD_CHECK(options.max_batch_tokens > 0 && options.max_sequences > 0 && options.max_context > 1 &&
           options.max_paused > 0);
  plan_.sequences.reserve(static_cast<size_t>(options.max_sequences));
  plan_.started.reserve(static_cast<size_t>(options.max_sequences));
}
LlmScheduler::~LlmScheduler() = default;

const Actions& LlmScheduler::On(Event event) {
  ended_.clear();
  if (auto* done = std::get_if<StepDone>(&event)) {
    FinishStep(*done);
    return ended_;
  }
  QD_CHECK(!in_step_);
  if (auto* submitted = std::get_if<Submitted>(&event)) {
    Submit(std::move(submitted->spec));
    return ended_;
  }
  const auto find = [&](SequenceId id) -> Sequence* {
    const auto it = sequences_.find(id);
    return it == sequences_.end() ? nullptr : it->second.get();
  };
  if (auto* cancelled = std::get_if<Cancelled>(&event)) {
    if (Sequence* s = find(cancelled->id)) End(*s, EndCause::kCancelled);
  } else if (auto* expired = std::get_if<Expired>(&event)) {
    if (Sequence* s = find(expired->id)) Expire(*s);
  } else if (auto* blocked = std::get_if<ReaderBlocked>(&event)) {
    if (Sequence* s = find(blocked->id)) Block(*s);
  } else if (auto* ready = std::get_if<ReaderReady>(&event)) {
    if (Sequence* s = find(ready->id)) Unblock(*s);
  }
  return ended_;
}

// Whatever allocates, then what changes the state.
void LlmScheduler::Submit(SequenceSpec spec) {
  auto owned = std::make_unique<Sequence>();
  Sequence& s = *owned;
  s.prompt_tokens = static_cast<int64_t>(spec.prompt.size());
  s.max_tokens = spec.max_new_tokens > 0 ? s.prompt_tokens + spec.max_new_tokens : options_.max_sequence_tokens();
  QD_CHECK(s.prompt_tokens > 0 && s.prompt_tokens < s.max_tokens && s.max_tokens <= options_.max_sequence_tokens());
  s.tokens = std::move(spec.prompt);
  s.tokens.reserve(static_cast<size_t>(s.max_tokens));
  s.blocks.ids.reserve(static_cast<size_t>(blocks_.BlocksFor(s.max_tokens)));
  s.spec = std::move(spec);
  s.queue_node = NodeOf<Queue>({s.spec.arrival, s.spec.id, &s});
  s.timer_node = NodeOf<Timers>({s.spec.arrival, s.spec.id});
  Reserve(sequences_.size() + 1);
  const bool fresh = sequences_.emplace(s.spec.id, std::move(owned)).second;
  QD_CHECK(fresh);
  Enqueue(s);
  SetTimer(s);
}

// What may hold every sequence at once.
void LlmScheduler::Reserve(size_t sequences) {
  MakeRoom(running_, sequences);
  MakeRoom(paused_, sequences);
  MakeRoom(plan_.preempted, sequences);
  MakeRoom(ended_, sequences);
}

void LlmScheduler::Block(Sequence& s) {
  if (s.state == Sequence::State::kPaused) return;
  if (s.state == Sequence::State::kWaiting) {
    Dequeue(s);
  } else {
    std::erase(running_, &s);
  }
  s.state = Sequence::State::kPaused;
  paused_.push_back(&s);
  if (static_cast<int64_t>(paused_.size()) > options_.max_paused) End(*paused_.front(), EndCause::kSlowReader);
}

void LlmScheduler::Expire(Sequence& s) { End(s, s.started ? EndCause::kExpiredRunning : EndCause::kExpiredInQueue); }

void LlmScheduler::Unblock(Sequence& s) {
  if (s.state != Sequence::State::kPaused) return;
  std::erase(paused_, &s);
  if (s.blocks.ids.empty()) {
    Enqueue(s);
  } else {
    s.state = Sequence::State::kRunning;
    running_.push_back(&s);
  }
}

const Actions& LlmScheduler::Tick(TimePoint now) {
  QD_CHECK(!in_step_);
  ended_.clear();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    Sequence& s = *sequences_.at(timers_.begin()->second);
    const auto passed = [&](const std::optional<TimePoint>& t) { return t.has_value() && *t <= now; };
    if (passed(s.spec.deadline)) {
      Expire(s);
    } else if (!s.started && passed(s.spec.start_by)) {
      End(s, EndCause::kQueueTimeout);
    } else {
      End(s, EndCause::kTimeLimit);
    }
  }
  return ended_;
}

std::optional<TimePoint> LlmScheduler::NextWakeup() const {
  if (timers_.empty()) return std::nullopt;
  return timers_.begin()->first;
}

std::optional<StepOffer> LlmScheduler::Peek(TimePoint now) const {
  const Sequence* first = Protected(now);
  if (first == nullptr) return std::nullopt;
  StepOffer offer;
  offer.priority = static_cast<Priority>(ClassAt(*first, now));
  const auto add = [&](const Sequence& s) {
    offer.tokens += s.behind();
    if (s.spec.deadline && (!offer.deadline || *s.spec.deadline < *offer.deadline)) offer.deadline = s.spec.deadline;
  };
  for (const Sequence* s : running_) add(*s);
  if (const Sequence* head = QueueHead(now)) add(*head);
  offer.tokens = std::min(offer.tokens, options_.max_batch_tokens);
  return offer;
}

const StepPlan& LlmScheduler::Plan(TimePoint now) {
  QD_CHECK(!in_step_);
  plan_.sequences.clear();
  plan_.started.clear();
  plan_.preempted.clear();
  plan_.tokens = 0;
  std::sort(running_.begin(), running_.end(),
            [&](const Sequence* a, const Sequence* b) { return Before(*a, *b, now); });
  // Whom a lack of blocks has just sent back would only be let in again to be sent back again.
  const bool short_of_blocks = SecureDecodes(now);
  if (!short_of_blocks || running_.empty()) Admit(now);
  FillStep();
  in_step_ = !plan_.empty();
  return plan_;
}

// Gives every running sequence that is to decode the block it needs. True where somebody was preempted for it.
bool LlmScheduler::SecureDecodes(TimePoint now) {
  bool preempted = false;
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& s = *running_[i];
    while (s.state == Sequence::State::kRunning && !blocks_.Grow(s.blocks, s.computed + 1)) {
      Sequence* victim = FindVictim(now);
      if (victim == nullptr) break;  // the others need no more blocks than they have: it waits until one of them ends
      Preempt(*victim);
      preempted = true;
    }
  }
  std::erase_if(running_, [](const Sequence* s) { return s->state != Sequence::State::kRunning; });
  return preempted;
}

// Whoever gives up blocks first. Running sequences that were preempted in this pass have none any more.
LlmScheduler::Sequence* LlmScheduler::FindVictim(TimePoint now) const {
  Sequence* victim = nullptr;
  for (Sequence* s : paused_) {
    if (s->blocks.ids.empty()) continue;
    if (victim == nullptr || s->computed < victim->computed) victim = s;
  }
  if (victim != nullptr) return victim;
  const Sequence* keep = Protected(now);
  for (Sequence* s : running_) {
    if (s == keep || s->blocks.ids.empty() || s->charged_preemptions >= options_.max_preemptions) continue;
    if (victim == nullptr ||
        std::pair(-ClassAt(*s, now), s->computed) < std::pair(-ClassAt(*victim, now), victim->computed)) {
      victim = s;
    }
  }
  return victim;
}

// Leaves a running victim in running_, for the caller to remove.
void LlmScheduler::Preempt(Sequence& victim) {
  plan_.preempted.push_back({victim.spec.id, victim.computed});
  ++victim.preemptions;
  blocks_.Release(victim.blocks);
  victim.computed = 0;
  if (victim.state == Sequence::State::kPaused) return;
  ++victim.charged_preemptions;
  Enqueue(victim);
}

void LlmScheduler::Admit(TimePoint now) {
  int64_t demand = 0;
  for (const Sequence* s : running_) demand += s->behind();
  while (static_cast<int64_t>(running_.size()) < options_.max_sequences && demand < options_.max_batch_tokens) {
    Sequence* s = QueueHead(now);
    if (s == nullptr || !Place(*s)) return;
    Dequeue(*s);
    s->state = Sequence::State::kRunning;
    running_.push_back(s);
    demand += s->behind();
  }
}

// Finds the head of the queue its cached prefix and its blocks, or leaves it as it was.
bool LlmScheduler::Place(Sequence& s) {
  const int64_t hit = s.spec.bypass_prefix_cache ? 0 : blocks_.Match(s.spec.cache_salt, s.tokens, s.blocks);
  const bool last_time = s.charged_preemptions >= options_.max_preemptions;
  const int64_t tokens = last_time ? s.max_tokens - 1 : s.size();
  // A spare block for each that runs keeps an admission from causing the next preemption.
  const int64_t needed =
      blocks_.BlocksFor(tokens) - static_cast<int64_t>(s.blocks.ids.size()) + static_cast<int64_t>(running_.size());
  while (blocks_.available() < needed) {
    Sequence* slow = nullptr;
    for (Sequence* p : paused_) {
      if (!p->blocks.ids.empty() && (slow == nullptr || p->computed < slow->computed)) slow = p;
    }
    if (slow == nullptr) {
      blocks_.Release(s.blocks);
      return false;
    }
    Preempt(*slow);
  }
  const bool grown = blocks_.Grow(s.blocks, tokens);
  QD_CHECK(grown);
  s.computed = hit;
  if (!s.started) s.cached_tokens = hit;
  return true;
}

void LlmScheduler::FillStep() {
  int64_t budget = options_.max_batch_tokens;
  const auto add = [&](Sequence& s) {
    const int64_t room = static_cast<int64_t>(s.blocks.ids.size()) * options_.block_tokens - s.computed;
    const int64_t count = std::min({s.behind(), room, budget});
    if (count <= 0 || static_cast<int64_t>(plan_.sequences.size()) >= options_.max_sequences) return;
    PlannedSequence planned;
    planned.id = s.spec.id;
    planned.first = s.computed;
    planned.tokens = std::span(s.tokens).subspan(static_cast<size_t>(s.computed), static_cast<size_t>(count));
    planned.block_table = std::span(s.blocks.ids).first(static_cast<size_t>(blocks_.BlocksFor(s.computed + count)));
    planned.wants_token = count == s.behind();
    planned.context = s.tokens;
    plan_.sequences.push_back(planned);
    plan_.tokens += count;
    budget -= count;
    if (s.started) return;
    s.started = true;
    SetTimer(s);
    plan_.started.push_back({s.spec.id, s.cached_tokens, !s.spec.bypass_prefix_cache});
  };
  // A first step is no decode, however short the prompt: it must not pass earlier arrivals whose chunks come second.
  const auto decodes = [](const Sequence* s) { return s->started && s->behind() == 1; };
  for (const bool decode : {true, false}) {
    for (Sequence* s : running_) {
      if (decodes(s) == decode) add(*s);
    }
  }
}

void LlmScheduler::FinishStep(const StepDone& done) {
  QD_CHECK(in_step_);
  in_step_ = false;
  size_t next = 0;
  for (const PlannedSequence& planned : plan_.sequences) {
    Sequence& s = *sequences_.at(planned.id);
    if (!done.ok) {
      End(s, EndCause::kStepFailed);
      continue;
    }
    s.computed += static_cast<int64_t>(planned.tokens.size());
    const StepOutput* output = nullptr;
    if (planned.wants_token) {
      QD_CHECK(next < done.outputs.size() && done.outputs[next].id == planned.id);
      output = &done.outputs[next++];
      if (output->token < 0) {  // what its cache holds is not to be shared
        End(s, EndCause::kNotFinite);
        continue;
      }
    }
    if (!s.spec.bypass_prefix_cache) blocks_.Publish(s.spec.cache_salt, s.tokens, s.computed, s.blocks);
    if (output == nullptr) continue;
    s.tokens.push_back(output->token);
    if (output->stopped) {
      End(s, EndCause::kStopped);
    } else if (s.size() == s.max_tokens) {
      End(s, s.spec.max_new_tokens > 0 ? EndCause::kMaxTokens : EndCause::kContextFull);
    }
  }
  QD_CHECK(!done.ok || next == done.outputs.size());
}

void LlmScheduler::End(Sequence& s, EndCause cause) {
  ended_.push_back({s.spec.id, cause, s.cached_tokens, s.size() - s.prompt_tokens, s.preemptions});
  blocks_.Release(s.blocks);
  ClearTimer(s);
  switch (s.state) {
    case Sequence::State::kWaiting:
      Dequeue(s);
      break;
    case Sequence::State::kRunning:
      std::erase(running_, &s);
      break;
    case Sequence::State::kPaused:
      std::erase(paused_, &s);
      break;
  }
  sequences_.erase(s.spec.id);
}

int LlmScheduler::ClassAt(const Sequence& s, TimePoint now) const {
  const int own = static_cast<int>(s.spec.priority);
  if (now <= s.spec.arrival) return own;
  const auto risen = (now - s.spec.arrival) / options_.ageing;
  return risen >= own ? 0 : own - static_cast<int>(risen);
}

bool LlmScheduler::Before(const Sequence& a, const Sequence& b, TimePoint now) const {
  return std::tuple(ClassAt(a, now), a.spec.arrival, a.spec.id) <
         std::tuple(ClassAt(b, now), b.spec.arrival, b.spec.id);
}

LlmScheduler::Sequence* LlmScheduler::QueueHead(TimePoint now) const {
  Sequence* head = nullptr;
  for (const auto& queue : queues_) {
    if (queue.empty()) continue;
    Sequence* front = queue.begin()->sequence;
    if (head == nullptr || Before(*front, *head, now)) head = front;
  }
  return head;
}

const LlmScheduler::Sequence* LlmScheduler::Protected(TimePoint now) const {
  const Sequence* first = QueueHead(now);
  for (const Sequence* s : running_) {
    if (first == nullptr || Before(*s, *first, now)) first = s;
  }
  return first;
}

int64_t LlmScheduler::free_places() const {
  return std::max<int64_t>(options_.max_sequences - static_cast<int64_t>(running_.size()), 0);
}

int64_t LlmScheduler::waiting(Priority worst) const {
  size_t n = 0;
  for (size_t p = 0; p <= static_cast<size_t>(worst); ++p) n += queues_[p].size();
  return static_cast<int64_t>(n);
}

int64_t LlmScheduler::waiting_tokens(Priority worst) const {
  return std::accumulate(waiting_tokens_.begin(), waiting_tokens_.begin() + static_cast<int>(worst) + 1, int64_t{0});
}

std::optional<TimePoint> LlmScheduler::oldest_waiting() const {
  std::optional<TimePoint> oldest;
  for (const auto& queue : queues_) {
    if (!queue.empty() && (!oldest || queue.begin()->arrival < *oldest)) oldest = queue.begin()->arrival;
  }
  return oldest;
}

void LlmScheduler::Enqueue(Sequence& s) {
  s.state = Sequence::State::kWaiting;
  queues_[static_cast<size_t>(s.spec.priority)].insert(std::move(s.queue_node));
  waiting_tokens_[static_cast<size_t>(s.spec.priority)] += s.size();
}

void LlmScheduler::Dequeue(Sequence& s) {
  s.queue_node = queues_[static_cast<size_t>(s.spec.priority)].extract(QueueKey{s.spec.arrival, s.spec.id, &s});
  waiting_tokens_[static_cast<size_t>(s.spec.priority)] -= s.size();
}

void LlmScheduler::SetTimer(Sequence& s) {
  ClearTimer(s);
  const auto at = [&](const std::optional<TimePoint>& t) {
    if (t && (!s.timer || *t < *s.timer)) s.timer = *t;
  };
  at(s.spec.deadline);
  at(s.spec.finish_by);
  if (!s.started) at(s.spec.start_by);
  if (!s.timer) return;
  s.timer_node.value() = {*s.timer, s.spec.id};
  timers_.insert(std::move(s.timer_node));
}

void LlmScheduler::ClearTimer(Sequence& s) {
  if (s.timer) s.timer_node = timers_.extract({*s.timer, s.spec.id});
  s.timer.reset();
}

}  // namespace quantd
