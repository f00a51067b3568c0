#!/usr/bin/env python3
"""Types twenty everyday messages into `quantd chat` on a terminal and judges what comes back.

usage: tools/chat_check.py QUANTD MODEL.gguf [flags of quantd chat]

Each message is the first of a conversation of its own (/clear before it), with the command line's defaults. Prints the
transcript. An answer fails that runs into the cap or the context while it repeats itself: half or more of its last 400
words are runs of eight words that stand earlier in it. Exits 1 where one fails.
"""
import os
import pathlib
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

PROMPTS = [
    "Hi! How are you today?",
    "What is the capital of Australia?",
    "Explain photosynthesis to a ten-year-old.",
    "Write a short poem about autumn rain.",
    "Give me a simple recipe for pancakes.",
    "What is the difference between a virus and a bacterium?",
    "How do I reverse a list in Python?",
    "Summarize the story of Romeo and Juliet in three sentences.",
    "What should I pack for a weekend of hiking?",
    "Translate 'Good morning, how did you sleep?' into French.",
    "List five healthy snacks.",
    "Why is the sky blue?",
    "Write a polite email asking my landlord to fix the heating.",
    "What is 17 times 24?",
    "Tell me a joke.",
    "How does a refrigerator work?",
    "Name three books by Jane Austen.",
    "I feel nervous about a job interview. Any advice?",
    "What is a KV cache?",
    "Tell me a story about a dragon who is afraid of fire.",
]
PROMPT = b"\x1b[?2004h> "
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
LIMIT_S = 600


class Chat:
    def __init__(self, command: list, environment: dict):
        pid, self.terminal = pty.fork()
        if pid == 0:
            os.execve(command[0], command, environment)
        self.pid = pid
        self.until(PROMPT)

    def until(self, mark: bytes) -> str:
        shown, end = b"", time.monotonic() + LIMIT_S
        while mark not in shown:
            if not select.select([self.terminal], [], [], max(end - time.monotonic(), 0))[0]:
                raise TimeoutError(f"{mark!r} did not come; shown: {shown[-400:]!r}")
            shown += os.read(self.terminal, 65536)
        return CONTROL.sub("", shown.decode(errors="replace"))

    def say(self, text: str) -> str:
        os.write(self.terminal, text.encode() + b"\r")
        shown = self.until(PROMPT)
        return shown.split("\n", 1)[1].removesuffix("> ")

    def end(self) -> None:
        os.write(self.terminal, b"/bye\r")
        os.waitpid(self.pid, 0)


def repeats(answer: str) -> float:
    """The share of the last 400 words that stand in runs of eight that came before."""
    words = answer.split()
    seen, repeated = set(), []
    for i in range(len(words) - 7):
        run = tuple(words[i:i + 8])
        repeated.append(run in seen)
        seen.add(run)
    last = repeated[-400:]
    return sum(last) / len(last) if last else 0.0


def main() -> int:
    quantd, model, flags = sys.argv[1], sys.argv[2], sys.argv[3:]
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{chosen.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as state, open(pathlib.Path(state) / "log", "wb") as log:
        daemon = subprocess.Popen([quantd, "serve", model, "--listen", address, "--metrics-listen", "127.0.0.1:0"], stderr=log)
        try:
            failed = talk([quantd, "chat", "--address", address, "--wait", "60s", *flags],
                          {**os.environ, "XDG_STATE_HOME": state, "TERM": "xterm"})
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()
    print(f"{len(PROMPTS)} messages, {failed} answers that ran on repeating themselves")
    return 1 if failed else 0


def talk(command: list, environment: dict) -> int:
    chat = Chat(command, environment)
    failed = 0
    for prompt in PROMPTS:
        chat.say("/clear")
        shown = chat.say(prompt)
        parts = re.split(r"(?m)^(?=\d+ prompt tokens)", shown, maxsplit=1)
        if len(parts) < 2:
            raise RuntimeError(f"no answer to {prompt!r}: {shown!r}")
        answer, speed = parts
        cut = re.search(r"ended by (\w+)", speed).group(1) in ("max_tokens", "context_full")
        share = repeats(answer)
        bad = cut and share >= 0.5
        failed += bad
        print(f"> {prompt}\n{answer.strip()}\n[{speed.strip()}; repeated {share:.0%}{'; FAILED' if bad else ''}]\n", flush=True)
    chat.end()
    return failed


if __name__ == "__main__":
    sys.exit(main())
