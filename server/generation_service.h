// quantd.v1.Generation on gRPC's callback API.
#pragma once

#include <grpcpp/grpcpp.h>

#include "base/clock.h"
#include "base/mutex.h"
#include "quantd/v1/generation.grpc.pb.h"
#include "server/generate_call.h"
#include "server/message_gate.h"
#include "server/outbox.h"

namespace quantd {

// Streams that have not ended, so that a drain can wait for those that are still being read.
class LiveStreams {
 public:
  void Add() QD_EXCLUDES(mutex_);
  void Remove() QD_EXCLUDES(mutex_);
  // Until there is none, the deadline, or Stop.
  void WaitUntilNone(TimePoint deadline) QD_EXCLUDES(mutex_);
  void Stop() QD_EXCLUDES(mutex_);  // no wait from now on

 private:
  Mutex mutex_;
  CondVar changed_;
  int live_ QD_GUARDED_BY(mutex_) = 0;
  bool stopped_ QD_GUARDED_BY(mutex_) = false;
};

// All but Score, which is not built yet and left to server/unbuilt_service.h.
class GenerationService final : public v1::Generation::WithGenericMethod_Score<v1::Generation::CallbackService> {
 public:
  // `text_pool` runs Tokenize and Detokenize, so that they cannot hold up the prompts of Generate.
  GenerationService(GenerateDeps deps, WorkPool& text_pool, Outbox::Limits outbox, MessageGate& gate);

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context, const v1::GenerateRequest* request,
                                     v1::GenerateResponse* response) override;
  grpc::ServerWriteReactor<v1::GenerateEvent>* GenerateStream(grpc::CallbackServerContext* context,
                                                              const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context, const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context, const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;

  LiveStreams& streams() { return streams_; }

 private:
  const GenerateDeps deps_;
  WorkPool& text_pool_;
  const Outbox::Limits outbox_;
  LiveStreams streams_;
};

}  // namespace quantd
