// Outbox: what waits to be written to one stream. One write is in flight; the queue is bounded in messages and bytes; a
// full one asks its producer to pause, and says when it has drained to half. Nothing is dropped unless the stream
// is abandoned.
#pragma once

#include <cstddef>
#include <deque>

#include <absl/status/status.h>

#include "base/mutex.h"
#include "quantd/v1/generation.pb.h"
#include "scheduler/request.h"

namespace quantd {

class Outbox {
 public:
  // The stream underneath, called with no lock held. StartWrite's message stays alive until OnWriteDone.
  class Stream {
   public:
    virtual ~Stream() = default;
    virtual void StartWrite(const v1::GenerateEvent* event) = 0;
    virtual void Finish(const absl::Status& status) = 0;  // once, after the last write is done
    virtual void ReaderReady() = 0;                       // after a kFull, at low water
  };
  struct Limits {
    size_t messages = 256;
    size_t bytes = 1 << 20;
  };

  Outbox(Stream& stream, Limits limits) : stream_(stream), limits_(limits) {}

  // Producer (one thread at a time). kFull: the event was taken, send no more before ReaderReady.
  LlmSink::Flow Push(v1::GenerateEvent event) QD_EXCLUDES(mutex_);
  // No event follows; `status` is sent when everything before it has been.
  void Close(const absl::Status& status) QD_EXCLUDES(mutex_);
  // gRPC. `ok` is false where the client is gone: what waits is dropped.
  void OnWriteDone(bool ok) QD_EXCLUDES(mutex_);
  // The client is gone, or read too little for too long: what waits is dropped, later events too; Close still finishes
  // the stream, after the write in flight.
  void Abandon() QD_EXCLUDES(mutex_);

 private:
  enum class Then { kNothing, kWrite, kFinish };
  Then Next() QD_REQUIRES(mutex_);
  void Do(Then then) QD_EXCLUDES(mutex_);
  void DropWaiting() QD_REQUIRES(mutex_);

  Stream& stream_;
  const Limits limits_;
  Mutex mutex_;
  std::deque<v1::GenerateEvent> queue_ QD_GUARDED_BY(mutex_);  // the front is in flight while writing_
  size_t bytes_ QD_GUARDED_BY(mutex_) = 0;
  bool writing_ QD_GUARDED_BY(mutex_) = false;
  bool paused_ QD_GUARDED_BY(mutex_) = false;  // the producer was told kFull
  bool gone_ QD_GUARDED_BY(mutex_) = false;
  bool closed_ QD_GUARDED_BY(mutex_) = false;
  bool finished_ QD_GUARDED_BY(mutex_) = false;
  absl::Status status_ QD_GUARDED_BY(mutex_);
};

}  // namespace quantd
