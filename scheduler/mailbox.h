// Mailbox: how every other thread talks to a worker. Thread-safe; its lock is held for a few instructions only, so
// posting never waits for a step. It needs no bound of its own: submissions are bounded by their reservations, a
// request has at most one notice in it, and a loader waits for each of its calls.
//
// Mail takes memory to post and may throw where there is none; a notice takes none, so a request that was accepted can
// always be spoken to.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"

namespace quantd {

class Mailbox {
 public:
  using Mail = std::function<void()>;  // runs on the worker's thread, between steps

  // What its owner posts any number of times, though never while it is in the mailbox.
  class Notice {
   public:
    virtual ~Notice() = default;
    // On the worker's thread, between steps. It is out of the mailbox by then.
    virtual void Deliver() = 0;

   private:
    friend class Mailbox;
    std::shared_ptr<Notice> next_;  // in the mailbox
  };

  // What was posted: mail, then notices, each in order of posting.
  class Batch {
   public:
    // Calls run(one) for each, `one` being what is to be called. What was run is gone before the next one is.
    template <typename Run>
    void ForEach(const Run& run) {
      for (Mail& mail : mail_) {
        run(mail);
        mail = nullptr;
      }
      while (notices_ != nullptr) {
        const std::shared_ptr<Notice> notice = std::exchange(notices_, nullptr);
        notices_ = std::move(notice->next_);
        run([&] { notice->Deliver(); });
      }
    }
    void Deliver() {
      ForEach([](const auto& one) { one(); });
    }

   private:
    friend class Mailbox;
    std::vector<Mail> mail_;
    std::shared_ptr<Notice> notices_;
  };

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
  bool PostNotice(std::shared_ptr<Notice> notice) QD_EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      if (closed_) return false;
      Notice* const last = notice.get();
      (notices_ == nullptr ? notices_ : last_notice_->next_) = std::move(notice);
      last_notice_ = last;
    }
    arrived_.NotifyOne();
    return true;
  }

  // Waits for mail or Close until `until`: a time, at once (TimePoint::min()) or for ever (max()).
  Batch Take(TimePoint until) QD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    while (mail_.empty() && notices_ == nullptr && !closed_) {
      if (until == TimePoint::min()) break;
      if (until == TimePoint::max()) {
        arrived_.Wait(mutex_);
      } else if (!arrived_.WaitUntil(mutex_, until)) {
        break;
      }
    }
    Batch batch;
    batch.mail_.swap(mail_);
    batch.notices_.swap(notices_);
    return batch;
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
  std::shared_ptr<Notice> notices_ QD_GUARDED_BY(mutex_);  // a list, the oldest first
  Notice* last_notice_ QD_GUARDED_BY(mutex_) = nullptr;
  bool closed_ QD_GUARDED_BY(mutex_) = false;
};

}  // namespace quantd
