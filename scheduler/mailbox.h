// Mailbox: how every other thread talks to a worker. Thread-safe; its lock is held for a few instructions only, so
// posting never waits for a step. It needs no bound of its own: submissions are bounded by their reservations, a
// request has at most one notice in it, and a loader waits for each of its calls.
#pragma once

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"

namespace quantd {

class Mailbox {
 public:
  using Mail = std::function<void()>;  // runs on the worker's thread, between steps

  // False where the worker is gone or going: the mail will not run.
  bool Post(Mail mail) QD_EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      if (closed_) return false;
      mail_.push_back(std::move(mail));
    }
    arrived_.NotifyOne();
    return true;
  }

  // In order of posting. Waits for mail or Close until `until`: a time, at once (TimePoint::min()) or for ever (max()).
  std::vector<Mail> Take(TimePoint until) QD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    while (mail_.empty() && !closed_) {
      if (until == TimePoint::min()) break;
      if (until == TimePoint::max()) {
        arrived_.Wait(mutex_);
      } else if (!arrived_.WaitUntil(mutex_, until)) {
        break;
      }
    }
    return std::exchange(mail_, {});
  }

  void Close() QD_EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      closed_ = true;
    }
    arrived_.NotifyOne();
  }
  bool closed() const QD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return closed_;
  }

 private:
  mutable Mutex mutex_;
  CondVar arrived_;
  std::vector<Mail> mail_ QD_GUARDED_BY(mutex_);
  bool closed_ QD_GUARDED_BY(mutex_) = false;
};

}  // namespace quantd
