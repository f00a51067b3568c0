// `quantd chat`: one message, or a conversation that keeps its history.
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include <CLI/CLI.hpp>

#include "quantd/v1/models.grpc.pb.h"
#include "server/cli/cli.h"
#include "server/cli/client.h"

namespace quantd {
namespace {

constexpr char kHelp[] = "Ctrl-C stops an answer, /clear begins anew, /quit or Ctrl-D ends, /help says this.\n";

struct ChatFlags {
  ClientFlags client;
  SamplingFlags sampling;
  std::string system;
  std::optional<std::string> message;
};

// Asks with the history so far and adds the answer to it. Gives the exit code; where it is not kExitOk, the history is
// as before the message.
int Ask(v1::Generation::Stub& stub, v1::GenerateRequest& request, const std::string& message,
        const std::string& address) {
  v1::Chat& chat = *request.mutable_chat();
  v1::ChatMessage& user = *chat.add_messages();
  user.set_role("user");
  user.set_content(message);
  if (absl::Status status = CheckTexts(request); !status.ok()) {
    chat.mutable_messages()->RemoveLast();
    PrintUsageError(status);
    return kExitUsage;
  }
  const Answer answer = Stream(stub, request, WriteOut);
  if (answer.status.ok() || !answer.text.empty()) WriteOut("\n");
  if (!answer.status.ok()) {
    chat.mutable_messages()->RemoveLast();
    return ReportFailure(answer, address);
  }
  PrintSpeed(answer);
  v1::ChatMessage& assistant = *chat.add_messages();
  assistant.set_role("assistant");
  assistant.set_content(answer.text);
  return kExitOk;
}

// A person at a terminal learns of a daemon that is not there before typing a question, and goes on after a failed one;
// a script ends with it.
int Converse(const ClientFlags& client, const std::shared_ptr<grpc::Channel>& channel, v1::GenerateRequest& request) {
  const bool terminal = isatty(0) != 0;
  if (terminal) {
    grpc::ClientContext context;
    v1::ListModelsResponse models;
    const grpc::Status status = v1::Models::NewStub(channel)->ListModels(&context, v1::ListModelsRequest(), &models);
    if (!status.ok()) {
      PrintError(status, client.address);
      return kExitRuntime;
    }
    std::fputs(kHelp, stderr);
  }
  auto stub = v1::Generation::NewStub(channel);
  const int first = request.chat().messages_size();  // after the system message
  for (std::string line; terminal && std::fputs("> ", stderr), std::getline(std::cin, line);) {
    if (line == "/quit") break;
    if (line.empty()) continue;
    if (terminal && line == "/help") {
      std::fputs(kHelp, stderr);
      continue;
    }
    if (terminal && line == "/clear") {
      request.mutable_chat()->mutable_messages()->DeleteSubrange(first, request.chat().messages_size() - first);
      continue;
    }
    if (const int code = Ask(*stub, request, line, client.address); code != kExitOk && !terminal) return code;
  }
  return kExitOk;
}

int Run(const ChatFlags& f) {
  const std::shared_ptr<grpc::Channel> channel = f.client.Connect();
  v1::GenerateRequest request;
  request.set_model(f.client.model);
  f.sampling.Apply(request);
  if (!f.system.empty()) {
    v1::ChatMessage& system = *request.mutable_chat()->add_messages();
    system.set_role("system");
    system.set_content(f.system);
  }
  if (!f.message.has_value()) return Converse(f.client, channel, request);
  return Ask(*v1::Generation::NewStub(channel), request, *f.message, f.client.address);
}

}  // namespace

void AddChat(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("chat", "Talk to a model of a running daemon")->group("Ask a running daemon");
  auto f = std::make_shared<ChatFlags>();
  f->client.AddTo(*command);
  command->add_option("--system", f->system, "A system message")->type_name("TEXT");
  f->sampling.AddTo(*command);
  command->add_option("message", f->message, "One message; without it, a conversation, one message a line")
      ->type_name("MESSAGE");
  command->footer(
      "Examples:\n"
      "  quantd chat 'What is the capital of France?'\n"
      "  quantd chat --system 'Answer in one sentence.' --temperature 0\n"
      "  quantd chat < questions.txt");
  command->callback([f, &exit_code] { exit_code = Run(*f); });
}

}  // namespace quantd
