#include "server/cli/client.h"

#include <unistd.h>

#include <algorithm>
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
#include "runtime/printable.h"
#include "runtime/utf8.h"
#include "server/cli/cli.h"
#include "server/options.h"
#include "server/status.h"

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

absl::Status CheckUtf8(std::string_view what, std::string_view text) {
  const std::optional<size_t> bad = FindInvalidUtf8(text);
  if (!bad.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(what), " is no UTF-8 text, at byte ", *bad));
}

}  // namespace

absl::StatusOr<std::string> ParseClientAddress(const std::string& text) {
  constexpr int kDefaultPort = 8001;
  for (const std::string_view socket : {"unix:", "unix-abstract:"}) {
    if (text.starts_with(socket) && text.size() > socket.size()) return text;
  }
  const bool bracketed = text.starts_with('[');
  const bool has_port = bracketed ? text.find("]:") != std::string::npos : text.find(':') != std::string::npos;
  const std::string whole = has_port ? text : absl::StrCat(text, ":", kDefaultPort);
  const absl::StatusOr<HostPort> address = ParseHostPort(whole);
  const bool plain = text.find('/') == std::string::npos && !text.empty();
  if (plain && address.ok() && address->port > 0) return whole;
  return absl::InvalidArgumentError(absl::StrCat("\"", Printable(text),
                                                 "\" is no address of a daemon: expected HOST:PORT such as "
                                                 "127.0.0.1:8001, HOST, or unix:/PATH"));
}

void ClientFlags::AddAddressTo(CLI::App& app) {
  app.add_option("--address", address, "gRPC address of the daemon: HOST:PORT or unix:/PATH; default 127.0.0.1:8001")
      ->type_name("ADDRESS")
      ->group("Daemon")
      ->check([](const std::string& text) { return std::string(ParseClientAddress(text).status().message()); });
}

void ClientFlags::AddTo(CLI::App& app) {
  AddAddressTo(app);
  app.add_option("-m,--model", model, "May be left out where one model is served")->type_name("NAME")->group("Daemon");
  app.add_option("--wait", wait,
                 "For a model that loads, default 10m, 0s = not at all; given, also for a daemon that\n"
                 "is not there yet")
      ->type_name("TIME")
      ->group("Daemon")
      ->check([](const std::string& text) { return std::string(ParseDuration(text).status().message()); });
}

std::shared_ptr<grpc::Channel> ClientFlags::Connect() const {
  const std::string target = *ParseClientAddress(address);
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  if (target.starts_with("unix") || IsLoopback(*ParseHostPort(target))) {
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  }
  return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments);
}

void SamplingFlags::AddTo(CLI::App& app) {
  constexpr char kGroup[] = "Sampling (defaults where the checkpoint says nothing)";
  const auto number = [&](const char* names, auto& field, const std::string& text) {
    app.add_option(names, field, text)->type_name("NUMBER")->group(kGroup);
  };
  number("--temperature", temperature, absl::StrCat("0 = greedy; default ", kTemperature));
  number("--top-k", top_k, absl::StrCat("0 = off; default ", kTopK));
  number("--top-p", top_p, absl::StrCat("1 = off; default ", kTopP));
  number("--min-p", min_p, absl::StrCat("0 = off; default ", kMinP));
  number("--repetition-penalty", repetition_penalty, absl::StrCat("1 = off; default ", kRepetitionPenalty));
  number("--presence-penalty", presence_penalty, "0 = off; default off");
  number("--frequency-penalty", frequency_penalty, "0 = off; default off");
  app.add_option("--seed", seed, "Of sampling; default: the server picks one")
      ->type_name("NUMBER")
      ->group(kGroup)
      ->check([](const std::string& text) {
        uint64_t value = 0;
        const bool ok = absl::SimpleAtoi(text, &value) && text.find('-') == std::string::npos;
        return ok ? std::string() : text + " is no whole number from 0 to 18446744073709551615";
      });
  constexpr char kLength[] = "Length";
  app.add_option("-n,--max-tokens", max_tokens,
                 absl::StrCat("Of the answer; 0 = as many as the context holds; default ", kMaxTokens))
      ->type_name("N")
      ->group(kLength);
  app.add_option("--stop", stop, "Text at which the answer ends (repeatable)")
      ->type_name("TEXT")
      ->group(kLength)
      ->allow_extra_args(false);  // the word after its text is the message
}

void SamplingFlags::Apply(const ServedModel& model, v1::GenerateRequest& request) const {
  v1::Sampling& s = *request.mutable_sampling();
  s.Clear();
  if (!model.says_sampling && temperature != 0.0f) {
    s.set_temperature(kTemperature);
    s.set_top_k(kTopK);
    s.set_top_p(kTopP);
    s.set_min_p(kMinP);
    if (!model.says_penalty) s.set_repetition_penalty(kRepetitionPenalty);
  }
  if (temperature.has_value()) s.set_temperature(*temperature);
  if (top_k.has_value()) s.set_top_k(*top_k);
  if (top_p.has_value()) s.set_top_p(*top_p);
  if (min_p.has_value()) s.set_min_p(*min_p);
  if (repetition_penalty.has_value()) s.set_repetition_penalty(*repetition_penalty);
  if (presence_penalty.has_value()) s.set_presence_penalty(*presence_penalty);
  if (frequency_penalty.has_value()) s.set_frequency_penalty(*frequency_penalty);
  if (seed.has_value()) s.set_seed(*seed);
  v1::Stopping& stopping = *request.mutable_stopping();
  stopping.Clear();
  if (max_tokens.has_value()) {
    if (*max_tokens > 0) stopping.set_max_new_tokens(*max_tokens);
  } else if (!model.says_length) {
    stopping.set_max_new_tokens(kMaxTokens);
  }
  stopping.mutable_stop()->Add(stop.begin(), stop.end());
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

namespace {

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

}  // namespace

Answer Ask(v1::Generation::Stub& stub, const SamplingFlags& sampling, const ServedModel& model,
           v1::GenerateRequest& request, const std::function<void(const std::string&)>& on_text) {
  sampling.Apply(model, request);
  const bool own_cap = request.stopping().has_max_new_tokens() && !sampling.max_tokens.has_value();
  Answer answer = Stream(stub, request, on_text);
  const std::string reason = answer.status.ok() ? "" : ReadDetails(answer.status).reason;
  if (own_cap && (reason == "CONTEXT_TOO_LONG" || reason == "EXCEEDS_CAPACITY")) {
    // What the context has left is less than the cap, and is the cap then.
    request.mutable_stopping()->clear_max_new_tokens();
    return Stream(stub, request, on_text);
  }
  answer.own_cap = own_cap;
  return answer;
}

void WriteAnswer(const std::string& text) {
  static const bool terminal = isatty(STDOUT_FILENO) != 0;
  if (!terminal) {
    WriteOut(text);
    return;
  }
  std::string shown;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find_first_of("\n\t", begin), text.size());
    shown += Printable(std::string_view(text).substr(begin, end - begin), text.size());
    if (end < text.size()) shown += text[end];
    begin = end + 1;
  }
  WriteOut(shown);
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
  if (answer.own_cap && answer.end.reason() == v1::FINISH_REASON_MAX_TOKENS) {
    std::fprintf(stderr, "cut after %u tokens; --max-tokens N allows another number, 0 as many as the context holds\n",
                 SamplingFlags::kMaxTokens);
  }
}

double Seconds(const google::protobuf::Duration& d) { return static_cast<double>(d.seconds()) + d.nanos() * 1e-9; }

std::string FinishName(v1::FinishReason reason) {
  std::string name = v1::FinishReason_Name(reason);
  constexpr std::string_view kPrefix = "FINISH_REASON_";
  if (name.starts_with(kPrefix)) name = name.substr(kPrefix.size());
  return absl::AsciiStrToLower(name);
}

}  // namespace quantd
