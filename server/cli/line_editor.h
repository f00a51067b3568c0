// What a person types at a terminal, by libedit: editing keys, history with a file, and pasted text of several lines as
// one text.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

namespace quantd {

class LineEditor {
 public:
  enum class Event {
    kText,
    kInterrupted,  // Ctrl-C; `text` is what stood in the line
    kEnd           // Ctrl-D on an empty line, or the terminal is gone
  };

  // Standard input is a terminal, and so is `screen`, which shows prompts and what is typed; null: the input is read
  // line by line without editing. `history_file` is read now and written by Remember; empty: no file.
  LineEditor(std::FILE* screen, std::string history_file);
  ~LineEditor();

  // One line, which has newlines inside where it was pasted or Alt-Enter was pressed. Blocks. The main thread's alone:
  // SIGINT is its own while it reads.
  Event Read(const std::string& prompt, std::string& text);
  // Up finds it from now on, in this process and in those to come. The file is the user's alone (mode 0600).
  void Remember(const std::string& text);

 private:
  class Libedit;
  std::FILE* screen_;
  std::string history_file_;
  std::unique_ptr<Libedit> libedit_;
};

// $XDG_STATE_HOME/quantd/chat_history, else ~/.local/state/quantd/chat_history; empty where neither is set.
std::string DefaultHistoryFile();

}  // namespace quantd
