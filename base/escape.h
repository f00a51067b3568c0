// Text of files, clients and libraries where it leaves us: a status that a client gets, a line of the log, an answer of
// Models. A terminal obeys what an ESC begins, a newline begins a line that nobody wrote, and what is not UTF-8 breaks
// the whole message that holds it.
#pragma once

#include <string>
#include <string_view>

namespace quantd {

// `text` with newlines and tabs as \n and \t, other control characters (C0, DEL, C1) and what is not UTF-8 as \xNN. A
// backslash stays what it is, so text that was escaped before does not change.
std::string Escape(std::string_view text);

// At most `max_bytes` of `text`, which is UTF-8, cut between two characters.
std::string_view CutUtf8(std::string_view text, size_t max_bytes);

}  // namespace quantd
