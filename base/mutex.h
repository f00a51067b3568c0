// std::mutex and condition_variable with clang's thread-safety annotations. Not absl::Mutex: Debian's uninstrumented
// libabsl makes ThreadSanitizer blind to its locking.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define QD_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define QD_THREAD_ANNOTATION(x)
#endif
#define QD_CAPABILITY QD_THREAD_ANNOTATION(capability("mutex"))
#define QD_SCOPED_CAPABILITY QD_THREAD_ANNOTATION(scoped_lockable)
#define QD_GUARDED_BY(x) QD_THREAD_ANNOTATION(guarded_by(x))
#define QD_REQUIRES(...) QD_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define QD_ACQUIRE(...) QD_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define QD_RELEASE(...) QD_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define QD_EXCLUDES(...) QD_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))

namespace quantd {

class QD_CAPABILITY Mutex {
 public:
  void Lock() QD_ACQUIRE() { mutex_.lock(); }
  void Unlock() QD_RELEASE() { mutex_.unlock(); }
  // BasicLockable, for CondVar.
  void lock() QD_ACQUIRE() { mutex_.lock(); }
  void unlock() QD_RELEASE() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class QD_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) QD_ACQUIRE(mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~MutexLock() QD_RELEASE() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Waits release the mutex and hold it again on return; wake-ups may be spurious, so callers loop on their condition.
class CondVar {
 public:
  void Wait(Mutex& mutex) QD_REQUIRES(mutex) { cv_.wait(mutex); }
  // False when the deadline passed.
  bool WaitUntil(Mutex& mutex, std::chrono::steady_clock::time_point deadline) QD_REQUIRES(mutex) {
    return cv_.wait_until(mutex, deadline) == std::cv_status::no_timeout;
  }
  void NotifyOne() { cv_.notify_one(); }
  void NotifyAll() { cv_.notify_all(); }

 private:
  std::condition_variable_any cv_;
};

}  // namespace quantd
