// A registry with one model whose engine is the test itself: it sees what is submitted and speaks to the sink.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/error.h"
#include "base/mutex.h"
#include "runtime/checkpoint.h"
#include "runtime/text_codec.h"
#include "scheduler/model_registry.h"
#include "tests/testing/test_paths.h"

namespace quantd::testing {

// A tiny Llama with a byte-level BPE vocabulary and a ChatML template.
inline std::string TinyModelPath() { return SourcePath("tests/goldens/gguf/mixed_tied_gpt2.gguf"); }

inline std::shared_ptr<const TextCodec> TinyCodec() {
  auto checkpoint = OpenCheckpoint(TinyModelPath());
  QD_CHECK(checkpoint.ok());
  auto codec = TextCodec::Create(*checkpoint);
  QD_CHECK(codec.ok());
  return *codec;
}

// Waits for a condition that another thread brings about: no sleep, a bound of 20 s so that a failure ends.
class Event {
 public:
  void Set() {
    MutexLock lock(mutex_);
    ++count_;
    changed_.NotifyAll();
  }
  bool Wait(int count = 1) {
    const auto deadline = Now() + std::chrono::seconds(20);
    MutexLock lock(mutex_);
    while (count_ < count) {
      if (!changed_.WaitUntil(mutex_, deadline)) return count_ >= count;
    }
    return true;
  }
  int count() {
    MutexLock lock(mutex_);
    return count_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int count_ = 0;
};

class FakeControl final : public RequestControl {
 public:
  void Cancel() override { cancelled.Set(); }
  void Expire() override { expired.Set(); }
  void ReaderReady() override { ready.Set(); }
  Event cancelled, expired, ready;
};

struct Submitted {
  LlmRequest request;
  std::shared_ptr<LlmSink> sink;
  std::shared_ptr<FakeControl> control;
};

class FakeHandle final : public LlmHandle {
 public:
  explicit FakeHandle(std::string name, std::shared_ptr<const TextCodec> codec = TinyCodec())
      : name_(std::move(name)), codec_(std::move(codec)) {
    limits_.max_context = 64;
    limits_.kv_blocks = 10, limits_.kv_block_tokens = 32;
    limits_.vocab_size = codec_->tokenizer().vocab_size();
  }
  const std::string& name() const override { return name_; }
  const std::string& revision() const override { return revision_; }
  const LlmLimits& limits() const override { return limits_; }
  const TextCodec& codec() const override { return *codec_; }
  void set_vocab_size(int64_t size) { limits_.vocab_size = size; }
  absl::StatusOr<Reservation> Reserve(const LlmRequest&, PromptSize prompt) override {
    MutexLock lock(mutex_);
    if (!reserve_status.ok()) return reserve_status;
    ++held_;
    return Reservation(this, prompt.tokens);
  }
  absl::StatusOr<std::shared_ptr<RequestControl>> Submit(Reservation, LlmRequest request,
                                                         std::shared_ptr<LlmSink> sink) override {
    auto control = std::make_shared<FakeControl>();
    {
      MutexLock lock(mutex_);
      if (!submit_status.ok()) return submit_status;
      last_ = Submitted{std::move(request), std::move(sink), control};
    }
    submitted.Set();
    return control;
  }
  void RecordEnded(const LlmRequest& request, const absl::Status& status) override {
    MutexLock lock(mutex_);
    ended.emplace_back(request.id, status);
  }
  EngineLoad load() const override { return {}; }

  Submitted Next() {  // the request that was submitted last; waits for one
    EXPECT_TRUE(submitted.Wait(++taken_));
    MutexLock lock(mutex_);
    return std::move(last_);
  }
  int held() {
    MutexLock lock(mutex_);
    return held_;
  }

  absl::Status reserve_status, submit_status;               // set before the request
  std::vector<std::pair<std::string, absl::Status>> ended;  // read after the request
  Event submitted;

 private:
  void Release(int64_t) override {
    MutexLock lock(mutex_);
    --held_;
  }
  const std::string name_, revision_ = "0123abcd";
  const std::shared_ptr<const TextCodec> codec_;
  LlmLimits limits_;
  Mutex mutex_;
  Submitted last_;
  int taken_ = 0, held_ = 0;
};

class FakeRegistry final : public ModelRegistry {
 public:
  explicit FakeRegistry(Hooks hooks) : hooks_(std::move(hooks)) {}
  absl::Status Load(const std::string& name, const LoadSpec& spec, const QueueLimits&) override {
    observer = hooks_.make_observer(name);
    handle = std::make_shared<FakeHandle>(name);
    MutexLock lock(mutex_);
    info_.name = name;
    info_.spec = spec;
    info_.device = "cpu";
    info_.memory.bytes = {1000, 200, 30};
    info_.peak_bytes = 1300;
    return absl::OkStatus();
  }
  absl::Status WaitUntilLoaded() override {
    SetState(ModelState::kReady);
    return absl::OkStatus();
  }
  void SetState(ModelState state) {
    ModelInfo info;
    {
      MutexLock lock(mutex_);
      info_.state = state;
      info = info_;
    }
    hooks_.on_change(info);
  }
  absl::StatusOr<std::shared_ptr<LlmHandle>> Find(std::string_view name) override {
    if (!find_status.ok()) return find_status;
    if (!name.empty() && name != handle->name()) {
      return WithReason(absl::NotFoundError("no such model"), "MODEL_NOT_FOUND");
    }
    return handle;
  }
  absl::StatusOr<ModelInfo> Get(std::string_view name) const override {
    MutexLock lock(mutex_);
    if (!name.empty() && name != info_.name) return WithReason(absl::NotFoundError("no such model"), "MODEL_NOT_FOUND");
    return info_;
  }
  std::vector<ModelInfo> List() const override {
    MutexLock lock(mutex_);
    return std::vector<ModelInfo>(listed, info_);
  }
  absl::StatusOr<MemoryPlan> Plan(const LoadSpec&, int64_t) const override {
    MemoryPlan plan;
    plan.use.bytes = {1000, 200, 30};
    plan.kv_blocks = 10;
    plan.max_context = 64;
    return plan;
  }
  int64_t memory_budget_bytes() const override { return 10'000; }
  DeviceInfo device() const override { return {"cpu", "test", "portable", 1}; }
  Duration last_step_age(const std::string&) const override { return {}; }
  void Drain(TimePoint) override { drained.Set(); }

  std::shared_ptr<EngineObserver> observer;
  std::shared_ptr<FakeHandle> handle;
  absl::Status find_status;  // set before the request
  size_t listed = 1;         // how often List has the model; set before the request
  Event drained;

 private:
  const Hooks hooks_;
  mutable Mutex mutex_;
  ModelInfo info_;
};

}  // namespace quantd::testing
