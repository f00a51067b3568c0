#include "server/outbox.h"

#include <utility>

#include "base/check.h"

namespace quantd {

LlmSink::Flow Outbox::Push(v1::GenerateEvent event) {
  Then then;
  bool full;
  {
    MutexLock lock(mutex_);
    QD_CHECK(!closed_);
    if (gone_) return LlmSink::Flow::kReady;
    const size_t bytes = event.ByteSizeLong();
    queue_.push_back(std::move(event));
    bytes_ += bytes;
    full = queue_.size() >= limits_.messages || bytes_ >= limits_.bytes;
    if (full) paused_ = true;
    then = Next();
  }
  Do(then);
  return full ? LlmSink::Flow::kFull : LlmSink::Flow::kReady;
}

void Outbox::Close(const absl::Status& status) {
  Then then;
  {
    MutexLock lock(mutex_);
    QD_CHECK(!closed_);
    closed_ = true;
    status_ = status;
    then = Next();
  }
  Do(then);
}

void Outbox::OnWriteDone(bool ok) {
  Then then;
  bool ready = false;
  {
    MutexLock lock(mutex_);
    writing_ = false;
    bytes_ -= queue_.front().ByteSizeLong();
    queue_.pop_front();
    if (!ok) gone_ = true;
    if (gone_) DropWaiting();
    if (paused_ && queue_.size() <= limits_.messages / 2 && bytes_ <= limits_.bytes / 2) {
      paused_ = false;
      ready = !closed_;
    }
    then = Next();
  }
  if (ready) stream_.ReaderReady();
  Do(then);  // last: Finish may end the stream's life
}

void Outbox::Abandon() {
  Then then;
  bool ready = false;
  {
    MutexLock lock(mutex_);
    gone_ = true;
    DropWaiting();
    ready = std::exchange(paused_, false) && !closed_;
    then = Next();
  }
  if (ready) stream_.ReaderReady();
  Do(then);
}

// The event in flight stays: gRPC still reads it.
void Outbox::DropWaiting() {
  while (queue_.size() > (writing_ ? 1u : 0u)) {
    bytes_ -= queue_.back().ByteSizeLong();
    queue_.pop_back();
  }
}

Outbox::Then Outbox::Next() {
  if (writing_ || finished_) return Then::kNothing;
  if (!queue_.empty()) {
    writing_ = true;
    return Then::kWrite;
  }
  if (!closed_) return Then::kNothing;
  finished_ = true;
  return Then::kFinish;
}

void Outbox::Do(Then then) {
  if (then == Then::kFinish) {
    absl::Status status;
    {
      MutexLock lock(mutex_);
      status = status_;
    }
    stream_.Finish(status);
  } else if (then == Then::kWrite) {
    const v1::GenerateEvent* front;
    {
      MutexLock lock(mutex_);
      front = &queue_.front();  // stays where it is: a deque's ends grow without moving it
    }
    stream_.StartWrite(front);
  }
}

}  // namespace quantd
