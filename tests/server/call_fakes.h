// Fakes of what stands around a GenerateCall: its writer and its engine's observer.
#pragma once

#include <string_view>

#include "scheduler/observer.h"
#include "server/generate_call.h"
#include "tests/server/fakes.h"

namespace quantd::testing {

class RecordingWriter final : public EventWriter {
 public:
  LlmSink::Flow Write(v1::GenerateEvent) override { return LlmSink::Flow::kReady; }
  void Close(const absl::Status& s) override {
    status = s;
    closed.Set();
  }
  Event closed;
  absl::Status status;  // after closed
};

class NoObserver final : public EngineObserver {
 public:
  void OnRejected(std::string_view) override {}
  void OnStarted(Priority, Duration) override {}
  void OnFirstToken(Duration) override {}
  void OnInterToken(Duration) override {}
  void OnPrefixLookup(int64_t, int64_t) override {}
  void OnPreempted(int64_t) override {}
  void OnStep(StepPhase, int64_t, int64_t, Duration) override {}
  void OnTokens(const StepTokens&) override {}
  void OnEnded(const RequestRecord&) override {}
  void OnGauges(const EngineGauges&) override {}
};

}  // namespace quantd::testing
