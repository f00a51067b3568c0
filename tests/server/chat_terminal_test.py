#!/usr/bin/env python3
"""A conversation as a person at a terminal has it: editing, history, pasted text, commands, interrupts.

usage: chat_terminal_test.py QUANTD GOLDENS_FOLDER
"""
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

from cli_test import LIMIT_S, QUANTD, SMALL, Daemon, make_long_model

UP, CTRL_A, CTRL_C, CTRL_D, ALT_ENTER = "\x1b[A", "\x01", "\x03", "\x04", "\x1b\r"
PROMPT = "\x1b[?2004h> "  # bracketed paste goes on with each prompt
MORE = "\x1b[?2004h... "


def pasted(text: str) -> str:
    return "\x1b[200~" + text.replace("\n", "\r") + "\x1b[201~"


class Terminal:
    """A program on a terminal of 24 lines of 80 characters."""

    def __init__(self, arguments: list, environment: dict):
        self.controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

        def own_terminal():
            os.setsid()
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen([QUANTD, *map(str, arguments)], stdin=terminal, stdout=terminal, stderr=terminal,
                                        env={**os.environ, "TERM": "xterm", **environment}, preexec_fn=own_terminal,
                                        pass_fds=[terminal])
        os.close(terminal)
        self.shown = ""  # since the last expect
        self.bytes = b""

    def read(self, end: float) -> bool:
        if not select.select([self.controller], [], [], max(end - time.monotonic(), 0))[0]:
            return False
        try:
            self.bytes += os.read(self.controller, 65536)
        except OSError:  # the program has ended
            return False
        self.shown = self.bytes.decode(errors="replace")
        return True

    def expect(self, text: str) -> str:
        """What was shown up to and with `text`, which must come."""
        end = time.monotonic() + LIMIT_S
        while text not in self.shown:
            if not self.read(end):
                raise AssertionError(f"{text!r} was not shown, but {self.shown!r}")
        upto, rest = self.shown.split(text, 1)
        self.bytes = rest.encode(errors="replace")
        self.shown = rest
        return upto + text

    def type(self, keys: str) -> None:
        data = keys.encode()
        while data:
            data = data[os.write(self.controller, data):]

    def wait(self) -> int:
        while self.read(time.monotonic() + LIMIT_S):
            pass
        return self.process.wait(timeout=LIMIT_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.controller)


class OnATerminal(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        folder = pathlib.Path(temporary.name)
        cls.daemon = Daemon(folder, f"long={make_long_model(folder)}", f"small={SMALL}", "--kv-cache-bytes", "32MiB")
        cls.addClassCleanup(cls.daemon.kill)
        cls.daemon.wait_until_ready()

    def setUp(self):
        state = tempfile.TemporaryDirectory()
        self.addCleanup(state.cleanup)
        self.state = pathlib.Path(state.name)
        self.history = self.state / "quantd" / "chat_history"

    def chat(self, *args, model: str = "long", ready: bool = True) -> Terminal:
        terminal = Terminal(["chat", "--address", self.daemon.grpc, "--model", model, "--temperature", "0", "--max-tokens", "3",
                             *args], {"XDG_STATE_HOME": str(self.state)})
        self.addCleanup(terminal.close)
        if ready:
            terminal.expect(PROMPT)
        return terminal

    def saved(self, terminal: Terminal) -> list:
        """The conversation so far."""
        path = self.state / f"conversation{len(list(self.state.iterdir()))}"
        terminal.type(f"/save {path}\r")
        terminal.expect(PROMPT)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        return json.loads(path.read_text())["messages"]

    def asked(self, terminal: Terminal) -> list:
        return [m["content"] for m in self.saved(terminal) if m["role"] == "user"]

    def answer(self, terminal: Terminal, keys: str) -> str:
        terminal.type(keys)
        shown = terminal.expect("ended by ")
        terminal.expect(PROMPT)
        return shown

    def test_a_pasted_text_of_several_lines_is_one_message(self):
        terminal = self.chat()
        terminal.type(pasted("one\n  two\nthree"))
        self.answer(terminal, " four\r")
        self.assertEqual(self.asked(terminal), ["one\n  two\nthree four"])

    def test_a_long_line_is_whole(self):
        terminal = self.chat()
        text = "word " * 2000 + "end"  # of 10,003 bytes, where a terminal's own line has 4,095
        self.answer(terminal, pasted(text) + "\r")
        self.answer(terminal, text[-6000:] + "\r")  # typed
        self.assertEqual(self.asked(terminal), [text, text[-6000:]])

    def test_lines_are_joined_by_backslash_quotes_and_alt_enter(self):
        terminal = self.chat()
        terminal.type("one\\\r")
        terminal.expect(MORE)
        self.answer(terminal, "two\r")
        terminal.type('"""three\r')
        terminal.expect(MORE)
        terminal.type("/help\r")  # is text here
        terminal.expect(MORE)
        self.answer(terminal, 'four"""\r')
        self.answer(terminal, f"five{ALT_ENTER}six\r")
        self.assertEqual(self.asked(terminal), ["one\ntwo", "three\n/help\nfour", "five\nsix"])

    def test_keys_edit_and_characters_stay_whole(self):
        terminal = self.chat()
        self.answer(terminal, f"é ü{CTRL_A}\U0001f600 \r")
        self.assertEqual(self.asked(terminal), ["\U0001f600 é ü"])

    def test_up_finds_what_was_typed_also_in_a_new_conversation(self):
        terminal = self.chat()
        self.answer(terminal, pasted("first\nof two lines") + "\r")
        shown = self.answer(terminal, UP + "\r")
        self.assertNotIn("^[", shown)
        self.assertEqual(self.asked(terminal), ["first\nof two lines"] * 2)
        terminal.type(CTRL_D)
        self.assertEqual(terminal.wait(), 0)
        self.assertEqual(stat.S_IMODE(self.history.stat().st_mode), 0o600)
        another = self.chat()
        self.answer(another, UP + UP + "\r")  # before the /save
        self.assertEqual(self.asked(another), ["first\nof two lines"])

    def test_commands(self):
        terminal = self.chat()
        for typed, told in [("/help", "/set NAME VALUE"), ("/hlep", "unknown command /hlep; did you mean /help?"),
                            ("/usr/bin/env", "//usr/bin/env is sent as a message"),
                            ("/set", r"max_tokens          3"), ("/set temperature 0.5", ""),
                            ("/set top-k 7", ""), ("/set temprature 1", "did you mean temperature?"),
                            ("/set top_p 2", 'top_p: "2" is not a number from 0 to 1'), ("/set seed -1", "a whole number from 0"),
                            ("/set seed", "expected /set NAME VALUE"), ("/set system Be brief.", ""),
                            ("/show", "model               long"), ("/save", "expected /save FILE"),
                            ("/load /nowhere", "cannot read /nowhere: No such file")]:
            terminal.type(typed + "\r")
            self.assertIn(told, terminal.expect(PROMPT))
        terminal.type("/set\r")
        shown = terminal.expect(PROMPT)
        for name, value in [("temperature", "0.5"), ("top_k", "7"), ("max_tokens", "3"), ("system", "Be brief."),
                            ("min_p", "0.05 (default)"), ("presence_penalty", "off (default)")]:
            self.assertRegex(shown, rf"{name} +{re.escape(value)}\r")
        terminal.type("/set system default\r")
        terminal.expect(PROMPT)
        self.answer(terminal, "//etc is a folder\r")
        self.assertEqual(self.asked(terminal), ["/etc is a folder"])
        terminal.type("/clear\r")
        terminal.expect(PROMPT)
        self.assertEqual(self.asked(terminal), [])
        for word in ["/bye", "/quit", "/exit"]:
            ending = self.chat()
            ending.type(word + "\r")
            self.assertEqual(ending.wait(), 0)

    def test_a_conversation_is_saved_and_goes_on(self):
        terminal = self.chat()
        self.answer(terminal, "hello\r")
        file = self.state / "kept"
        terminal.type(f"/save {file}\r")
        self.assertIn("saved 2 messages", terminal.expect(PROMPT))
        another = self.chat()
        another.type(f"/load {file}\r")
        self.assertIn("loaded 2 messages", another.expect(PROMPT))
        self.answer(another, "again\r")
        self.assertEqual(self.asked(another), ["hello", "again"])
        other = self.state / "notes"
        other.write_text("mine")
        another.type(f"/save {other}\r")
        self.assertIn("is no conversation; it stays", another.expect(PROMPT))
        another.type(f"/load {other}\r")
        self.assertIn("is no conversation: it is no JSON", another.expect(PROMPT))
        self.assertEqual(other.read_text(), "mine")

    def test_ctrl_c_stops_an_answer_and_twice_ends(self):
        terminal = self.chat()
        terminal.type("/set max_tokens 60000\r")
        terminal.expect(PROMPT)
        before = self.daemon.cancelled()
        terminal.type("hello\r")
        terminal.expect("\x1b[?2004l")
        while not terminal.shown.strip():  # until the answer begins
            self.assertTrue(terminal.read(time.monotonic() + LIMIT_S))
        terminal.type(CTRL_C)
        terminal.expect("cancelled")
        terminal.expect(PROMPT)
        self.assertGreater(self.daemon.cancelled(), before)
        terminal.type("draft")
        terminal.expect("draft")
        terminal.type(CTRL_C)  # gives the line up
        terminal.expect("^C")  # the editor may have drawn the prompt again before
        terminal.expect(PROMPT)
        terminal.type(CTRL_C)
        terminal.expect("Ctrl-C again")
        terminal.expect(PROMPT)
        terminal.type(CTRL_C)
        self.assertEqual(terminal.wait(), 0)

    def test_a_failed_message_is_told_and_the_conversation_goes_on(self):
        terminal = self.chat(model="small")
        terminal.type("a" * 300 + "\r")
        self.assertIn("CONTEXT_TOO_LONG", terminal.expect(PROMPT))
        self.answer(terminal, "hi\r")
        self.assertEqual(self.asked(terminal), ["hi"])

    def test_a_terminal_without_a_home_has_no_history_file(self):
        terminal = Terminal(["chat", "--address", self.daemon.grpc, "--model", "long", "--max-tokens", "3"],
                            {"XDG_STATE_HOME": "", "HOME": ""})
        self.addCleanup(terminal.close)
        terminal.expect(PROMPT)
        self.answer(terminal, "hi\r")
        terminal.type(CTRL_D)
        self.assertEqual(terminal.wait(), 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
