#include "server/cli/client.h"

#include <atomic>
#include <csignal>
#include <cstdio>
#include <thread>

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>

#include <CLI/CLI.hpp>

#include "base/clock.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/utf8.h"
#include "server/cli/cli.h"
#include "server/options.h"

namespace quantd {
namespace {

std::atomic<bool> g_interrupted{false};  // a signal handler can reach nothing else

// Cancels `context` when SIGINT comes, for as long as it lives. Nothing of gRPC may be called in a handler, so a thread
// looks at what the handler left.
class CancelOnInterrupt {
 public:
  explicit CancelOnInterrupt(grpc::ClientContext& context) {
    g_interrupted = false;
    struct sigaction action = {};
    action.sa_handler = [](int) { g_interrupted = true; };
    sigaction(SIGINT, &action, &before_);
    thread_ = std::jthread([&context](std::stop_token stop) {
      while (!stop.stop_requested()) {
        if (g_interrupted) context.TryCancel();  // more than once does nothing
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
  }
  ~CancelOnInterrupt() {
    thread_.request_stop();
    thread_.join();
    sigaction(SIGINT, &before_, nullptr);
  }
  bool interrupted() const { return g_interrupted; }

 private:
  struct sigaction before_ = {};
  std::jthread thread_;
};

// What CLI11 wants of a check: nothing where all is well.
std::string Complaint(const absl::Status& status) { return std::string(status.message()); }

bool IsLoopback(const std::string& host) {
  const bool ipv4 = host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos;
  return ipv4 || host == "::1" || absl::AsciiStrToLower(host) == "localhost";
}

absl::Status CheckUtf8(std::string_view what, std::string_view text) {
  const std::optional<size_t> bad = FindInvalidUtf8(text);
  if (!bad.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(what), " is no UTF-8 text, at byte ", *bad));
}

}  // namespace

void ClientFlags::AddAddressTo(CLI::App& app) {
  app.add_option("--address", address, "gRPC address of the daemon; default 127.0.0.1:8001")
      ->type_name("HOST:PORT")
      ->check([](const std::string& text) { return Complaint(ParseHostPort(text).status()); });
}

void ClientFlags::AddTo(CLI::App& app) {
  AddAddressTo(app);
  app.add_option("--model", model, "May be left out where one model is loaded")->type_name("NAME");
}

std::shared_ptr<grpc::Channel> ClientFlags::Connect() const {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  if (IsLoopback(ParseHostPort(address)->host)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

void SamplingFlags::AddTo(CLI::App& app) {
  app.add_option("--max-tokens", max_tokens, "Default: as many as the context holds");
  app.add_option("--temperature", temperature,
                 "0 = greedy; default: as the model's generation_config.json\nsays, greedy without one (every GGUF)");
  app.add_option("--top-k", top_k, "0 = off; default: the model's, else off");
  app.add_option("--top-p", top_p, "1 = off; default: the model's, else off");
  app.add_option("--min-p", min_p, "0 = off; default: the model's, else off");
  app.add_option("--seed", seed, "Of sampling, with a temperature over 0; default: the server picks one")
      ->check([](const std::string& text) {
        uint64_t value = 0;
        const bool ok = absl::SimpleAtoi(text, &value) && text.find('-') == std::string::npos;
        return ok ? std::string() : text + " is no whole number from 0 to 18446744073709551615";
      });
  app.add_option("--stop", stop, "Text at which the answer ends (repeatable)")
      ->type_name("TEXT")
      ->allow_extra_args(false);  // the word after its text is the message
}

void SamplingFlags::Apply(v1::GenerateRequest& request) const {
  v1::Sampling& s = *request.mutable_sampling();
  if (temperature.has_value()) s.set_temperature(*temperature);
  if (top_k.has_value()) s.set_top_k(*top_k);
  if (top_p.has_value()) s.set_top_p(*top_p);
  if (min_p.has_value()) s.set_min_p(*min_p);
  if (seed.has_value()) s.set_seed(*seed);
  if (max_tokens.has_value()) request.mutable_stopping()->set_max_new_tokens(*max_tokens);
  request.mutable_stopping()->mutable_stop()->Add(stop.begin(), stop.end());
}

absl::Status CheckTexts(const v1::GenerateRequest& request) {
  QD_RETURN_IF_ERROR(CheckUtf8("--model", request.model()));
  QD_RETURN_IF_ERROR(CheckUtf8("the prompt", request.text()));
  for (const v1::ChatMessage& m : request.chat().messages()) {
    QD_RETURN_IF_ERROR(CheckUtf8(absl::StrCat("the ", m.role(), " message"), m.content()));
  }
  for (const std::string& text : request.stopping().stop()) QD_RETURN_IF_ERROR(CheckUtf8("--stop", text));
  return absl::OkStatus();
}

Answer Stream(v1::Generation::Stub& stub, const v1::GenerateRequest& request,
              const std::function<void(const std::string&)>& on_text) {
  Answer answer;
  grpc::ClientContext context;
  CancelOnInterrupt cancel(context);
  const TimePoint start = Now();
  auto reader = stub.GenerateStream(&context, request);
  v1::GenerateEvent event;
  while (reader->Read(&event)) {
    switch (event.event_case()) {
      case v1::GenerateEvent::kAccepted:
        answer.accepted = event.accepted();
        break;
      case v1::GenerateEvent::kPrompt:
        answer.prompt = event.prompt();
        break;
      case v1::GenerateEvent::kDelta:
        if (answer.first_text_seconds < 0) answer.first_text_seconds = ToSeconds(Now() - start);
        answer.text += event.delta().text();
        on_text(event.delta().text());
        break;
      case v1::GenerateEvent::kOutputEnd:
        answer.end = event.output_end();
        break;
      case v1::GenerateEvent::kFinished:
        answer.finished = event.finished();
        break;
      case v1::GenerateEvent::EVENT_NOT_SET:
        break;
    }
  }
  answer.status = reader->Finish();
  answer.interrupted = cancel.interrupted() && answer.status.error_code() == grpc::StatusCode::CANCELLED;
  return answer;
}

int ReportFailure(const Answer& answer, const std::string& address) {
  if (answer.interrupted) {
    std::fputs("cancelled\n", stderr);
    return kExitInterrupted;
  }
  PrintError(answer.status, address);
  return kExitRuntime;
}

void PrintSpeed(const Answer& answer) {
  const uint32_t tokens = answer.finished.usage().new_tokens();
  // Tokens after the first over the time since it, as the daemon saw them.
  const v1::Timing& timing = answer.finished.timing();
  const double decode = Seconds(timing.total()) - Seconds(timing.first_output());
  std::fprintf(stderr, "%u prompt tokens (%u cached), %u tokens", answer.prompt.prompt_tokens(),
               answer.prompt.cached_tokens(), tokens);
  if (tokens > 1 && decode > 0) {
    std::fprintf(stderr, ", %.1f tokens/s", (tokens - 1) / decode);
  }
  if (answer.first_text_seconds >= 0) std::fprintf(stderr, ", first text after %.3f s", answer.first_text_seconds);
  std::fprintf(stderr, ", ended by %s\n", FinishName(answer.end.reason()).c_str());
}

double Seconds(const google::protobuf::Duration& d) { return static_cast<double>(d.seconds()) + d.nanos() * 1e-9; }

std::string FinishName(v1::FinishReason reason) {
  std::string name = v1::FinishReason_Name(reason);
  constexpr std::string_view kPrefix = "FINISH_REASON_";
  if (name.starts_with(kPrefix)) name = name.substr(kPrefix.size());
  return absl::AsciiStrToLower(name);
}

}  // namespace quantd
