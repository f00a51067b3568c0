// What the client commands share: a channel to a running daemon, the model that is asked, generation flags, one
// streamed answer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <grpcpp/grpcpp.h>

#include "quantd/v1/generation.grpc.pb.h"

namespace CLI {
class App;
}

namespace quantd {

// What gRPC connects to, of "HOST:PORT", "HOST" (with the default port), "unix:/PATH" or "unix-abstract:NAME".
// InvalidArgument.
absl::StatusOr<std::string> ParseClientAddress(const std::string& text);

struct ClientFlags {
  std::string address = "127.0.0.1:8001", model;
  std::optional<std::string> wait;
  void AddTo(CLI::App& app);
  void AddAddressTo(CLI::App& app);  // --address alone, which is checked for Connect
  std::shared_ptr<grpc::Channel> Connect() const;
};

// What a daemon says of the model that is asked.
struct ServedModel {
  std::string name;            // empty where it is not known
  bool says_sampling = false;  // its checkpoint says how to sample
  bool says_penalty = false;   // what repetition costs
  bool says_length = false;    // and how long an answer is at most
};
// Finds the model and waits while it loads, as --wait says, telling on standard error. Gives an exit code, having said
// why where it is not kExitOk. A model that the daemon refuses is the request's to tell.
int FindModel(const ClientFlags& flags, const std::shared_ptr<grpc::Channel>& channel, ServedModel& model);

struct SamplingFlags {
  // What the command line asks for where neither a flag nor the checkpoint says anything. docs/api.md has the API's
  // own, which are greedy and without a bound.
  static constexpr float kTemperature = 0.8f, kTopP = 0.95f, kMinP = 0.05f, kRepetitionPenalty = 1.1f;
  static constexpr uint32_t kTopK = 40, kMaxTokens = 1024;

  std::optional<uint32_t> max_tokens, top_k;  // max_tokens 0: as many as the context holds
  std::optional<float> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  void AddTo(CLI::App& app);
  // Sets sampling and stopping of `request` anew.
  void Apply(const ServedModel& model, v1::GenerateRequest& request) const;
};

struct Answer {
  grpc::Status status;
  bool interrupted = false;  // cancelled by Ctrl-C
  bool own_cap = false;      // at most kMaxTokens were asked for, which no flag had said
  std::string text;
  v1::Accepted accepted;
  v1::PromptInfo prompt;
  v1::OutputEnd end;
  v1::Finished finished;
  double first_text_seconds = -1;  // to the first text; -1: none came
};
// InvalidArgument: a text of the request is no UTF-8, which no message can hold.
absl::Status CheckTexts(const v1::GenerateRequest& request);
// Asks as `sampling` says and calls `on_text` as text arrives. Ctrl-C cancels the request. Blocks; one at a time.
Answer Ask(v1::Generation::Stub& stub, const SamplingFlags& sampling, const ServedModel& model,
           v1::GenerateRequest& request, const std::function<void(const std::string&)>& on_text);
// Text of a model to standard output, at once. On a terminal control characters are shown and not obeyed.
void WriteAnswer(const std::string& text);
// For an answer that failed: says why on standard error and gives the exit code.
int ReportFailure(const Answer& answer, const std::string& address);
// "12 tokens, 45.1 tokens/s, first token after 0.03 s" on standard error, and that the default cap ended it.
void PrintSpeed(const Answer& answer);
double Seconds(const google::protobuf::Duration& d);
std::string FinishName(v1::FinishReason reason);  // "eos", "max_tokens", …

}  // namespace quantd
