#include "scheduler/worker.h"

#include <exception>
#include <string>
#include <utility>

#include "base/allocation_failure.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/status_macros.h"

namespace quantd {
namespace {

// One result that another thread waits for.
class Done {
 public:
  void Set() {
    MutexLock lock(mutex_);
    done_ = true;
    changed_.NotifyAll();  // under the lock: the waiter destroys this as soon as it can look
  }
  void Wait() {
    MutexLock lock(mutex_);
    while (!done_) changed_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool done_ QD_GUARDED_BY(mutex_) = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Worker>> Worker::Start(std::string_view backend_kind, const BackendOptions& options) {
  std::unique_ptr<Worker> worker(new Worker(std::make_shared<Mailbox>()));
  absl::Status made;
  Done ready;
  worker->thread_ = std::thread([w = worker.get(), kind = std::string(backend_kind), options, &made, &ready] {
    const absl::Status status = CatchAllocationFailure([&] {
      QD_ASSIGN_OR_RETURN(w->backend_, CreateBackend(kind, options));
      w->device_ = w->backend_->device();
      w->PublishMemory();
      return absl::OkStatus();
    });
    if (!status.ok()) w->backend_.reset();  // on its own thread
    made = status;
    ready.Set();
    if (status.ok()) w->Loop();
  });
  ready.Wait();
  if (!made.ok()) return made;
  return worker;
}

Worker::~Worker() {
  mailbox_->Close();
  if (thread_.joinable()) thread_.join();  // else it could not be started
}

MemorySnapshot Worker::memory() const {
  MutexLock lock(memory_mutex_);
  return memory_;
}

void Worker::PublishMemory() {
  MemorySnapshot snapshot = backend_->memory();
  MutexLock lock(memory_mutex_);
  memory_ = std::move(snapshot);
}

bool Worker::RunOnDevice(const std::function<void()>& work) {
  if (std::this_thread::get_id() == thread_.get_id()) {
    work();
    PublishMemory();
    return true;
  }
  Done done;
  std::exception_ptr thrown;  // an allocation of `work` that failed is its caller's
  const bool posted = mailbox_->Post([&] {
    try {
      work();
      PublishMemory();
    } catch (...) {
      thrown = std::current_exception();
    }
    done.Set();
  });
  if (posted) done.Wait();
  if (thrown) std::rethrow_exception(thrown);
  return posted;
}

void Worker::AddEngine(std::unique_ptr<Engine> engine) {
  QD_CHECK(std::this_thread::get_id() == thread_.get_id());
  // What a quantum is chosen with, so that no choice allocates.
  offers_.reserve(engines_.size() + 1);
  shares_.Add(static_cast<int>(engines_.size()));
  engines_.push_back(std::move(engine));
}

void Worker::EndAll(const absl::Status& status) {
  for (const auto& engine : engines_) engine->EndAll(status);
}

void Worker::Loop() {
  bool busy = false;
  while (!mailbox_->closed()) {
    RunMail(busy ? TimePoint::min() : NextWakeup());
    busy = false;
    Survive([&] {
      const TimePoint now = Now();
      for (const auto& engine : engines_) engine->Tick(now);
      busy = RunQuantum();
    });
  }
  RunMail(TimePoint::min());
  Survive([&] { EndAll(WithReason(absl::CancelledError("the daemon ends"), "OPERATOR")); });
  engines_.clear();
  backend_.reset();
}

void Worker::RunMail(TimePoint until) {
  mailbox_->Take(until).ForEach([this](const auto& mail) { Survive([&] { mail(); }); });
}

// The thread's last net under an allocation that fails: what engines do not catch themselves ends the requests of all.
void Worker::Survive(const std::function<void()>& work) {
  const auto attempt = [](const std::function<void()>& f) {
    return CatchAllocationFailure([&] {
      f();
      return absl::OkStatus();
    });
  };
  const absl::Status status = attempt(work);
  if (!status.ok()) static_cast<void>(attempt([&] { EndAll(status); }));
}

bool Worker::RunQuantum() {
  const TimePoint now = Now();
  offers_.clear();
  for (size_t i = 0; i < engines_.size(); ++i) {
    std::optional<Offer> offer = engines_[i]->Peek(now);
    if (!offer) continue;
    offer->engine = static_cast<int>(i);
    offers_.push_back(*offer);
  }
  const int pick = PickQuantum(offers_, shares_);
  if (pick < 0) return false;
  const Offer& offer = offers_[static_cast<size_t>(pick)];
  engines_[static_cast<size_t>(offer.engine)]->Run();
  shares_.Charge(offer.engine, offer.priority, ToSeconds(Now() - now));
  return true;
}

TimePoint Worker::NextWakeup() const {
  TimePoint first = TimePoint::max();
  for (const auto& engine : engines_) {
    if (const std::optional<TimePoint> t = engine->NextWakeup()) first = std::min(first, *t);
  }
  return first;
}

}  // namespace quantd
