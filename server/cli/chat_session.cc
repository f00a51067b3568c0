#include "server/cli/chat_session.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>

#include "base/strings.h"
#include "runtime/printable.h"
#include "server/cli/chat_file.h"
#include "server/cli/cli.h"
#include "server/cli/line_editor.h"
#include "server/config.h"
#include "server/status.h"

namespace quantd {
namespace {

constexpr char kHint[] = "/help lists commands, Ctrl-C stops an answer, Ctrl-D ends.\n";
constexpr char kHelp[] =
    "  /set NAME VALUE   a setting, such as /set temperature 0 or /set system Answer briefly.; VALUE default\n"
    "                    takes it back; /set alone lists them\n"
    "  /show             the model, the settings and how long the conversation is\n"
    "  /clear            begin anew, with the same settings\n"
    "  /save FILE        write the conversation, as JSON\n"
    "  /load FILE        go on with a conversation that was saved\n"
    "  /bye              end; also /quit, /exit and Ctrl-D\n"
    "Text of several lines: pasted, after Alt-Enter, after a \\ at a line's end, or between two \"\"\".\n"
    "A message that begins with a slash is written with two: //etc/hosts\n";
constexpr std::string_view kCommands[] = {"/help", "/set", "/show", "/clear", "/save",
                                          "/load", "/bye", "/quit", "/exit"};

std::string Trim(std::string_view text) { return std::string(absl::StripAsciiWhitespace(ToAbsl(text))); }

// "~/x" as a shell reads it.
std::string ExpandHome(const std::string& path) {
  const char* home = std::getenv("HOME");
  return path.starts_with("~/") && home != nullptr ? absl::StrCat(home, path.substr(1)) : path;
}

std::FILE* Screen() {
  if (isatty(STDERR_FILENO) != 0) return stderr;
  return isatty(STDOUT_FILENO) != 0 ? stdout : nullptr;
}

// Between answers and input lines, Ctrl-C ends neither.
class WithoutInterrupts {
 public:
  WithoutInterrupts() {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    sigaction(SIGINT, &action, &before_);
  }
  ~WithoutInterrupts() { sigaction(SIGINT, &before_, nullptr); }

 private:
  struct sigaction before_ = {};
};

class Session {
 public:
  Session(const ClientFlags& client, const std::shared_ptr<grpc::Channel>& channel, const ServedModel& model,
          ChatSettings settings)
      : client_(client),
        model_(model),
        settings_(std::move(settings)),
        stub_(v1::Generation::NewStub(channel)),
        editor_(Screen(), DefaultHistoryFile()) {}

  int Run() {
    std::fputs(kHint, stderr);
    const WithoutInterrupts without_interrupts;
    bool leaving = false;  // Ctrl-C came last
    for (std::string text; !ended_;) {
      const LineEditor::Event event = ReadMessage(text);
      if (event == LineEditor::Event::kEnd) break;
      if (event == LineEditor::Event::kInterrupted) {
        if (leaving) break;
        leaving = text.empty();
        if (leaving) std::fputs("Ctrl-C again, Ctrl-D or /bye ends\n", stderr);
        continue;
      }
      leaving = false;
      if (absl::StripAsciiWhitespace(text).empty()) continue;
      editor_.Remember(text);
      if (text[0] == '/' && !text.starts_with("//") && text.find('\n') == std::string::npos) {
        Obey(Trim(text));
      } else {
        AskInChat(*stub_, client_, model_, settings_, chat_, text[0] == '/' ? text.substr(1) : text);
      }
    }
    return kExitOk;
  }

 private:
  // One message, which may take several lines. Where it is interrupted, `text` is what is given up.
  LineEditor::Event ReadMessage(std::string& text) {
    constexpr std::string_view kQuotes = "\"\"\"";
    LineEditor::Event event = editor_.Read("> ", text);
    if (event != LineEditor::Event::kText) return event;
    const bool quoted = text.starts_with(kQuotes);
    if (quoted) text.erase(0, kQuotes.size());
    const auto open = [&] { return quoted ? text.find(kQuotes) == std::string::npos : text.ends_with('\\'); };
    while (open()) {
      std::string line;
      event = editor_.Read("... ", line);
      if (event == LineEditor::Event::kInterrupted) text = "given up";
      if (event != LineEditor::Event::kText) return event;
      if (!quoted) text.pop_back();
      absl::StrAppend(&text, "\n", line);
    }
    if (quoted) {
      text.resize(text.find(kQuotes));
      if (text.starts_with('\n')) text.erase(0, 1);
      if (text.ends_with('\n')) text.pop_back();
    }
    return LineEditor::Event::kText;
  }

  void Obey(const std::string& line) {
    const size_t space = line.find(' ');
    const std::string command = line.substr(0, space);
    const std::string argument = space == std::string::npos ? "" : Trim(line.substr(space));
    if (command == "/help" || command == "/?") {
      std::fputs(kHelp, stderr);
    } else if (command == "/set") {
      SetOne(argument);
    } else if (command == "/show") {
      Show();
    } else if (command == "/clear") {
      chat_.Clear();
      std::fputs("the conversation begins anew\n", stderr);
    } else if (command == "/save" || command == "/load") {
      File(command == "/save", argument);
    } else if (command == "/bye" || command == "/quit" || command == "/exit") {
      ended_ = true;
    } else {
      const std::string near(Nearest(command, {std::begin(kCommands), std::end(kCommands)}));
      std::fprintf(stderr, "unknown command %s; %s; /%s is sent as a message\n", Printable(command).c_str(),
                   near.empty() ? "/help lists them" : ("did you mean " + near + "?").c_str(),
                   Printable(command).c_str());
    }
  }

  void SetOne(const std::string& argument) {
    const size_t space = argument.find_first_of(" =");
    if (argument.empty()) return Settings();
    if (space == std::string::npos) {
      std::fputs("expected /set NAME VALUE; /set alone lists the settings\n", stderr);
      return;
    }
    const absl::Status status = Set(settings_, argument.substr(0, space), Trim(argument.substr(space + 1)));
    if (!status.ok()) PrintUsageError(status);
  }
  void Settings() const {
    for (const std::string& line : Describe(settings_, model_)) std::fprintf(stderr, "  %s\n", line.c_str());
  }
  void Show() const {
    std::fprintf(stderr, "  model               %s at %s\n", model_.name.c_str(), client_.address.c_str());
    Settings();
    std::fprintf(stderr, "  conversation        %d messages\n", chat_.messages_size());
  }
  void File(bool save, const std::string& path) {
    if (path.empty()) {
      std::fprintf(stderr, "expected /%s FILE\n", save ? "save" : "load");
      return;
    }
    const std::string file = ExpandHome(path);
    const absl::Status status = save ? SaveChat(file, model_.name, chat_) : LoadChat(file, chat_);
    if (!status.ok()) return PrintUsageError(status);
    std::fprintf(stderr, "%s %d messages\n", save ? "saved" : "loaded", chat_.messages_size());
  }

  const ClientFlags& client_;
  const ServedModel& model_;
  ChatSettings settings_;
  std::unique_ptr<v1::Generation::Stub> stub_;
  LineEditor editor_;
  v1::Chat chat_;  // without the system message
  bool ended_ = false;
};

void AddMessage(const char* role, const std::string& content, v1::Chat& chat) {
  v1::ChatMessage& message = *chat.add_messages();
  message.set_role(role);
  message.set_content(content);
}

}  // namespace

int AskInChat(v1::Generation::Stub& stub, const ClientFlags& client, const ServedModel& model,
              const ChatSettings& settings, v1::Chat& chat, const std::string& message) {
  v1::GenerateRequest request;
  request.set_model(client.model);
  const bool has_system = chat.messages_size() > 0 && chat.messages(0).role() == "system";
  if (!settings.system.empty() && !has_system) AddMessage("system", settings.system, *request.mutable_chat());
  request.mutable_chat()->MergeFrom(chat);
  AddMessage("user", message, *request.mutable_chat());
  request.mutable_stopping()->mutable_stop()->Add(settings.sampling.stop.begin(), settings.sampling.stop.end());
  if (absl::Status status = CheckTexts(request); !status.ok()) {
    PrintUsageError(status);
    return kExitUsage;
  }
  const Answer answer = Ask(stub, settings.sampling, model, request, WriteAnswer);
  if (answer.status.ok() || !answer.text.empty()) WriteOut("\n");
  if (answer.status.ok() || (answer.interrupted && !answer.text.empty())) {
    AddMessage("user", message, chat);
    AddMessage("assistant", answer.text, chat);
  }
  if (!answer.status.ok()) {
    const int code = ReportFailure(answer, client.address);
    const bool too_long = ReadDetails(answer.status).reason == "CONTEXT_TOO_LONG";
    if (too_long && chat.messages_size() > 0) std::fputs("the conversation is full; /clear begins anew\n", stderr);
    return code;
  }
  PrintSpeed(answer);
  return kExitOk;
}

int Converse(const ClientFlags& client, const std::shared_ptr<grpc::Channel>& channel, const ServedModel& model,
             ChatSettings settings) {
  return Session(client, channel, model, std::move(settings)).Run();
}

}  // namespace quantd
