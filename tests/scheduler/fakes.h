// A model that needs no weights, and ears for an engine.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/status_macros.h"
#include "runtime/llm_runner.h"
#include "runtime/tokenizer.h"
#include "scheduler/llm_engine.h"

namespace quantd::testing_fakes {

inline uint64_t Mix(uint64_t a, uint64_t b) {  // splitmix64's finalizer over both
  uint64_t z = a * 0x9e3779b97f4a7c15ull + b + 0x632be59bd9b4e019ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

// A cache of one number a slot. A token's number depends on its id, its position and the number before it, read through
// the block table; the next token depends on every number that its sequence can see, and on its seed. So a wrong block
// table, position or prefix hit changes what is generated.
class FakeRunner : public StepRunner {
 public:
  FakeRunner(int64_t blocks, int block_tokens, int32_t vocab)
      : block_tokens_(block_tokens), vocab_(vocab), cache_(static_cast<size_t>(blocks * block_tokens), kPoison) {}

  absl::Status Step(const LlmStepInput& in, std::span<SampleResult> results) override {
    if (before_step) QD_RETURN_IF_ERROR(before_step(in));
    size_t row = 0;
    largest_batch = std::max(largest_batch.load(), static_cast<int64_t>(in.seq_starts.size()) - 1);
    for (size_t s = 0; s + 1 < in.seq_starts.size(); ++s) {
      const size_t rows_before = row;
      const auto table = in.block_tables.subspan(s * static_cast<size_t>(in.block_table_width),
                                                 static_cast<size_t>(in.block_table_width));
      for (int32_t t = in.seq_starts[s]; t < in.seq_starts[s + 1]; ++t) {
        const size_t i = static_cast<size_t>(t);
        const int32_t p = in.positions[i];
        const uint64_t before = p == 0 ? 1 : Slot(table, p - 1);
        Slot(table, p) = Mix(before, Mix(static_cast<uint64_t>(in.token_ids[i]), static_cast<uint64_t>(p)));
        if (row == in.logit_rows.size() || in.logit_rows[row] != t) continue;
        uint64_t seen = 0;
        for (int32_t q = 0; q <= p; ++q) seen = Mix(seen, Slot(table, q));
        const SamplingRow& sampling = in.sampling[row];
        seen = Mix(seen, Mix(sampling.params.seed, sampling.position));
        seen += PenaltyHash(sampling);
        int32_t token = static_cast<int32_t>(seen % static_cast<uint64_t>(vocab_));
        const auto barred = [&](std::span<const int32_t> ids) {
          return std::find(ids.begin(), ids.end(), token) != ids.end();
        };
        while (barred(sampling.suppressed_ids) || barred(sampling.banned_ids)) token = (token + 1) % vocab_;
        results[row++].token = force_token ? force_token(sampling, token) : token;
      }
      if (row == rows_before) ++chunks;
    }
    if (after_step) after_step();
    return row == in.logit_rows.size() ? absl::OkStatus() : absl::InternalError("logit rows out of order");
  }

  std::function<absl::Status(const LlmStepInput&)> before_step;
  std::function<int32_t(const SamplingRow&, int32_t)> force_token;
  std::function<void()> after_step;
  std::atomic<int64_t> largest_batch{0};
  std::atomic<int64_t> chunks{0};  // sequences of a step whose prompt went on afterwards

 private:
  // Depends on all that penalties read, but not on the order of `seen`.
  static uint64_t PenaltyHash(const SamplingRow& row) {
    uint64_t hash = 0;
    if (row.params.penalizes()) {
      for (const SeenToken& t : row.seen) {
        hash += Mix(static_cast<uint64_t>(t.id), static_cast<uint64_t>(t.times_chosen));
      }
    }
    if (row.params.no_repeat_ngram_size > 0) {
      for (const int32_t id : row.context) hash = Mix(hash, static_cast<uint64_t>(id));
    }
    return hash;
  }
  static constexpr uint64_t kPoison = 0xdeadbeefdeadbeefull;
  uint64_t& Slot(std::span<const int32_t> table, int32_t p) {
    return cache_[static_cast<size_t>(table[static_cast<size_t>(p / block_tokens_)] * block_tokens_ +
                                      p % block_tokens_)];
  }
  const int block_tokens_;
  const int32_t vocab_;
  std::vector<uint64_t> cache_;
};

// Token i is written as the letter 'a' + i % 26.
class FakeTokenizer : public Tokenizer {
 public:
  explicit FakeTokenizer(int32_t vocab) : vocab_(vocab) {
    for (int i = 0; i < 26; ++i) letters_.push_back(std::string(1, static_cast<char>('a' + i)));
  }
  absl::Status Encode(std::span<const TextPiece>, std::vector<int32_t>&, std::vector<uint32_t>*,
                      const Stop&) const override {
    return absl::UnimplementedError("fake");
  }
  std::string_view TokenBytes(int32_t id) const override { return letters_[static_cast<size_t>(id % 26)]; }
  bool StripsLeadingSpace() const override { return false; }
  int32_t vocab_size() const override { return vocab_; }
  bool IsSpecial(int32_t) const override { return false; }
  std::span<const int32_t> prefix_ids() const override { return {}; }
  std::span<const int32_t> suffix_ids() const override { return {}; }
  std::optional<int32_t> bos_id() const override { return std::nullopt; }
  std::optional<int32_t> eos_id() const override { return std::nullopt; }

 private:
  int32_t vocab_;
  std::vector<std::string> letters_;
};

// Keeps what it hears. The engine calls on its thread; others may wait for the end.
class RecordingSink : public LlmSink {
 public:
  void OnAccepted(int64_t) override { ++accepted; }
  void OnPrompt(int64_t prompt, int64_t cached) override { prompt_tokens = prompt, cached_tokens = cached; }
  Flow OnDelta(Delta delta) override {
    text += delta.text;
    ids.insert(ids.end(), delta.token_ids.begin(), delta.token_ids.end());
    deltas.push_back(std::move(delta));
    return on_delta ? on_delta() : Flow::kReady;
  }
  void OnOutputEnd(const OutputEnd& e) override { end = e; }
  void OnDone(const absl::Status& s, const Usage& u, const Timing& t) override {
    MutexLock lock(mutex_);
    status = s, usage = u, timing = t;
    ++done_;
    changed_.NotifyAll();
  }
  void Wait() {
    MutexLock lock(mutex_);
    while (done_ == 0) changed_.Wait(mutex_);
  }
  int done() const {
    MutexLock lock(mutex_);
    return done_;
  }

  std::function<Flow()> on_delta;
  int accepted = 0;
  int64_t prompt_tokens = -1, cached_tokens = -1;
  std::string text;
  std::vector<int32_t> ids;
  std::vector<Delta> deltas;
  std::optional<OutputEnd> end;
  absl::Status status;
  Usage usage;
  Timing timing;

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  int done_ = 0;
};

class CountingObserver : public EngineObserver {
 public:
  void OnRejected(std::string_view reason) override {
    MutexLock lock(mutex_);
    ++rejected[std::string(reason)];
  }
  void OnStarted(Priority, Duration) override { ++started; }
  void OnFirstToken(Duration) override { ++first_tokens; }
  void OnInterToken(Duration) override { ++inter_tokens; }
  void OnPrefixLookup(int64_t queried, int64_t hit) override { queried_tokens += queried, hit_tokens += hit; }
  void OnPreempted(int64_t) override { ++preempted; }
  void OnStep(StepPhase, int64_t, int64_t sequences, Duration) override {
    ++steps;
    largest_batch = std::max(largest_batch.load(), sequences);
  }
  void OnTokens(const StepTokens& t) override {
    prompt_tokens += t.prompt, prompt_cached_tokens += t.prompt_cached, generated_tokens += t.generated;
  }
  void OnEnded(const RequestRecord& record) override {
    MutexLock lock(mutex_);
    ++ended[std::string(record.id)];
    ++reasons[std::string(record.reason)];
  }
  void OnGauges(const EngineGauges& g) override {
    MutexLock lock(mutex_);
    gauges = g;
  }

  std::atomic<int64_t> started{0}, first_tokens{0}, inter_tokens{0}, queried_tokens{0}, hit_tokens{0}, preempted{0},
      steps{0}, largest_batch{0}, prompt_tokens{0}, prompt_cached_tokens{0}, generated_tokens{0};
  Mutex mutex_;
  std::map<std::string, int> rejected, ended, reasons;
  EngineGauges gauges;
};

inline LlmLimits FakeLimits(int64_t blocks, int64_t batch_tokens = 64, int64_t sequences = 16) {
  LlmLimits limits;
  limits.max_context = 512;
  limits.vocab_size = 1000;
  limits.kv_blocks = blocks;
  limits.kv_block_tokens = 4;
  limits.max_sequences = sequences;
  limits.max_batch_tokens = batch_tokens;
  return limits;
}

}  // namespace quantd::testing_fakes
