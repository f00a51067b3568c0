// `quantd chat`: one message, a conversation at a terminal, or messages from a pipe that keep their history.
#include <unistd.h>

#include <iostream>

#include <CLI/CLI.hpp>

#include "server/cli/chat_session.h"
#include "server/cli/cli.h"
#include "server/cli/client.h"

namespace quantd {
namespace {

struct ChatFlags {
  ClientFlags client;
  ChatSettings settings;
  std::optional<std::string> message;
};

// Of texts that no message can hold, which a person is told before a daemon is looked for.
absl::Status Check(const ChatSettings& settings, const std::string& message) {
  v1::GenerateRequest request;
  request.mutable_stopping()->mutable_stop()->Add(settings.sampling.stop.begin(), settings.sampling.stop.end());
  for (const auto& [role, text] : {std::pair("system", settings.system), std::pair("user", message)}) {
    v1::ChatMessage& checked = *request.mutable_chat()->add_messages();
    checked.set_role(role);
    checked.set_content(text);
  }
  return CheckTexts(request);
}

int AskOnce(const ChatFlags& f, const std::shared_ptr<grpc::Channel>& channel, const std::string& message) {
  if (absl::Status status = Check(f.settings, message); !status.ok()) {
    PrintUsageError(status);
    return kExitUsage;
  }
  ServedModel model;
  if (const int code = FindModel(f.client, channel, model); code != kExitOk) return code;
  v1::Chat chat;
  return AskInChat(*v1::Generation::NewStub(channel), f.client, model, f.settings, chat, message);
}

// One message a line, up to one that ends the conversation; the first that fails ends it with its code.
int AskEachLine(const ChatFlags& f, const std::shared_ptr<grpc::Channel>& channel) {
  auto stub = v1::Generation::NewStub(channel);
  v1::Chat chat;
  std::optional<ServedModel> model;
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "/bye" || line == "/quit" || line == "/exit") break;
    if (line.empty()) continue;
    if (absl::Status status = Check(f.settings, line); !status.ok()) {
      PrintUsageError(status);
      return kExitUsage;
    }
    if (!model.has_value()) {
      if (const int code = FindModel(f.client, channel, model.emplace()); code != kExitOk) return code;
    }
    if (const int code = AskInChat(*stub, f.client, *model, f.settings, chat, line); code != kExitOk) return code;
  }
  return kExitOk;
}

int Run(const ChatFlags& f) {
  const std::shared_ptr<grpc::Channel> channel = f.client.Connect();
  if (f.message.has_value()) return AskOnce(f, channel, *f.message);
  if (isatty(STDIN_FILENO) == 0) return AskEachLine(f, channel);
  if (absl::Status status = Check(f.settings, ""); !status.ok()) {
    PrintUsageError(status);
    return kExitUsage;
  }
  ServedModel model;
  if (const int code = FindModel(f.client, channel, model); code != kExitOk) return code;
  return Converse(f.client, channel, model, f.settings);
}

}  // namespace

void AddChat(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("chat", "Talk to a model of a running daemon")->group("Ask a running daemon");
  auto f = std::make_shared<ChatFlags>();
  command
      ->add_option("message,-p,--prompt", f->message,
                   "One message; without it a conversation, or one message a line from a pipe")
      ->type_name("TEXT");
  command->add_option("--system", f->settings.system, "A system message")->type_name("TEXT");
  f->client.AddTo(*command);
  f->settings.sampling.AddTo(*command);
  command->footer(
      "Examples:\n"
      "  quantd chat 'What is the capital of France?'\n"
      "  quantd chat --system 'Answer in one sentence.' --temperature 0\n"
      "  quantd chat < questions.txt");
  command->callback([f, &exit_code] { exit_code = Run(*f); });
}

}  // namespace quantd
