// Clients on several threads that submit, cancel, disconnect, read slowly and set deadlines, at random.
#pragma once

#include <atomic>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/scheduler/fakes.h"

namespace quantd::testing_fakes {

struct ClientTally {
  int finished = 0;  // their sink heard OnDone, once
  int recorded = 0;  // refused or given up, and told to RecordEnded
};

namespace internal {

struct Call {
  std::shared_ptr<RecordingSink> sink = std::make_shared<RecordingSink>();
  std::shared_ptr<RequestControl> control;
  std::shared_ptr<std::atomic<bool>> full = std::make_shared<std::atomic<bool>>(false);
};

inline LlmRequest RandomRequest(std::mt19937_64& rng, std::string id, int64_t most_prompt, int32_t vocab) {
  LlmRequest r;
  r.id = std::move(id);
  const uint64_t length = 1 + rng() % static_cast<uint64_t>(most_prompt);
  const bool shared = rng() % 2 == 0;  // a prompt that others have too
  for (uint64_t i = 0; i < length; ++i) {
    r.prompt.push_back(static_cast<int32_t>((shared ? i : rng()) % static_cast<uint64_t>(vocab)));
  }
  r.stopping.max_new_tokens = 1 + static_cast<int64_t>(rng() % 30);
  r.priority = static_cast<Priority>(rng() % 3);
  r.arrival = Now();
  if (rng() % 5 == 0) r.deadline = r.arrival + std::chrono::milliseconds(rng() % 20);
  if (rng() % 9 == 0) r.max_queue_time = std::chrono::milliseconds(rng() % 5);
  return r;
}

// False where the request did not reach the worker; it is recorded then.
inline bool Start(LlmHandle& handle, std::mt19937_64& rng, const LlmRequest& r, Call& call) {
  if (rng() % 3 == 0) {
    call.sink->on_delta = [full = call.full] {
      *full = true;
      return LlmSink::Flow::kFull;
    };
  }
  auto place = handle.Reserve(r, {static_cast<int64_t>(rng() % 60)});
  absl::Status status = place.status();
  if (place.ok() && rng() % 20 == 0) {
    status = absl::InvalidArgumentError("bad text");  // the place goes back unused
  } else if (place.ok()) {
    auto control = handle.Submit(std::move(*place), r, call.sink);
    status = control.status();
    if (control.ok()) call.control = *control;
  }
  if (!status.ok()) handle.RecordEnded(r, status);
  return status.ok();
}

}  // namespace internal

inline ClientTally RunUnrulyClients(LlmHandle& handle, int requests, int64_t most_prompt, int32_t vocab) {
  constexpr int kThreads = 4;
  const uint64_t seed = std::random_device()();
  std::cout << "seed " << seed << std::endl;
  std::atomic<int> finished{0}, recorded{0};
  const auto finish = [&](internal::Call& call) {
    call.control->Cancel();
    call.sink->Wait();
    EXPECT_EQ(call.sink->done(), 1);
    ++finished;
  };
  std::vector<std::thread> clients;
  for (int t = 0; t < kThreads; ++t) {
    clients.emplace_back([&, t] {
      std::mt19937_64 rng(seed + static_cast<uint64_t>(t));
      std::vector<internal::Call> open;
      for (int i = 0; i < requests / kThreads; ++i) {
        internal::Call call;
        const std::string id = std::to_string(t) + "." + std::to_string(i);
        if (internal::Start(handle, rng, internal::RandomRequest(rng, id, most_prompt, vocab), call)) {
          open.push_back(std::move(call));
        } else {
          ++recorded;
        }
        if (!open.empty() && rng() % 4 == 0) open[rng() % open.size()].control->Cancel();
        if (!open.empty() && rng() % 8 == 0) open[rng() % open.size()].control->Expire();
        for (internal::Call& c : open) {
          if (rng() % 3 == 0 && c.full->exchange(false)) c.control->ReaderReady();
        }
        if (open.size() > 6) {
          // The oldest is let run to its end where its reader reads, else it disconnects.
          if (!open.front().sink->on_delta && rng() % 2 == 0) open.front().sink->Wait();
          finish(open.front());
          open.erase(open.begin());
        }
      }
      for (internal::Call& call : open) finish(call);
    });
  }
  for (std::thread& c : clients) c.join();
  return {finished, recorded};
}

}  // namespace quantd::testing_fakes
