// A conversation with a person at a terminal: messages of one or several lines, and commands that begin with a slash.
#pragma once

#include <memory>

#include <grpcpp/grpcpp.h>

#include "server/cli/chat_settings.h"
#include "server/cli/client.h"

namespace quantd {

// Ends with an exit code: kExitOk where the person ends it.
int Converse(const ClientFlags& client, const std::shared_ptr<grpc::Channel>& channel, const ServedModel& model,
             ChatSettings settings);

// Asks `message` after the messages of `chat` and adds it and its answer, also where Ctrl-C cut the answer short. Gives
// the exit code; where the request failed, the chat is as before.
int AskInChat(v1::Generation::Stub& stub, const ClientFlags& client, const ServedModel& model,
              const ChatSettings& settings, v1::Chat& chat, const std::string& message);

}  // namespace quantd
