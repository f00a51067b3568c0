// Worker: one thread that owns one device and everything on it: the backend, the engines, their models.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include <absl/status/statusor.h>

#include "base/mutex.h"
#include "kernels/backend.h"
#include "scheduler/engine.h"
#include "scheduler/mailbox.h"
#include "scheduler/quantum.h"

namespace quantd {

class Worker {
 public:
  // Makes the backend on the new thread. Errors as CreateBackend's.
  static absl::StatusOr<std::unique_ptr<Worker>> Start(std::string_view backend_kind, const BackendOptions& options);
  ~Worker();  // ends what runs with Cancelled OPERATOR, destroys engines and backend on the thread, joins it

  // Any thread.
  const std::shared_ptr<Mailbox>& mailbox() const { return mailbox_; }
  const DeviceInfo& device() const { return device_; }
  // Of the backend, as of the last RunOnDevice: nothing else allocates.
  MemorySnapshot memory() const QD_EXCLUDES(memory_mutex_);
  // Runs `work` on the worker's thread between two steps and returns when it has run. False: the worker is going, and
  // it did not run. What `work` throws is thrown here.
  bool RunOnDevice(const std::function<void()>& work);

  // The worker's thread only, so from within RunOnDevice.
  Backend& backend() { return *backend_; }
  void AddEngine(std::unique_ptr<Engine> engine);
  void EndAll(const absl::Status& status);

 private:
  explicit Worker(std::shared_ptr<Mailbox> mailbox) : mailbox_(std::move(mailbox)) {}
  void Loop();
  void RunMail(TimePoint until);  // waits for it until then
  void Survive(const std::function<void()>& work);
  bool RunQuantum();  // false where no engine has a step
  TimePoint NextWakeup() const;
  void PublishMemory() QD_EXCLUDES(memory_mutex_);

  const std::shared_ptr<Mailbox> mailbox_;
  DeviceInfo device_;
  mutable Mutex memory_mutex_;
  MemorySnapshot memory_ QD_GUARDED_BY(memory_mutex_);

  // Of the thread.
  std::unique_ptr<Backend> backend_;
  std::vector<std::unique_ptr<Engine>> engines_;
  std::vector<Offer> offers_;
  FairShares shares_;
  std::thread thread_;
};

}  // namespace quantd
