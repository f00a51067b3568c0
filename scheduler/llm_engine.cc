#include "scheduler/llm_engine.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/allocation_failure.h"
#include "base/check.h"
#include "base/error.h"
#include "base/strings.h"
#include "runtime/stream_decoder.h"
#include "scheduler/stop_matcher.h"
#include "scheduler/token_history.h"

namespace quantd {
namespace {

SchedulerOptions MakeSchedulerOptions(const LlmEngineOptions& options) {
  const LlmLimits& limits = options.port.limits;
  SchedulerOptions o;
  o.max_batch_tokens = limits.max_batch_tokens;
  o.max_sequences = limits.max_sequences;
  o.max_context = limits.max_context;
  o.kv_blocks = limits.kv_blocks;
  o.block_tokens = static_cast<int>(limits.kv_block_tokens);
  o.ageing = options.ageing;
  o.max_preemptions = options.max_preemptions;
  o.max_paused = limits.queue.max_waiting_requests;
  return o;
}

bool Contains(std::span<const int32_t> ids, int32_t id) { return std::ranges::find(ids, id) != ids.end(); }

FinishReason ReasonOf(EndCause cause) {
  switch (cause) {
    case EndCause::kContextFull:
      return FinishReason::kContextFull;
    case EndCause::kTimeLimit:
      return FinishReason::kTimeLimit;
    default:
      return FinishReason::kMaxTokens;
  }
}

}  // namespace

struct LlmEngine::Request {
  Request(LlmSubmission s, const Tokenizer& tokenizer)
      : request(std::move(s.request)),
        sink(std::move(s.sink)),
        prompt_tokens(static_cast<int64_t>(request.prompt.size())),
        decoder(tokenizer,
                {.skip_special_tokens = request.skip_special_tokens, .at_text_start = request.prompt_is_text_start}),
        stops(request.stopping.stop) {
    const SamplingParams& sampling = request.sampling;
    if (!sampling.penalizes()) return;
    history.emplace(sampling.repetition_penalty != 1 ? std::span<const int32_t>(request.prompt)
                                                     : std::span<const int32_t>());
  }
  void EndHoldUp(TimePoint now) {
    if (held_up_since) held_up += now - *held_up_since;
    held_up_since.reset();
  }

  LlmRequest request;  // its prompt is the scheduler's
  std::shared_ptr<LlmSink> sink;
  int64_t prompt_tokens, cached_tokens = 0, new_tokens = 0;
  int64_t counted_prompt_tokens = 0;  // that the observer was told of
  StreamDecoder decoder;
  StopMatcher stops;
  std::vector<int32_t> end_ids;         // not to be chosen before min_new_tokens
  std::optional<TokenHistory> history;  // where its sampling penalizes
  Delta pending;
  std::optional<OutputEnd> end;  // set where the content ended the output
  absl::Status failure;          // why it ends, where the engine knows better than the scheduler
  std::optional<TimePoint> started;
  std::optional<TimePoint> held_up_since;  // its reader is full
  Duration held_up{};
  TimePoint last_token{};
  Timing timing;
};

struct LlmEngine::Farewell {
  std::shared_ptr<LlmSink> sink;
  absl::Status status;
  Usage usage;
  Timing timing;
};

LlmEngine::LlmEngine(LlmEngineOptions options, std::unique_ptr<StepRunner> runner)
    : eos_token_ids_(options.eos_token_ids),
      suppress_tokens_(options.suppress_tokens),
      begin_suppress_tokens_(options.begin_suppress_tokens),
      tokenizer_(*options.tokenizer),
      clock_(options.port.clock),
      port_(std::make_shared<LlmPort>(options.port, this)),
      runner_(std::move(runner)),
      scheduler_(MakeSchedulerOptions(options)),
      queue_estimate_(options.port.limits.max_batch_tokens, options.port.limits.max_sequences) {
  const LlmLimits& limits = port_->limits();
  const size_t tokens = static_cast<size_t>(limits.max_batch_tokens);
  const size_t sequences = static_cast<size_t>(limits.max_sequences);
  // A table is never longer than the pool, whatever context the model claims.
  const int64_t blocks =
      std::min((limits.max_context + limits.kv_block_tokens - 1) / limits.kv_block_tokens, limits.kv_blocks);
  begin_suppress_tokens_.insert(begin_suppress_tokens_.end(), suppress_tokens_.begin(), suppress_tokens_.end());
  token_ids_.resize(tokens);
  positions_.resize(tokens);
  seq_starts_.resize(sequences + 1);
  block_tables_.resize(sequences * static_cast<size_t>(blocks));
  logit_rows_.resize(sequences);
  sampling_.resize(sequences);
  results_.resize(sequences);
  outputs_.reserve(sequences);
  Publish(clock_(), /*stepped=*/false);
}
LlmEngine::~LlmEngine() { QD_CHECK(requests_.empty()); }

void LlmEngine::Submit(LlmSubmission submission) {
  const SequenceId id = submission.signals->id();
  const std::shared_ptr<LlmSink> sink = submission.sink;
  LlmRequest who;  // for the record, should the rest fail
  who.priority = submission.request.priority;
  who.arrival = submission.request.arrival;
  const int64_t prompt_tokens = static_cast<int64_t>(submission.request.prompt.size());
  const absl::Status status = CatchAllocationFailure([&] {
    who.id = submission.request.id;
    Take(std::move(submission));
    return absl::OkStatus();
  });
  if (!status.ok() && requests_.contains(id)) {
    EndOne(id, status);
  } else if (!status.ok()) {
    port_->LeaveQueue(prompt_tokens);
    port_->RecordEnded(who, status);
    sink->OnDone(status, {}, {});
    port_->Finished();
  }
  Publish(clock_(), /*stepped=*/false);
}

void LlmEngine::Take(LlmSubmission submission) {
  const SequenceId id = submission.signals->id();
  auto owned = std::make_unique<Request>(std::move(submission), tokenizer_);
  Request& r = *owned;
  const StopConditions& stopping = r.request.stopping;
  if (!stopping.ignore_eos) r.end_ids = eos_token_ids_;
  r.end_ids.insert(r.end_ids.end(), stopping.stop_token_ids.begin(), stopping.stop_token_ids.end());
  if (const size_t most = farewells_.size() + requests_.size() + 1; farewells_.capacity() < most) {
    farewells_.reserve(2 * most);
  }
  requests_.emplace(id, std::move(owned));

  SequenceSpec spec;
  spec.id = id;
  spec.priority = r.request.priority;
  spec.prompt = std::move(r.request.prompt);
  spec.max_new_tokens = stopping.max_new_tokens;
  spec.cache_salt = CacheSalt(r.request.cache_salt);
  spec.bypass_prefix_cache = r.request.bypass_prefix_cache;
  spec.arrival = r.request.arrival;
  spec.deadline = r.request.deadline;
  if (r.request.max_queue_time) spec.start_by = spec.arrival + *r.request.max_queue_time;
  if (stopping.time_limit) spec.finish_by = spec.arrival + *stopping.time_limit;
  r.sink->OnAccepted(scheduler_.waiting());
  scheduler_.On(Submitted{std::move(spec)});
}

void LlmEngine::Cancel(SequenceId id) { Finish(scheduler_.On(Cancelled{id}), absl::OkStatus()); }
void LlmEngine::Expire(SequenceId id) { Finish(scheduler_.On(Expired{id}), absl::OkStatus()); }

void LlmEngine::ReaderReady(SequenceId id) {
  scheduler_.On(quantd::ReaderReady{id});
  if (const auto it = requests_.find(id); it != requests_.end()) it->second->EndHoldUp(clock_());
  Publish(clock_(), /*stepped=*/false);
}

void LlmEngine::Tick(TimePoint now) {
  const Actions& ended = scheduler_.Tick(now);
  if (!ended.empty()) Finish(ended, absl::OkStatus());
}

std::optional<Offer> LlmEngine::Peek(TimePoint now) const {
  const std::optional<StepOffer> step = scheduler_.Peek(now);
  if (!step) return std::nullopt;
  Offer offer;
  offer.priority = step->priority;
  offer.deadline = step->deadline;
  return offer;
}

void LlmEngine::EndAll(const absl::Status& status) {
  // An exception left Run, so a bug of ours: what of the step's work was done and what was not, nobody knows.
  if (scheduler_.in_step()) Finish(scheduler_.On(StepDone{.ok = false, .outputs = {}}), status);
  while (!requests_.empty()) EndOne(requests_.begin()->first, status);
  Publish(clock_(), /*stepped=*/false);
}

void LlmEngine::EndOne(SequenceId id, const absl::Status& status) {
  At(id).failure = status;
  for (const Ended& ended : scheduler_.On(Cancelled{id})) Finish(ended, absl::OkStatus());
  // The scheduler does not know it where its submission failed.
  if (requests_.contains(id)) Finish(Ended{.id = id}, absl::OkStatus());
}

// Nothing is allocated but within a runner that fails and for one request at a time (TakeTokens, Finish, Deliver), so
// an allocation that fails leaves every other request as it is.
void LlmEngine::Run() {
  const TimePoint now = clock_();
  Tick(now);
  const StepPlan& plan = scheduler_.Plan(now);
  const TimePoint begin = clock_();
  if (plan.empty()) return;
  const LlmStepInput input = MakeInput(plan);
  const absl::Status status =
      CatchAllocationFailure([&] { return runner_->Step(input, std::span(results_).first(input.logit_rows.size())); });
  const TimePoint end = clock_();

  const Duration took = end - begin;
  NotePlan(plan, begin);
  for (const PlannedSequence& s : plan.sequences) At(s.id).timing.compute += took;
  if (!status.ok()) {
    Finish(scheduler_.On(StepDone{.ok = false, .outputs = {}}), status);
    return;
  }
  queue_estimate_.OnStep(plan.tokens, took);
  const int64_t sequences = static_cast<int64_t>(plan.sequences.size());
  const bool prefill = std::ranges::none_of(plan.sequences, [](const auto& s) { return s.tokens.size() == 1; });
  const StepPhase phase = plan.tokens == sequences ? StepPhase::kDecode
                          : prefill                ? StepPhase::kPrefill
                                                   : StepPhase::kMixed;
  port_->observer().OnStep(phase, plan.tokens, sequences, took);
  TakeTokens(plan, end);
  CountTokens(plan);
  for (const Ended& e : scheduler_.On(StepDone{.ok = true, .outputs = outputs_})) Finish(e, absl::OkStatus());
  Deliver(plan, end);
  Publish(end, /*stepped=*/true);
}

void LlmEngine::NotePlan(const StepPlan& plan, TimePoint now) {
  EngineObserver& observer = port_->observer();
  for (const StepPlan::Started& s : plan.started) {
    Request& r = At(s.id);
    r.started = now;
    r.cached_tokens = s.cached_tokens;
    r.timing.queued = now - r.request.arrival;
    port_->LeaveQueue(r.prompt_tokens);
    queue_estimate_.OnStarted(r.prompt_tokens, s.cached_tokens);
    observer.OnStarted(r.request.priority, r.timing.queued);
    if (s.looked_up) observer.OnPrefixLookup(r.prompt_tokens, s.cached_tokens);
  }
  for (const StepPlan::Preempted& p : plan.preempted) observer.OnPreempted(p.lost_tokens);
}

// Allocates nothing.
LlmStepInput LlmEngine::MakeInput(const StepPlan& plan) {
  size_t width = 0;
  for (const PlannedSequence& s : plan.sequences) width = std::max(width, s.block_table.size());
  size_t token = 0, sequence = 0, row = 0;
  for (const PlannedSequence& s : plan.sequences) {
    seq_starts_[sequence] = static_cast<int32_t>(token);
    auto table = std::span(block_tables_).subspan(sequence * width, width);
    std::ranges::fill(std::ranges::copy(s.block_table, table.begin()).out, table.end(), 0);
    for (size_t i = 0; i < s.tokens.size(); ++i, ++token) {
      token_ids_[token] = s.tokens[i];
      positions_[token] = static_cast<int32_t>(s.first) + static_cast<int32_t>(i);
    }
    ++sequence;
    if (!s.wants_token) continue;
    const Request& r = At(s.id);
    logit_rows_[row] = static_cast<int32_t>(token) - 1;
    SamplingRow& sampling = sampling_[row++];
    sampling = SamplingRow();
    sampling.params = r.request.sampling;
    sampling.position = static_cast<uint64_t>(positions_[token - 1]) + 1;
    if (r.history) sampling.seen = r.history->seen();
    sampling.context = s.context;
    sampling.banned_ids = r.new_tokens == 0 ? begin_suppress_tokens_ : suppress_tokens_;
    if (r.new_tokens < r.request.stopping.min_new_tokens) sampling.suppressed_ids = r.end_ids;
  }
  seq_starts_[sequence] = static_cast<int32_t>(token);
  LlmStepInput input;
  input.token_ids = std::span(token_ids_).first(token);
  input.positions = std::span(positions_).first(token);
  input.seq_starts = std::span(seq_starts_).first(sequence + 1);
  input.block_tables = std::span(block_tables_).first(sequence * width);
  input.block_table_width = static_cast<int64_t>(width);
  input.logit_rows = std::span(logit_rows_).first(row);
  input.sampling = std::span(sampling_).first(row);
  return input;
}

void LlmEngine::TakeTokens(const StepPlan& plan, TimePoint now) {
  outputs_.clear();
  for (const PlannedSequence& s : plan.sequences) {
    if (!s.wants_token) continue;
    const int32_t token = results_[outputs_.size()].token;
    bool stopped = false;
    Request& r = At(s.id);
    r.failure = CatchAllocationFailure([&] {
      stopped = token >= 0 && TakeToken(r, token, now);
      return absl::OkStatus();
    });
    outputs_.push_back({s.id, token, stopped || !r.failure.ok()});
  }
}

void LlmEngine::CountTokens(const StepPlan& plan) {
  StepTokens count;
  for (const PlannedSequence& s : plan.sequences) {
    Request& r = At(s.id);
    const auto of_prompt = [&](int64_t tokens) { return std::clamp(tokens, r.counted_prompt_tokens, r.prompt_tokens); };
    const int64_t cached = of_prompt(s.first), computed = of_prompt(s.first + static_cast<int64_t>(s.tokens.size()));
    count.prompt_cached += cached - r.counted_prompt_tokens;
    count.prompt += computed - cached;
    r.counted_prompt_tokens = computed;
  }
  count.generated = std::ranges::count_if(outputs_, [](const StepOutput& o) { return o.token >= 0; });
  port_->observer().OnTokens(count);
}

// True where the content ends the output: an end token or a stop text.
bool LlmEngine::TakeToken(Request& r, int32_t token, TimePoint now) {
  if (r.new_tokens++ == 0) {
    r.timing.first_output = now - r.request.arrival;
    r.timing.prefill = now - *r.started;
    port_->observer().OnFirstToken(r.timing.first_output);
    r.sink->OnPrompt(r.prompt_tokens, r.cached_tokens);
  } else {
    port_->observer().OnInterToken(now - r.last_token);
  }
  r.last_token = now;
  if (r.history) r.history->Add(token);
  r.pending.token_ids.push_back(token);
  const StopConditions& stopping = r.request.stopping;
  if (Contains(r.end_ids, token)) {
    if (stopping.include_stop) TakeText(r, token);
    if (!r.end) {
      const bool asked_for = Contains(stopping.stop_token_ids, token);
      r.end = OutputEnd{.reason = asked_for ? FinishReason::kStopToken : FinishReason::kEos,
                        .stop_token_id = token,
                        .stop_text = {},
                        .new_tokens = 0};
    }
    return true;
  }
  TakeText(r, token);
  return r.end.has_value();
}

void LlmEngine::TakeText(Request& r, int32_t token) {
  std::string text = r.decoder.Append(token);
  const StopConditions& stopping = r.request.stopping;
  if (stopping.stop.empty() || r.new_tokens < stopping.min_new_tokens) {
    r.pending.text += text;
    return;
  }
  StopMatcher::Result result = r.stops.Append(text);
  r.pending.text += result.text;
  if (!result.matched) return;
  if (stopping.include_stop) r.pending.text += *result.matched;
  r.end =
      OutputEnd{.reason = FinishReason::kStopText, .stop_token_id = -1, .stop_text = *result.matched, .new_tokens = 0};
}

// To the readers of the step's sequences that have not ended. A delta without text waits for the text.
void LlmEngine::Deliver(const StepPlan& plan, TimePoint now) {
  for (const PlannedSequence& s : plan.sequences) {
    const auto it = requests_.find(s.id);
    if (it == requests_.end()) continue;
    Request& r = *it->second;
    if (r.pending.text.empty()) continue;
    if (static_cast<int64_t>(r.pending.token_ids.size()) < r.request.stream_interval) continue;
    LlmSink::Flow flow = LlmSink::Flow::kReady;
    const absl::Status delivered = CatchAllocationFailure([&] {
      flow = r.sink->OnDelta(std::exchange(r.pending, {}));
      return absl::OkStatus();
    });
    if (!delivered.ok()) {
      EndOne(s.id, delivered);
    } else if (flow == LlmSink::Flow::kFull) {
      r.held_up_since = now;
      for (const Ended& ended : scheduler_.On(ReaderBlocked{s.id})) Finish(ended, absl::OkStatus());
    }
  }
}

void LlmEngine::Finish(std::span<const Ended> ended, const absl::Status& step) noexcept {
  for (const Ended& e : ended) Finish(e, step);
  Publish(clock_(), /*stepped=*/!step.ok());
}

void LlmEngine::Finish(const Ended& ended, const absl::Status& step) noexcept {
  const auto it = requests_.find(ended.id);
  const std::unique_ptr<Request> owned = std::move(it->second);
  requests_.erase(it);
  Request& r = *owned;
  const TimePoint now = clock_();
  r.timing.total = now - r.request.arrival;
  r.timing.preemptions = ended.preemptions;
  if (r.started) {
    r.EndHoldUp(now);
    queue_estimate_.OnEnded(now - *r.started - r.held_up);
  } else {
    r.timing.queued = r.timing.total;
    port_->LeaveQueue(r.prompt_tokens);
  }
  if (r.failure.ok()) {
    r.failure = CatchAllocationFailure([&] {
      absl::Status status = StatusOf(ended.cause, step);
      if (status.ok()) FinishOutput(r, ended);
      return status;
    });
  }
  const Usage usage{.prompt_tokens = r.prompt_tokens, .cached_tokens = r.cached_tokens, .new_tokens = r.new_tokens};
  RequestRecord record;
  record.id = r.request.id;
  record.priority = r.request.priority;
  record.usage = usage;
  record.timing = r.timing;
  port_->Record(record, r.failure, r.failure.ok() ? Name(r.end->reason) : std::string_view());
  farewells_.push_back({std::move(r.sink), r.failure, usage, r.timing});
}

// The last delta and the end. Text that might have begun a stop text leaves; bytes of a character that is not whole do
// not: no U+FFFD stands where a limit cut a character.
void LlmEngine::FinishOutput(Request& r, const Ended& ended) {
  if (!r.end) r.end = OutputEnd{.reason = ReasonOf(ended.cause), .stop_token_id = -1, .stop_text = {}, .new_tokens = 0};
  r.end->new_tokens = r.new_tokens;
  if (r.end->reason != FinishReason::kStopText) r.pending.text += r.stops.Flush();
  if (!r.pending.text.empty() || !r.pending.token_ids.empty()) r.sink->OnDelta(std::exchange(r.pending, {}));
  r.sink->OnOutputEnd(*r.end);
}

absl::Status LlmEngine::StatusOf(EndCause cause, const absl::Status& step) const {
  switch (cause) {
    case EndCause::kStopped:
    case EndCause::kMaxTokens:
    case EndCause::kContextFull:
    case EndCause::kTimeLimit:
      return absl::OkStatus();
    case EndCause::kCancelled:
      return WithReason(absl::CancelledError("cancelled by the client"), "CLIENT");
    case EndCause::kExpiredInQueue:
      return WithReason(absl::DeadlineExceededError("the deadline passed in the queue"), "EXPIRED_IN_QUEUE");
    case EndCause::kExpiredRunning:
      return WithReason(absl::DeadlineExceededError("the deadline passed while generating"), "EXPIRED_RUNNING");
    case EndCause::kQueueTimeout:
      return WithRetryAfter(
          WithReason(absl::ResourceExhaustedError("max_queue_time passed before the first step"), "QUEUE_TIMEOUT"),
          port_->RetryDelay());
    case EndCause::kSlowReader:
      return WithReason(
          absl::ResourceExhaustedError(absl::StrCat("the stream was not read, for longer than ",
                                                    scheduler_.options().max_paused, " others of this model")),
          "SLOW_READER");
    case EndCause::kNotFinite:
      return WithReason(absl::InternalError("the model's logits are not finite, or suppress every token"),
                        "NAN_LOGITS");
    case EndCause::kStepFailed:
      if (step == AllocationFailedError()) return step;
      return WithReason(absl::InternalError(absl::StrCat("the step failed: ", step.message())), "STEP_FAILED");
  }
  return absl::InternalError("unknown end");
}

// Tells the outside how things stand, then says goodbye to who has ended: whoever hears OnDone finds the numbers up to
// date.
void LlmEngine::Publish(TimePoint now, bool stepped) noexcept {
  const BlockManager& blocks = scheduler_.blocks();
  EngineLoad load;
  load.running = scheduler_.running();
  load.waiting = scheduler_.waiting();
  load.waiting_tokens = scheduler_.waiting_tokens();
  load.blocks_used = blocks.used();
  load.blocks_cached = blocks.cached();
  load.blocks_free = blocks.free();
  load.blocks_touched = blocks.touched();
  for (size_t p = 0; p < load.estimated_queue_time.size(); ++p) {
    const Priority priority = static_cast<Priority>(p);
    load.estimated_queue_time[p] = queue_estimate_.For(scheduler_.waiting(priority),
                                                       scheduler_.waiting_tokens(priority), scheduler_.free_places());
  }
  port_->Publish(load);
  port_->PublishWork(now, scheduler_.Peek(now).has_value(), stepped);

  EngineGauges gauges;
  gauges.running = load.running;
  gauges.waiting = load.waiting;
  gauges.waiting_tokens = load.waiting_tokens;
  gauges.blocks_used = load.blocks_used;
  gauges.blocks_cached = load.blocks_cached;
  gauges.blocks_free = load.blocks_free;
  gauges.estimated_queue_seconds = ToSeconds(load.estimated_queue_time.back());
  if (const auto oldest = scheduler_.oldest_waiting()) {
    gauges.oldest_waiting_seconds = std::max(0.0, ToSeconds(now - *oldest));
  }
  port_->observer().OnGauges(gauges);

  for (const Farewell& f : farewells_) {
    f.sink->OnDone(f.status, f.usage, f.timing);
    port_->Finished();
  }
  farewells_.clear();
}

}  // namespace quantd
