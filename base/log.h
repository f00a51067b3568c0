// Log lines on standard error: time (UTC, wall clock), level, message of key=value pairs. Thread-safe; one write a
// line, of at most PIPE_BUF bytes. A message is escaped here (base/escape.h), whatever it quotes. Nobody is ever held
// up by whoever reads the log: a line for which there is no room is dropped, and the next one says how many were (on a
// terminal its beginning may stand until the next line clears it).
#pragma once

#include <string_view>

namespace quantd {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Lines below `level` are dropped. Set once, before threads start.
void SetLogLevel(LogLevel level);
void Log(LogLevel level, std::string_view message);
// Where standard error is a terminal, draws `text` in place of its last line; a log line or "" clears it. Not drawn
// where there is no room.
void DrawStatusLine(std::string_view text);
inline void LogInfo(std::string_view message) { Log(LogLevel::kInfo, message); }
inline void LogWarning(std::string_view message) { Log(LogLevel::kWarning, message); }
inline void LogError(std::string_view message) { Log(LogLevel::kError, message); }

}  // namespace quantd
