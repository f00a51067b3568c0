#include "server/cli/line_editor.h"

#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <cwchar>
#include <filesystem>
#include <iostream>
#include <string_view>

namespace quantd {
namespace {

constexpr int kHistorySize = 1000;
// A terminal in this mode puts pasted text between the two marks (xterm, "Bracketed Paste Mode").
constexpr char kPasteModeOn[] = "\x1b[?2004h", kPasteModeOff[] = "\x1b[?2004l";
constexpr wchar_t kPasteEnd[] = L"\x1b[201~";

// What a signal handler leaves for the thread that reads.
volatile std::sig_atomic_t g_interrupted = 0, g_resized = 0, g_continued = 0;

// While it lives, SIGINT, SIGWINCH and SIGCONT are delivered in WaitForInput alone, and there they set the flags.
class ReadingSignals {
 public:
  ReadingSignals() {
    struct sigaction action = {};
    action.sa_handler = [](int signal) {
      if (signal == SIGINT) g_interrupted = 1;
      if (signal == SIGWINCH) g_resized = 1;
      if (signal == SIGCONT) g_continued = 1;
    };
    sigset_t blocked;
    sigemptyset(&blocked);
    for (size_t i = 0; i < std::size(kSignals); ++i) {
      sigaction(kSignals[i], &action, &before_[i]);
      sigaddset(&blocked, kSignals[i]);
    }
    pthread_sigmask(SIG_BLOCK, &blocked, &mask_);
    g_interrupted = 0;
  }
  ~ReadingSignals() {
    for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &before_[i], nullptr);
    pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
  }
  // False where a signal came first.
  bool WaitForInput() const {
    pollfd input = {STDIN_FILENO, POLLIN, 0};
    return ppoll(&input, 1, nullptr, &mask_) > 0;
  }

 private:
  static constexpr int kSignals[] = {SIGINT, SIGWINCH, SIGCONT};
  struct sigaction before_[std::size(kSignals)] = {};
  sigset_t mask_ = {};
};

// libedit reads characters in the locale's encoding; the API's texts are UTF-8.
void UseUtf8() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

class LineEditor::Libedit {
 public:
  Libedit(std::FILE* screen, const std::string& history_file) : screen_(screen) {
    UseUtf8();
    editor_ = el_init("quantd", stdin, screen, screen);
    history_ = history_init();
    if (editor_ == nullptr || history_ == nullptr) return;
    HistEvent event;
    history(history_, &event, H_SETSIZE, kHistorySize);
    history(history_, &event, H_SETUNIQUE, 1);
    if (!history_file.empty()) history(history_, &event, H_LOAD, history_file.c_str());
    el_set(editor_, EL_CLIENTDATA, this);
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_HIST, history, history_);
    el_set(editor_, EL_PROMPT, &Libedit::Prompt);
    el_set(editor_, EL_GETCFN, &Libedit::ReadCharacter);
    el_source(editor_, nullptr);  // ~/.editrc
    el_set(editor_, EL_ADDFN, "quantd-paste", "Insert pasted text", &Libedit::Paste);
    el_set(editor_, EL_ADDFN, "quantd-newline", "Insert a newline", &Libedit::Newline);
    for (const auto& [key, function] : kKeys) el_set(editor_, EL_BIND, key, function, nullptr);
  }
  ~Libedit() {
    if (editor_ != nullptr) el_end(editor_);
    if (history_ != nullptr) history_end(history_);
  }
  bool ok() const { return editor_ != nullptr && history_ != nullptr; }

  Event Read(const std::string& prompt, std::string& text) {
    prompt_ = prompt;
    text.clear();
    const ReadingSignals signals;
    signals_ = &signals;
    el_set(editor_, EL_PREP_TERM, 1);  // before the prompt: what is pasted at once may be longer than a terminal's line
    Show(kPasteModeOn);
    int count = 0;
    const char* line = el_gets(editor_, &count);
    Show(kPasteModeOff);
    signals_ = nullptr;
    if (g_interrupted != 0) {
      Show("^C\n");
      text = had_text_ ? "x" : "";
      return Event::kInterrupted;
    }
    if (line == nullptr || count <= 0) {
      Show("\n");
      return Event::kEnd;
    }
    text.assign(line, static_cast<size_t>(count));
    if (text.ends_with('\n')) text.pop_back();
    return Event::kText;
  }

  void Remember(const std::string& text, const std::string& history_file) {
    HistEvent event;
    history(history_, &event, H_ENTER, text.c_str());
    if (history_file.empty()) return;
    const std::string whole = history_file + "." + std::to_string(getpid());  // a half is never found there
    if (history(history_, &event, H_SAVE, whole.c_str()) >= 0) std::rename(whole.c_str(), history_file.c_str());
  }

 private:
  struct Key {
    const char *key, *function;
  };
  static constexpr Key kKeys[] = {{"\\e[200~", "quantd-paste"},  {"\\e^M", "quantd-newline"},  // Alt-Enter
                                  {"\\e^J", "quantd-newline"},   {"^R", "em-inc-search-prev"},
                                  {"^W", "ed-delete-prev-word"}, {"\\e[3~", "ed-delete-next-char"},
                                  {"\\e[H", "ed-move-to-beg"},   {"\\e[1~", "ed-move-to-beg"},
                                  {"\\e[F", "ed-move-to-end"},   {"\\e[4~", "ed-move-to-end"},
                                  {"\\e[1;5D", "ed-prev-word"},  {"\\e[1;5C", "em-next-word"}};

  static Libedit& Of(EditLine* editor) {
    void* self = nullptr;
    el_get(editor, EL_CLIENTDATA, &self);
    return *static_cast<Libedit*>(self);
  }
  static char* Prompt(EditLine* editor) { return Of(editor).prompt_.data(); }
  static int ReadCharacter(EditLine* editor, wchar_t* out) { return Of(editor).Next(out); }

  static unsigned char Paste(EditLine* editor, int) {
    std::wstring pasted;
    wchar_t c = 0;
    while (!pasted.ends_with(kPasteEnd)) {
      if (el_wgetc(editor, &c) != 1) return CC_EOF;
      pasted += c;
    }
    pasted.resize(pasted.size() - std::wcslen(kPasteEnd));
    std::wstring text;
    for (size_t i = 0; i < pasted.size(); ++i) {
      if (pasted[i] == L'\r') {  // how a terminal sends a newline
        text += L'\n';
        if (i + 1 < pasted.size() && pasted[i + 1] == L'\n') ++i;
      } else if (pasted[i] == L'\n' || pasted[i] == L'\t' || pasted[i] >= L' ') {
        text += pasted[i];
      }
    }
    if (text.empty()) return CC_NORM;
    return el_winsertstr(editor, text.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
  }
  static unsigned char Newline(EditLine* editor, int) {
    return el_winsertstr(editor, L"\n") == 0 ? CC_REFRESH : CC_ERROR;
  }

  // 1 and a character, 0 at the end of the input, -1 where Ctrl-C came.
  int Next(wchar_t* out) {
    std::mbstate_t state = {};
    while (true) {
      if (at_ == filled_) {
        if (const int got = Fill(); got <= 0) return got;
      }
      const size_t used = std::mbrtowc(out, buffer_ + at_, 1, &state);
      ++at_;
      if (used == static_cast<size_t>(-1)) state = {};  // no UTF-8: dropped
      if (used == 0 || used == 1) return 1;
    }
  }
  int Fill() {
    while (!signals_->WaitForInput()) {
      if (g_interrupted != 0) {
        const LineInfo* line = el_line(editor_);
        had_text_ = line->lastchar != line->buffer;
        return -1;
      }
      if (g_continued != 0) el_set(editor_, EL_PREP_TERM, 1);  // after Ctrl-Z the shell had the terminal
      if (g_resized != 0) el_resize(editor_);
      if (g_continued != 0 || g_resized != 0) el_set(editor_, EL_REFRESH);
      g_continued = 0;
      g_resized = 0;
    }
    const ssize_t got = read(STDIN_FILENO, buffer_, sizeof buffer_);
    if (got <= 0) return 0;
    at_ = 0;
    filled_ = static_cast<size_t>(got);
    return 1;
  }
  void Show(const char* text) {
    std::fputs(text, screen_);
    std::fflush(screen_);
  }

  std::FILE* screen_;
  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
  std::string prompt_;
  const ReadingSignals* signals_ = nullptr;
  bool had_text_ = false;
  char buffer_[4096];
  size_t at_ = 0, filled_ = 0;  // of buffer_, what is typed ahead
};

LineEditor::LineEditor(std::FILE* screen, std::string history_file)
    : screen_(screen), history_file_(std::move(history_file)) {
  if (screen_ == nullptr) return;
  if (!history_file_.empty()) {
    std::error_code failed;
    const std::filesystem::path folder = std::filesystem::path(history_file_).parent_path();
    std::filesystem::create_directories(folder, failed);
    if (failed) history_file_.clear();
  }
  libedit_ = std::make_unique<Libedit>(screen_, history_file_);
  if (!libedit_->ok()) libedit_.reset();
}

LineEditor::~LineEditor() = default;

LineEditor::Event LineEditor::Read(const std::string& prompt, std::string& text) {
  if (libedit_ != nullptr) return libedit_->Read(prompt, text);
  std::fputs(prompt.c_str(), stderr);
  return std::getline(std::cin, text) ? Event::kText : Event::kEnd;
}

void LineEditor::Remember(const std::string& text) {
  if (libedit_ != nullptr) libedit_->Remember(text, history_file_);
}

std::string DefaultHistoryFile() {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && *state == '/') return std::string(state) + "/quantd/chat_history";
  const char* home = std::getenv("HOME");
  return home != nullptr && *home == '/' ? std::string(home) + "/.local/state/quantd/chat_history" : "";
}

}  // namespace quantd
