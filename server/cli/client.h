// What the client commands share: a channel to a running daemon, generation flags, one streamed answer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include "quantd/v1/generation.grpc.pb.h"

namespace CLI {
class App;
}

namespace quantd {

struct ClientFlags {
  std::string address = "127.0.0.1:8001", model;
  void AddTo(CLI::App& app);
  void AddAddressTo(CLI::App& app);  // --address alone, which must be HOST:PORT for Connect
  std::shared_ptr<grpc::Channel> Connect() const;
};

struct SamplingFlags {
  std::optional<uint32_t> max_tokens, top_k;
  std::optional<float> temperature, top_p, min_p;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  void AddTo(CLI::App& app);
  void Apply(v1::GenerateRequest& request) const;
};

struct Answer {
  grpc::Status status;
  bool interrupted = false;  // cancelled by Ctrl-C
  std::string text;
  v1::Accepted accepted;
  v1::PromptInfo prompt;
  v1::OutputEnd end;
  v1::Finished finished;
  double first_text_seconds = -1;  // to the first text; -1: none came
};
// InvalidArgument: a text of the request is no UTF-8, which no message can hold.
absl::Status CheckTexts(const v1::GenerateRequest& request);
// Calls `on_text` as text arrives. Ctrl-C cancels the request. Blocks; one at a time.
Answer Stream(v1::Generation::Stub& stub, const v1::GenerateRequest& request,
              const std::function<void(const std::string&)>& on_text);
// For an answer that failed: says why on standard error and gives the exit code.
int ReportFailure(const Answer& answer, const std::string& address);
// "12 tokens, 45.1 tokens/s, first token after 0.03 s" on standard error.
void PrintSpeed(const Answer& answer);
double Seconds(const google::protobuf::Duration& d);
std::string FinishName(v1::FinishReason reason);  // "eos", "max_tokens", …

}  // namespace quantd
