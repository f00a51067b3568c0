// `quantd chat`: one message, or a conversation that keeps its history.
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include <CLI/CLI.hpp>

#include "server/cli/cli.h"
#include "server/cli/client.h"

namespace quantd {
namespace {

struct ChatFlags {
  ClientFlags client;
  SamplingFlags sampling;
  std::string system, message;
};

// Asks with the history so far and adds the answer to it. False where it failed; the history is then as before the
// message.
bool Ask(v1::Generation::Stub& stub, v1::GenerateRequest& request, const std::string& message) {
  v1::Chat& chat = *request.mutable_chat();
  v1::ChatMessage& user = *chat.add_messages();
  user.set_role("user");
  user.set_content(message);
  const Answer answer = Stream(stub, request, [](const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  });
  std::fputc('\n', stdout);
  std::fflush(stdout);
  if (!answer.status.ok()) {
    chat.mutable_messages()->RemoveLast();
    PrintError(answer.status);
    return false;
  }
  PrintSpeed(answer);
  v1::ChatMessage& assistant = *chat.add_messages();
  assistant.set_role("assistant");
  assistant.set_content(answer.text);
  return true;
}

int Run(const ChatFlags& f) {
  auto stub = v1::Generation::NewStub(f.client.Connect());
  v1::GenerateRequest request;
  request.set_model(f.client.model);
  f.sampling.Apply(request);
  if (!f.system.empty()) {
    v1::ChatMessage& system = *request.mutable_chat()->add_messages();
    system.set_role("system");
    system.set_content(f.system);
  }
  if (!f.message.empty()) return Ask(*stub, request, f.message) ? kExitOk : kExitRuntime;
  const bool terminal = isatty(0) != 0;
  if (terminal) std::fputs("Ctrl-C stops an answer, /quit or Ctrl-D ends.\n", stderr);
  for (std::string line; terminal && std::fputs("> ", stderr), std::getline(std::cin, line);) {
    if (line == "/quit") break;
    if (!line.empty()) Ask(*stub, request, line);
  }
  return kExitOk;
}

}  // namespace

void AddChat(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("chat", "Talk to a model of a running daemon");
  auto f = std::make_shared<ChatFlags>();
  f->client.AddTo(*command);
  command->add_option("--system", f->system, "A system message")->type_name("TEXT");
  f->sampling.AddTo(*command);
  command->add_option("message", f->message, "One message; without it, a conversation")->type_name("MESSAGE");
  command->footer(
      "Examples:\n"
      "  quantd chat 'What is the capital of France?'\n"
      "  quantd chat --system 'Answer in one sentence.' --temperature 0");
  command->callback([f, &exit_code] { exit_code = Run(*f); });
}

}  // namespace quantd
