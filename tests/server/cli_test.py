#!/usr/bin/env python3
"""The command line as a person and a script meet it: exit codes, messages, JSON, signals, pipes, terminals.

usage: cli_test.py QUANTD GOLDENS_FOLDER
"""
import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import resource
import select
import signal
import socket
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest
import urllib.request

import polling

QUANTD = sys.argv[1]
SMALL = pathlib.Path(sys.argv[2]) / "gguf" / "mixed_tied_gpt2.gguf"  # a context of 128 tokens
SHARDED = pathlib.Path(sys.argv[2]) / "tiny_llama" / "sharded"
LIMIT_S = 60  # for what takes milliseconds on a free machine
ENDLESS = ["--max-tokens", "60000"]  # many seconds
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\S+Z (INFO|WARN|ERROR) ")


def make_long_model(folder: pathlib.Path) -> pathlib.Path:
    """The small model with a context of 100,000 tokens and no end of text: no token is named as one."""
    data = bytearray(SMALL.read_bytes().replace(b"<|endoftext|>", b"<|endoftexd|>"))
    key = b"llama.context_length"
    struct.pack_into("<I", data, data.index(key) + len(key) + 4, 100_000)  # after the u32 of its type
    path = folder / "long.gguf"
    path.write_bytes(data)
    return path


def with_metadata(path: pathlib.Path, key: str, text: str) -> bytes:
    """The GGUF file with this string among its metadata, padded with blanks so that its tensors stay aligned."""
    name = key.encode()
    data = path.read_bytes().replace(name, b"x" * len(name))  # as another key, where it is there
    tensors, pairs = struct.unpack_from("<QQ", data, 8)
    value = text.encode()
    head = struct.pack("<Q", len(name)) + name + struct.pack("<I", 8)  # 8: a string
    value += b" " * (-(len(head) + 8 + len(value)) % 32)
    return data[:8] + struct.pack("<QQ", tensors, pairs + 1) + head + struct.pack("<Q", len(value)) + value + data[24:]


def wait_until(condition, what: str) -> None:
    polling.wait_until(condition, what, LIMIT_S)


def quantd(*args, stdin: str = "", **more) -> subprocess.CompletedProcess:
    return subprocess.run([QUANTD, *map(str, args)], input=stdin, capture_output=True, text=True,
                          errors="surrogateescape", timeout=LIMIT_S, check=False, **more)


def run_on_terminal(*args, typed: bytes = b"") -> tuple[int, str, str]:
    """Exit status, standard output, standard error of a run whose standard input is a terminal."""
    controller, terminal = pty.openpty()
    try:
        process = subprocess.Popen([QUANTD, *args], stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        os.write(controller, typed)
        out, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, out, err
    finally:
        os.close(controller)
        os.close(terminal)


@contextlib.contextmanager
def address_of_nobody():
    """An address that is taken and refuses every connection."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


class Daemon:
    """`quantd serve` on ports of its own choosing."""

    def __init__(self, folder: pathlib.Path, *args, stderr=None, listen="127.0.0.1:0", **more):
        self.log_file = folder / "log"
        self.ready_file = folder / "ready.json"
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                [QUANTD, "serve", "--listen", listen, "--metrics-listen", "127.0.0.1:0", "--ready-file",
                 str(self.ready_file), *map(str, args)], stdin=subprocess.DEVNULL, stderr=stderr or log, **more)

    def log(self) -> str:
        return self.log_file.read_text()

    def wait_until_ready(self) -> "Daemon":
        wait_until(lambda: self.ready_file.exists() or self.process.poll() is not None, "the daemon is ready")
        if not self.ready_file.exists():
            raise RuntimeError(f"quantd serve ended with {self.process.returncode}:\n{self.log()}")
        addresses = json.loads(self.ready_file.read_text())
        self.grpc, self.metrics = addresses["grpc"], addresses["metrics"]
        return self

    def cancelled(self) -> float:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=LIMIT_S) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines
                   if line.startswith("quantd_requests_total{") and 'code="CANCELLED"' in line)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(timeout=LIMIT_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def begin_generate(*args) -> subprocess.Popen:
    """A generation of which the first text has come."""
    process = subprocess.Popen([QUANTD, "generate", "hello", "--model", "long", "--temperature", "0", *args],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if not os.read(process.stdout.fileno(), 1):
        raise RuntimeError(process.communicate()[1])
    return process


class WithFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, text: str) -> str:
        path = self.folder / "file"
        path.write_text(text)
        return str(path)

    def start(self, *args, **more) -> Daemon:
        daemon = Daemon(self.folder, *args, **more)
        self.addCleanup(daemon.kill)
        return daemon

    def check(self, result: subprocess.CompletedProcess, code: int, *parts: str) -> None:
        """The run ended with `code`, and its standard error holds the parts."""
        self.assertEqual(result.returncode, code, result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)


class ExitCodes(WithFolder):
    def test_0_help_and_version(self):
        for args in [["--help"], ["--version"], ["serve", "--help"], ["generate", "--help"]]:
            self.check(quantd(*args), 0)

    def test_2_usage(self):
        self.check(quantd(), 2)
        self.check(quantd("serve"), 2, "no model: give the path of one")
        self.check(quantd("serve", SMALL, "--listen", "[::1]:0", "--listen", "[::1]:0"), 2, "--listen can be given once and is given 2")
        self.check(quantd("serve", "--modle", SMALL), 2, "--modle")
        self.check(quantd("serve", "--model", SMALL, "--listen", "nowhere"), 2, "--listen", "nowhere")
        self.check(quantd("serve", "--model", SMALL, "--drain-timeout", "soon"), 2, "--drain-timeout")
        self.check(quantd("serve", "--model", SMALL, "--backend", "tpu"), 2, "--backend", "tpu")
        self.check(quantd("plan", "--model", SMALL, "--max-context", "1"), 2, "--max-context", "expected 2 to")
        self.check(quantd("plan", "--model", SMALL, "--quantize", "int3"), 2, "--quantize", "int3")
        self.check(quantd("generate", "a", "--prompt", "b"), 2, "--prompt")
        self.check(quantd("serve", "--model", "x="), 2, '"x=" names no path')
        self.check(quantd("serve", "--model", SMALL, "--model-root", "/nowhere"), 2, "model root /nowhere: No such file")
        self.check(quantd("serve", "--model", SMALL, "--model-root", SMALL), 2, "is no folder")
        self.check(quantd("generate", "a", "--seed", "-1"), 2, "--seed", "from 0 to")
        self.check(quantd("generate", "a", "--seed", 1 << 64), 2, "--seed", "from 0 to")
        self.check(quantd("generate", "a", "--address", "http://localhost:8001/"), 2, "--address", "HOST:PORT")
        self.check(quantd("models", "--address", "localhost:0"), 2, "--address", "HOST:PORT")
        self.check(quantd("models", "--address", "unix:"), 2, "--address", "unix:/PATH")
        self.check(quantd("chat", "hi", "--wait", "soon"), 2, "--wait")
        self.check(quantd("plan", "--model", SMALL, "--kv-cache-bytes", "0"), 2, "--kv-cache-bytes")
        self.check(quantd("serve", "--model", b"a=\xff.gguf".decode(errors="surrogateescape")), 2, "no UTF-8")
        for args, stdin in [(["generate", "--prompt-file", "-"], "\udcff"), (["generate"], "\udcff"), (["chat"], "\udcff\n"),
                            (["generate", "a", "--stop", "\udcff"], ""), (["chat", "--system", "\udcff", "a"], "")]:
            self.check(quantd(*args, stdin=stdin), 2, "error: ", "is no UTF-8 text, at byte 0")
        self.check(quantd("generate", "--prompt", "a", "--prompt-file", "b"), 2, "--prompt-file")
        self.check(quantd("generate", "--prompt-file", self.folder), 2, f"cannot read {self.folder}: Is a directory")
        self.check(quantd("generate", "--prompt-file", "/nowhere"), 2, "cannot read /nowhere: No such file")

    def test_3_configuration(self):
        def serve(yaml: str) -> subprocess.CompletedProcess:
            return quantd("serve", "--config", self.write(yaml))
        self.check(serve("lissten: 1:2\n"), 3, "file: line 1:", "listen")
        result = serve(f"models: [{{path: {SMALL}}}]\nbackend: foo\n")
        self.check(result, 3, "line 2: backend:", "foo")
        self.assertNotIn("--backend", result.stderr)
        self.check(serve("threads: 1\n"), 3, "names no models")
        self.check(quantd("plan", "--config", self.write("threads: 1\n")), 3, "names no models")
        free = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
        self.check(quantd("serve", "--model", SMALL, *free, "--max-context", "100", "--kv-cache-bytes", "4KiB"), 3,
                   "max_context 100: the KV cache holds 32 tokens")
        self.check(quantd("serve", "--model", SMALL, *free, "--ready-file", "/nowhere/ready"), 3,
                   "cannot write the ready file /nowhere/ready: No such file")
        rule = self.write(f"models: [{{path: {SMALL}, rules: [{{pattern: nosuchlayer, weights: bf16}}]}}]\n")
        self.check(quantd("plan", "--config", rule), 3, "nosuchlayer")
        self.check(quantd("serve", "--config", self.folder), 3, f"cannot read {self.folder}: Is a directory")
        self.check(quantd("serve", "--config", "/nowhere"), 3, "cannot read /nowhere: No such file")
        self.check(quantd("serve", "--config", self.write(f"models: [{{path: {SMALL}}}]\nmodel_roots: [/nowhere]\n")), 3,
                   "model root /nowhere: No such file")
        unknown_isa = {**os.environ, "QUANTD_CPU_ISA": "zork"}
        for args in [["plan", SMALL], ["serve", SMALL, *free], ["version"]]:
            self.check(quantd(*args, env=unknown_isa), 3, 'instruction set "zork" is unknown')

    def test_4_model_invalid(self):
        free = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
        self.check(quantd("plan", "/nowhere.gguf"), 4, "error: NOT_FOUND: /nowhere.gguf: No such file or directory\n")
        self.check(quantd("serve", "/nowhere.gguf", *free), 4, "load failed: NOT_FOUND: /nowhere.gguf: No such file")
        broken = self.folder / "broken.gguf"
        broken.write_bytes(SMALL.read_bytes()[:10_000])
        self.check(quantd("plan", broken), 4, "broken.gguf")
        self.check(quantd("serve", broken, *free), 4, "broken.gguf")
        template = self.folder / "template.gguf"  # text works without a template: a broken one is no fault of the model
        template.write_bytes(with_metadata(SMALL, "tokenizer.chat_template", "{{ " + "(" * 2000 + "1" + ")" * 2000 + " }}"))
        planned = quantd("plan", template)
        self.check(planned, 0)
        self.assertIn("chat template 'default' is broken: line 1: nested too deeply", planned.stdout + planned.stderr)

    def test_4_what_is_wrong_is_said_once(self):
        free = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
        broken = self.folder / "broken.gguf"
        broken.write_bytes(SMALL.read_bytes()[:10_000])
        (self.folder / "folder").mkdir()
        for path, told in [("org/name", "models are not downloaded yet"), ("llama3.2:1b", "No such file"), ("/nowhere", "No such file"),
                           (broken, "in a file of 10000"), (self.folder / "folder", "is an empty folder")]:
            for args in [["plan", path], ["serve", path, *free]]:
                error = quantd(*args).stderr
                self.assertEqual(error.count(told), 1, error)
                self.assertNotRegex(error, r"([A-Z]+_[A-Z_]+):? \1")
            self.assertTrue(error.endswith("error: no model could be loaded\n"), error)
        two = quantd("serve", "a=org/name", f"b={broken}", *free)
        self.check(two, 4, "model a: load failed: NOT_FOUND: ", "model b: load failed: DATA_LOSS CHECKPOINT_CORRUPT: ")

    def test_5_memory_budget(self):
        args = ["--model", SMALL, "--memory-budget", "64KiB"]
        result = quantd("plan", *args)
        self.check(result, 5)
        self.assertIn("DOES NOT FIT", result.stdout)
        self.check(quantd("serve", *args, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"), 5, "MEMORY_BUDGET")

    def test_5_descriptors_and_processes(self):
        def limited(limit: int, value: int, *args) -> subprocess.CompletedProcess:
            return quantd(*args, preexec_fn=lambda: resource.setrlimit(limit, (value, value)))
        free = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
        for args in [["serve", SMALL, *free], ["chat", "hi"], ["generate", "hi"], ["models"]]:
            self.check(limited(resource.RLIMIT_NOFILE, 6, *args), 5, "NO_DESCRIPTORS", "its limit is 6 (ulimit -n)")
        self.check(limited(resource.RLIMIT_NOFILE, 4, "plan", SHARDED), 5, "error: RESOURCE_EXHAUSTED NO_DESCRIPTORS: ",
                   "Too many open files")
        self.check(limited(resource.RLIMIT_AS, 96 << 20, "serve", SMALL, "--kv-cache-bytes", "1GiB", *free), 5)

    def serve_until_ready(self, binary, model, **more) -> tuple[int, str]:
        """`quantd serve`, stopped once it is ready: its exit code and its log."""
        args = [binary, "serve", model, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--kv-cache-bytes", "256KiB"]
        log = ""
        with subprocess.Popen(list(map(str, args)), stderr=subprocess.PIPE, text=True, **more) as process:
            watchdog = threading.Timer(LIMIT_S, process.kill)
            watchdog.start()
            for line in process.stderr:
                log += line
                if line.endswith(" INFO ready\n"):
                    process.terminate()
            code = process.wait()
            watchdog.cancel()
        return code, log

    def test_5_threads(self):
        """However many the system grants (`ulimit -u`): the command says that it needs more and ends, or it works."""
        # Root heeds no such limit, and it counts all that a user runs: as root, a user is taken that runs nothing else.
        root = os.getuid() == 0
        user = 50_000 + os.getpid() % 10_000
        binary, model = shutil.copy(QUANTD, self.folder), shutil.copy(SMALL, self.folder)
        self.folder.chmod(0o755)

        def limited(count: int):
            def become() -> None:
                resource.setrlimit(resource.RLIMIT_NPROC, (count, count))
                if root:
                    os.setgroups([])
                    os.setgid(user)
                    os.setuid(user)
            return become
        for count in range(1, 200) if root else [1]:
            code, log = self.serve_until_ready(binary, model, preexec_fn=limited(count))
            if code == 0:
                break
            self.assertEqual(code, 5, f"{count} threads: {log}")
            self.assertIn("error: RESOURCE_EXHAUSTED NO_THREADS: ", log)
        else:
            self.assertFalse(root, "no number of threads is enough")
        self.serve_with_few_threads(binary, model, limited(count) if root else None)
        for args in [["models"], ["generate", "hi"], ["chat", "hi"]]:
            with address_of_nobody() as address:
                result = subprocess.run([binary, *args, "--address", address], capture_output=True, text=True, timeout=LIMIT_S,
                                        check=False, stdin=subprocess.DEVNULL, preexec_fn=limited(1))
                self.check(result, 5, "NO_THREADS", "ulimit -u")

    def serve_with_few_threads(self, binary, model, become) -> None:
        """With the fewest that it starts with, it serves beside each other and ends."""
        args = [binary, "serve", model, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--kv-cache-bytes", "256KiB"]
        with open(self.folder / "log", "w") as log, subprocess.Popen(list(map(str, args)), stderr=log, preexec_fn=become) as process:
            try:
                self.assert_serves_and_ends(process, (self.folder / "log").read_text)
            finally:
                process.kill()

    def assert_serves_and_ends(self, process: subprocess.Popen, said) -> None:
        polling.wait_until(lambda: " INFO ready\n" in said() or process.poll() is not None, "it is ready", LIMIT_S)
        address = re.search(r"gRPC on (\S+),", said())[1]
        clients = [subprocess.Popen([QUANTD, "generate", "hello", "--address", address, "--max-tokens", "8"], stdout=subprocess.DEVNULL)
                   for _ in range(6)]
        self.assertEqual([client.wait(LIMIT_S) for client in clients], [0] * 6, said())
        process.terminate()
        self.assertEqual(process.wait(LIMIT_S), 0, said())

    def test_5_address_space(self):
        """However little of it there is (`ulimit -v`): never an abort, never a hang."""
        found = set()
        for mib in range(144, 900, 36):
            limit = mib << 20
            code, log = self.serve_until_ready(QUANTD, SMALL, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))  # pylint: disable=cell-var-from-loop
            self.assertIn(code, (0, 5), f"{mib} MiB: {log}")
            found.add(code)
        self.assertEqual(found, {0, 5})

    def test_130_is_documented_and_70_is_of_exit_codes_test(self):
        table = (pathlib.Path(__file__).parents[2] / "docs" / "operations.md").read_text()
        for code in [0, 1, 2, 3, 4, 5, 6, 70, 130]:
            self.assertIn(f"\n| {code} |", table)

    def test_6_address_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            for flag, other in [("--listen", "--metrics-listen"), ("--metrics-listen", "--listen")]:
                self.check(quantd("serve", "--model", SMALL, flag, address, other, "127.0.0.1:0"), 6, "BIND_FAILED", address)


class Help(WithFolder):
    def test_help_names_commands_flags_and_examples(self):
        for args in [["help"], ["--help"], ["-h"]]:
            result = quantd(*args)
            self.check(result, 0)
            for part in ["Usage: quantd", "serve ", "chat ", "Examples:", "Exit codes:", "QUANTD_MAX_CONTEXT"]:
                self.assertIn(part, result.stdout)
        for command in ["serve", "plan", "chat", "generate", "models", "version"]:
            self.assertEqual(quantd("help", command).stdout, quantd(command, "--help").stdout)
            self.assertIn(f"Usage: quantd {command} ", quantd("help", command).stdout)
            self.assertIn("Examples:", quantd("help", command).stdout)
        self.check(quantd("help", "srve"), 2, 'did you mean "serve"?')
        bare = quantd()
        self.check(bare, 2, "Usage: quantd")
        self.assertEqual(bare.stdout, "")

    def test_a_command_that_is_not_known_is_answered_with_the_one_that_was_meant(self):
        for typed, told in [("serv", '"serve"'), ("caht", '"chat"'), ("list", '"models"'), ("ls", '"models"'), ("ps", '"models"'),
                            ("run", "`quantd serve MODEL`"), ("tokenize", "quantd.v1.Generation/Tokenize"), ("pull", "quantd downloads no models"), ("stop", "SIGTERM"),
                            ("./x.gguf", "`quantd serve PATH`")]:
            self.check(quantd(typed), 2, f'error: unknown command "{typed}"; ', told)

    def test_a_flag_that_is_not_known_is_answered_with_the_one_that_was_meant(self):
        for args, told in [
                (["chat", "--temp", "0.8", "hi"], "unknown flag --temp; did you mean --temperature?"),
                (["chat", "--temprature=0.8", "hi"], "unknown flag --temprature; did you mean --temperature?"),
                (["generate", "--n-predict", "9", "hi"], "did you mean --max-tokens?"),
                (["chat", "--repeat-penalty", "1.1"], "did you mean --repetition-penalty?"),
                (["chat", "--ctx-size", "9"], "`quantd serve --max-context TOKENS`"),
                (["chat", "--kv-cache-dtype", "int8"], "unknown flag --kv-cache-dtype; it is a flag of serve and plan"),
                (["serve", SMALL, "-c", "4096"], "did you mean --max-context?"),
                (["serve", SMALL, "--port", "9000"], "--listen HOST:PORT"),
                (["serve", SMALL, "--host", "0.0.0.0"], "--listen HOST:PORT"),
                (["serve", SMALL, "--modle", "x"], "unknown flag --modle; did you mean --model?"),
                (["serve", SMALL, "--temperature", "1"], "it is a flag of chat and generate"),
                (["serve", SMALL, "--temp", "0.7"], "--temperature belongs to a request: it is a flag of chat and generate"),
                (["serve", SMALL, "-ngl", "33"], "unknown flag -ngl; models run on the processor"),
                (["serve", SMALL, "--gpu-layers", "33"], "models run on the processor"),
                (["serve", SMALL, "--tensor-parallel-size", "2"], "models run on the processor"),
                (["serve", SMALL, "-tp", "2"], "unknown flag -tp; models run on the processor"),
                (["serve", "-hf", "org/name"], "unknown flag -hf; quantd downloads no models"),
                (["serve", SMALL, "-mg", "0"], "unknown flag -mg; models run on the processor"),
                (["serve", SMALL, "--max-model-len", "4096"], "did you mean --max-context?"),
                (["serve", SMALL, "--gpu-memory-utilization", "0.9"], "did you mean --memory-budget SIZE?"),
                (["serve", SMALL, "--dtype", "half"], "did you mean --activations?"),
                (["serve", SMALL, "--quantization", "awq"], "did you mean --quantize?"),
                (["serve", SMALL, "--n-predict", "9"], "--max-tokens belongs to a request"),
                (["serve", SMALL, "--api-key", "k"], "no authentication yet"),
                (["chat", "--api-key", "k", "hi"], "no authentication yet"),
                (["serve", SMALL, "--chat-template", "x.jinja"], "the template that came with the model"),
                (["chat", "-ngl", "33", "hi"], "the daemon's processor"),
                (["chat", "--host", "there", "hi"], "--address HOST:PORT"),
                (["--verison"], "unknown flag --verison; did you mean --version?"),
                (["generate", "Once", "upon"], 'unexpected argument "upon"')]:
            self.check(quantd(*args), 2, "error: ", told)


class Environment(WithFolder):
    def run_in(self, environment: dict, *args) -> subprocess.CompletedProcess:
        return quantd(*args, env={**os.environ, **environment})

    def plan(self, environment: dict, *args) -> dict:
        (plan,) = json.loads(self.run_in(environment, "plan", "-o", "json", *args).stdout)["plans"]
        return plan

    def test_a_flag_comes_from_the_environment_and_the_command_line_wins(self):
        self.assertEqual(self.plan({"QUANTD_MODEL": f"named={SMALL}"})["name"], "named")
        self.assertEqual(self.plan({"QUANTD_MODEL": "/nowhere"}, SMALL)["path"], str(SMALL))
        self.assertEqual(self.plan({"QUANTD_MAX_CONTEXT": "64"}, SMALL)["max_context"], 64)
        self.assertEqual(self.plan({"QUANTD_MAX_CONTEXT": "64"}, SMALL, "--max-context", "32")["max_context"], 32)
        config = self.write(f"models: [{{name: a, path: {SMALL}, max_context: 96}}]\n")
        self.assertEqual(self.plan({"QUANTD_CONFIG": config})["max_context"], 96)
        self.assertEqual(self.plan({"QUANTD_CONFIG": config, "QUANTD_MAX_CONTEXT": "64"})["max_context"], 64)
        with address_of_nobody() as address:
            self.check(self.run_in({"QUANTD_ADDRESS": address}, "models"), 1, f"running at {address}?")

    def test_a_bad_value_is_traced_to_its_variable(self):
        self.check(self.run_in({"QUANTD_KV_CACHE_BYTES": "much"}, "plan", SMALL), 2, "from the environment: QUANTD_KV_CACHE_BYTES=much")
        self.check(self.run_in({"QUANTD_LISTEN": "nowhere"}, "serve", SMALL), 2, "from the environment: QUANTD_LISTEN=nowhere")
        self.check(self.run_in({"QUANTD_TOP_K": "x"}, "chat", "hi"), 2, "from the environment: QUANTD_TOP_K=x")
        self.check(self.run_in({"QUANTD_TOP_K": "x"}, "version"), 0)  # which has no such flag

    def test_a_variable_that_nothing_reads_is_named(self):
        result = self.run_in({"QUANTD_LISTN": "127.0.0.1:1"}, "plan", SMALL)
        self.check(result, 0, "warning: QUANTD_LISTN is set and ignored: no flag reads it; did you mean QUANTD_LISTEN?")
        service = {"QUANTD_PORT": "tcp://10.0.0.1:8001", "QUANTD_SERVICE_HOST": "10.0.0.1", "QUANTD_CPU_ISA": "portable"}
        self.assertEqual(self.run_in(service, "plan", SMALL).stderr, "")


class WithoutADaemon(WithFolder):
    def test_a_dead_address_is_named_with_a_hint(self):
        with address_of_nobody() as address:
            for args in [["generate", "hello"], ["chat", "hello"], ["models"], ["generate", "-o", "json", "hello"]]:
                result = quantd(*args, "--address", address)
                self.check(result, 1, "error: UNAVAILABLE: ", f"is `quantd serve` running at {address}?")
                self.assertEqual(result.stdout, "")

    def test_a_piped_conversation_ends_with_its_first_failure(self):
        with address_of_nobody() as address:
            result = quantd("chat", "--address", address, stdin="one\ntwo\n")
            self.check(result, 1, "UNAVAILABLE")
            self.assertEqual(result.stderr.count("error: UNAVAILABLE"), 1)

    def test_a_conversation_on_a_terminal_does_not_begin_without_a_daemon(self):
        with address_of_nobody() as address:
            code, out, err = run_on_terminal("chat", "--address", address, typed=b"question\n")
            self.assertEqual((code, out), (1, ""))
            self.assertIn("is `quantd serve` running", err)
            self.assertNotIn("> ", err)

    def test_generate_says_that_it_reads_a_terminal(self):
        with address_of_nobody() as address:
            code, _, err = run_on_terminal("generate", "--address", address, typed=b"Once\n\x04")
            self.assertEqual(code, 1)
            self.assertTrue(err.startswith("reading the prompt from standard input; Ctrl-D ends it\n"), err)

    def test_plan(self):
        for models in [["a"], ["a", "b"]]:
            flags = [part for name in models for part in ("--model", f"{name}={SMALL}")]
            told = json.loads(quantd("plan", *flags, "-o", "json").stdout)
            self.assertTrue(told["fits"])
            plans = told["plans"]
            self.assertEqual([plan["name"] for plan in plans], models)
            self.assertEqual(int(plans[0]["total_bytes"]), sum(map(int, plans[0]["bytes"].values())))
            self.assertTrue(plans[0]["fits"])
            self.assertEqual(plans[0]["max_context"], 128)
        one = quantd("plan", "--model", SMALL, "--kv-cache-bytes", "16KiB").stdout
        self.assertIn(" 1 sequence at 128 tokens", one)

    def test_plan_names_flags_each_of_which_makes_it_fit(self):
        whole = json.loads(quantd("plan", SMALL, "-o", "json").stdout)["plans"][0]
        rest = int(whole["total_bytes"]) - int(whole["bytes"]["kv_cache"])
        budget = ["--memory-budget", rest + int(whole["bytes"]["kv_cache"]) // 2]
        result = quantd("plan", SMALL, *budget)
        self.check(result, 5)
        self.assertIn("DOES NOT FIT", result.stdout)
        flags = re.findall(r"would fit with (--\S+) (\S+): ", result.stdout)
        self.assertIn("--kv-cache-bytes", [flag for flag, _ in flags])
        for flag in flags:
            self.check(quantd("plan", SMALL, *budget, *flag), 0)
        ways = json.loads(quantd("plan", SMALL, *budget, "-o", "json").stdout)["plans"][0]["ways_to_fit"]
        self.assertEqual([("--" + way["setting"].replace("_", "-"), way["value"]) for way in ways], flags)
        nothing = quantd("plan", SMALL, "--memory-budget", "64KiB")
        self.check(nothing, 5)
        self.assertIn("no flag makes it fit", nothing.stdout)

    def test_plan_of_a_configuration(self):
        config = self.write(f"""
models:
  - {{name: a, path: {SMALL}, rules: [{{pattern: "*q_proj", weights: bf16}}], kv_cache_dtype: int8, kv_cache_values_dtype: bf16}}
  - {{name: b, path: {SMALL}, kv_cache_bytes: 4KiB}}
""")
        a, b = json.loads(quantd("plan", "--config", config, "-o", "json").stdout)["plans"]
        self.assertEqual((a["name"], b["name"]), ("a", "b"))
        self.assertIn("bf16", [layer["scheme"] for layer in a["layers"] if "q_proj" in layer["name"]])
        self.assertLess(b["max_context"], b["model_context"])
        text = quantd("plan", "--config", config).stdout
        self.assertIn("taken by the models above", text)
        self.assertIn(f"the KV cache holds {b['max_context']} of the 128 tokens of the model's context", text)

    def test_version(self):
        told = json.loads(quantd("version", "-o", "json").stdout)
        self.assertIn(told["cpu"]["isa_in_use"], told["cpu"]["isa_available"])
        self.assertIn(told["version"], quantd("version").stdout)
        portable = quantd("version", "-o", "json", env={**os.environ, "QUANTD_CPU_ISA": "portable"})
        self.assertEqual(json.loads(portable.stdout)["cpu"]["isa_in_use"], "portable")

    def test_output_that_cannot_be_written_is_an_error(self):
        with open("/dev/full", "wb") as full:
            for args in [["version"], ["plan", "--model", SMALL]]:
                result = subprocess.run([QUANTD, *args], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
                self.check(result, 1, "No space left")


class WithADaemon(WithFolder):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        folder = pathlib.Path(temporary.name)
        config = folder / "quantd.yaml"
        config.write_text(f"""
listen: 127.0.0.1:1
log_level: error
max_receive_bytes: 1MiB
models:
  - {{name: long, path: {make_long_model(folder)}, kv_cache_dtype: f32, kv_cache_bytes: 32MiB}}
  - {{name: small, path: {SMALL}, max_waiting_requests: 7}}
""")
        cls.daemon = Daemon(folder, "--config", config, "--kv-cache-dtype", "int8", "--log-level", "info")
        cls.addClassCleanup(cls.daemon.kill)
        cls.daemon.wait_until_ready()

    def ask(self, command: str, *args, model: str = "small", **more) -> subprocess.CompletedProcess:
        return quantd(command, "--address", self.daemon.grpc, "--model", model, *args, **more)

    def begin(self, *args) -> subprocess.Popen:
        process = begin_generate("--address", self.daemon.grpc, *args)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        return process

    def test_models(self):
        told = json.loads(quantd("models", "--address", self.daemon.grpc, "-o", "json").stdout)
        self.assertEqual([m["name"] for m in told["models"]], ["long", "small"])
        (one,) = json.loads(quantd("models", "small", "--address", self.daemon.grpc, "-o", "json").stdout)["models"]
        self.assertEqual(one["state"], "MODEL_STATE_READY")
        self.assertEqual(one["max_context"], 128)
        table = quantd("models", "--address", self.daemon.grpc).stdout
        self.assertRegex(table, r"(?m)^small +ready +Q8_0, .*Q4_1")
        self.check(quantd("models", "nobody", "--address", self.daemon.grpc), 1, "error: NOT_FOUND MODEL_NOT_FOUND: ")

    def test_flags_override_the_file(self):
        told = json.loads(quantd("models", "--address", self.daemon.grpc, "-o", "json").stdout)["models"]
        for model in told:  # a flag about a model is for each of them
            self.assertEqual(model["spec"]["quantization"]["kv_keys"], "int8")
        self.assertIn(" INFO ready", self.daemon.log())
        self.assertFalse(self.daemon.grpc.endswith(":1"))

    def test_generate(self):
        args = ["--max-tokens", "5", "--temperature", "0"]
        told = json.loads(self.ask("generate", "hello", *args, "-o", "json").stdout)
        self.assertEqual(told["seed"], str(int(told["seed"])))
        self.assertEqual(told["model"], "small")
        self.assertEqual(told["finish_reason"], "max_tokens")
        self.assertEqual(told["usage"]["new_tokens"], 5)
        self.assertGreater(told["timing"]["total_seconds"], 0)
        for given in [["hello"], ["--prompt", "hello"], ["--prompt-file", self.write("hello")]]:
            result = self.ask("generate", *given, *args)
            self.check(result, 0, "5 tokens", "ended by max_tokens")
            self.assertEqual(result.stdout, told["text"] + "\n")
        self.assertEqual(self.ask("generate", *args, stdin="hello").stdout, told["text"] + "\n")

    def test_a_seed_given_back_gives_the_same_text(self):
        args = ["generate", "hello", "--max-tokens", "20", "--temperature", "1.5", "-o", "json"]
        first = json.loads(self.ask(*args).stdout)
        again = json.loads(self.ask(*args, "--seed", first["seed"]).stdout)
        self.assertEqual((again["seed"], again["text"]), (first["seed"], first["text"]))

    def test_64_bit_numbers_are_strings_in_every_json(self):
        """As protobuf's JSON has them: a reader whose numbers are doubles loses none of their digits."""
        def wide(value, where: str) -> list:
            if isinstance(value, dict):
                return [path for key, item in value.items() for path in wide(item, f"{where}.{key}")]
            if isinstance(value, list):
                return [path for item in value for path in wide(item, where)]
            return [where] if isinstance(value, str) and value.isdecimal() else []
        told = {name: json.loads(result.stdout) for name, result in {
            "models": quantd("models", "--address", self.daemon.grpc, "-o", "json"),
            "plan": quantd("plan", SMALL, "-o", "json"),
            "generate": self.ask("generate", "hello", "-n", "3", "-o", "json"),
            "version": quantd("version", "-o", "json")}.items()}
        for value in told.values():
            self.assertIsInstance(value, dict)
        self.assertTrue({"models.models.memory.weights_bytes", "models.models.parameters", "models.models.kv_blocks"}
                        <= set(wide(told["models"], "models")))
        self.assertTrue({"plan.plans.total_bytes", "plan.plans.parameters", "plan.plans.kv_blocks", "plan.plans.bytes.weights"}
                        <= set(wide(told["plan"], "plan")))
        self.assertEqual(wide(told["generate"], "generate"), ["generate.seed"])

    def test_without_a_model_two_are_named(self):
        for args in [["chat", "hi"], ["generate", "hi"]]:
            self.check(quantd(*args, "--address", self.daemon.grpc), 2, "2 models are served; say which with --model: long, small")

    def test_the_metrics_port_is_no_address_of_a_daemon(self):
        self.check(quantd("models", "--address", self.daemon.metrics), 1, "is that the metrics port?")

    def test_a_default_cap_ends_an_answer_and_says_so(self):
        result = self.ask("generate", "hello", "--temperature", "0", model="long")
        self.check(result, 0, " 1024 tokens", "ended by max_tokens", "cut after 1024 tokens; --max-tokens N")
        self.check(self.ask("generate", "hello", "--temperature", "0"), 0, "ended by context_full")  # which is less than the cap
        result = self.ask("generate", "hello", "--temperature", "0", "--max-tokens", "0")
        self.check(result, 0, "ended by context_full")
        self.assertNotIn("cut after", result.stderr)

    def test_a_failed_call_prints_nothing_on_standard_output(self):
        result = self.ask("generate", "a " * 200)
        self.check(result, 1, "error: INVALID_ARGUMENT CONTEXT_TOO_LONG: ", "a first new token exceed the context of 128")
        self.assertEqual(result.stdout, "")
        self.check(self.ask("generate", "a " * 200, "--max-tokens", "3"), 1, "and max_new_tokens of 3 exceed")

    def test_the_message_after_a_stop_text_is_no_stop_text(self):
        result = self.ask("chat", "--stop", "xyz", "--stop", "[a,b]", "hello", "--max-tokens", "3")
        self.check(result, 0, "3 tokens")

    def test_a_piped_conversation(self):
        result = self.ask("chat", "--max-tokens", "3", "--temperature", "0", stdin="hi\n\nyes\n/quit\nnot asked\n")
        self.check(result, 0)
        self.assertEqual(result.stderr.count("ended by"), 2)
        self.assertNotIn("> ", result.stderr)

    def test_a_conversation_on_a_terminal_goes_on_after_a_failed_message(self):
        code, _, err = run_on_terminal("chat", "--address", self.daemon.grpc, "--model", "small", "--max-tokens", "3",
                                       typed=b"a" * 300 + b"\nhi\n/quit\n")
        self.assertEqual(code, 0, err)
        self.assertIn("CONTEXT_TOO_LONG", err)
        self.assertEqual(err.count("ended by"), 1)

    def test_ctrl_c_cancels(self):
        before = self.daemon.cancelled()
        process = self.begin(*ENDLESS)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT_S)
        self.assertEqual((process.returncode, err), (130, b"cancelled\n"))
        wait_until(lambda: self.daemon.cancelled() > before, "the daemon counts the cancelled request")

    def test_a_closed_pipe_ends_the_client_and_its_request(self):
        before = self.daemon.cancelled()
        process = self.begin(*ENDLESS)
        process.stdout.close()
        self.assertEqual(process.wait(timeout=LIMIT_S), -signal.SIGPIPE)
        wait_until(lambda: self.daemon.cancelled() > before, "the daemon counts the cancelled request")

    def test_a_full_disk_ends_the_client(self):
        before = self.daemon.cancelled()
        with open("/dev/full", "wb") as full:
            result = subprocess.run([QUANTD, "generate", "hello", "--address", self.daemon.grpc, "--model", "long", *ENDLESS],
                                    stdout=full, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
        self.check(result, 1, "cannot write to standard output: No space left")
        wait_until(lambda: self.daemon.cancelled() > before, "the daemon counts the cancelled request")


class Stopping(WithFolder):
    def model_flags(self) -> list:
        return ["--model", f"long={make_long_model(self.folder)}", "--kv-cache-bytes", "16MiB"]

    def begin(self, address: str, *args) -> subprocess.Popen:
        process = begin_generate("--address", address, *args)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_a_lost_terminal_drains(self):
        controller, terminal = pty.openpty()

        def own_terminal():
            os.setsid()
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        daemon = self.start(*self.model_flags(), preexec_fn=own_terminal, pass_fds=[terminal]).wait_until_ready()
        os.close(terminal)
        os.close(controller)  # the terminal hangs up
        self.assertEqual(daemon.wait(), 0)
        self.assertIn("draining for at most", daemon.log())
        self.assertFalse(daemon.ready_file.exists())

    def test_a_hangup_without_a_lost_terminal_changes_nothing_and_says_so(self):
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        for handler, told in [(signal.SIG_DFL, True), (signal.SIG_IGN, False)]:  # which a daemon inherits; the latter is nohup
            signal.signal(signal.SIGHUP, handler)
            daemon = self.start(*self.model_flags()).wait_until_ready()
            daemon.signal(signal.SIGHUP)
            if told:
                wait_until(lambda: "SIGHUP: reloading the configuration is not built" in daemon.log(), "it says what it does not do")
            self.check(quantd("models", "--address", daemon.grpc), 0)
            daemon.signal()
            self.assertEqual(daemon.wait(), 0)

    def test_a_unix_socket_and_a_host_without_a_port_are_addresses(self):
        socket_file = self.folder / "quantd.sock"
        daemon = self.start(*self.model_flags(), listen=f"unix:{socket_file}").wait_until_ready()
        self.assertEqual(daemon.grpc, f"unix:{socket_file}")
        self.check(quantd("generate", "hello", "-n", "3", "--address", daemon.grpc), 0, "3 tokens")
        self.check(quantd("models", env={**os.environ, "QUANTD_ADDRESS": daemon.grpc}), 0)
        daemon.signal()
        self.assertEqual(daemon.wait(), 0)
        self.assertNotEqual(quantd("models", "--address", "localhost").returncode, 2)  # of port 8001, whoever is there

    def test_listening_for_other_machines_is_warned_of(self):
        daemon = self.start(*self.model_flags(), listen="0.0.0.0:0").wait_until_ready()
        self.assertRegex(daemon.log(), r"WARN gRPC on 0\.0\.0\.0:\d+ can be reached from other machines, without TLS")
        self.assertNotIn("WARN metrics", daemon.log())
        daemon.signal()
        self.assertEqual(daemon.wait(), 0)

    def test_it_takes_as_many_descriptors_as_it_may(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))  # which a daemon inherits
        daemon = self.start(*self.model_flags()).wait_until_ready()
        self.assertEqual(resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE), (hard, hard))

    def test_a_proxy_is_not_asked_for_a_daemon_of_this_machine(self):
        daemon = self.start(*self.model_flags()).wait_until_ready()
        with address_of_nobody() as proxy:
            self.check(quantd("models", "--address", daemon.grpc, env={**os.environ, "http_proxy": f"http://{proxy}"}), 0)

    def test_a_client_waits_while_the_model_loads_and_for_a_daemon_that_is_told_to_come(self):
        path = make_long_model(self.folder)
        names = [f"m{i}" for i in range(100)] + ["last"]  # seconds of loading
        config = self.write("models:\n" + "".join(f"  - {{name: {n}, path: {path}, kv_cache_bytes: 8MiB}}\n" for n in names))
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{chosen.getsockname()[1]}"
        ask = ["generate", "hello", "--model", "last", "--max-tokens", "3", "--address", address]
        self.check(quantd(*ask), 1, "error: UNAVAILABLE: ")
        waiting = subprocess.Popen([QUANTD, *ask, "--wait", "1m"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(waiting.kill)
        self.assertEqual(waiting.stderr.readline(), f"waiting for a daemon at {address}\n")
        daemon = self.start("--config", config, listen=address)
        wait_until(lambda: "listening: " in daemon.log(), "it listens")
        self.check(quantd(*ask, "--wait", "0s"), 1, "MODEL_LOADING")
        self.check(quantd(*ask), 0, "waiting: model last is loading", "3 tokens")
        _, err = waiting.communicate(timeout=LIMIT_S)
        self.assertEqual(waiting.returncode, 0, err)

    def test_sigterm_lets_requests_finish(self):
        daemon = self.start(*self.model_flags()).wait_until_ready()
        client = self.begin(daemon.grpc, "--max-tokens", "2000")
        daemon.signal()
        _, err = client.communicate(timeout=LIMIT_S)
        self.assertEqual(client.returncode, 0, err)
        self.assertIn(b"2000 tokens", err)
        self.assertEqual(daemon.wait(), 0)

    def test_a_second_signal_ends_at_once(self):
        daemon = self.start(*self.model_flags(), "--drain-timeout", "1h").wait_until_ready()
        client = self.begin(daemon.grpc, *ENDLESS)
        daemon.signal()
        wait_until(lambda: "draining for at most" in daemon.log(), "the drain begins")
        self.assertIsNone(daemon.process.poll())
        daemon.signal(signal.SIGINT)
        self.assertEqual(daemon.wait(), 0)
        _, err = client.communicate(timeout=LIMIT_S)
        self.assertEqual(client.returncode, 1)
        self.assertIn(b"error: UNAVAILABLE DRAINING: ", err)

    def test_a_second_signal_ends_at_once_while_a_model_loads(self):
        path = make_long_model(self.folder)
        names = ["long"] + [f"m{i}" for i in range(100)]  # seconds of loading
        config = self.write("models:\n" + "".join(f"  - {{name: {n}, path: {path}, kv_cache_bytes: 8MiB}}\n" for n in names))
        daemon = self.start("--config", config, "--drain-timeout", "1h")
        wait_until(lambda: "model long: ready" in daemon.log(), "the first model is ready")
        address = re.search(r"listening: gRPC on (\S+),", daemon.log()).group(1)
        client = self.begin(address, *ENDLESS)
        daemon.signal()
        wait_until(lambda: "draining for at most" in daemon.log(), "the drain begins")
        self.assertIsNone(daemon.process.poll())
        daemon.signal()
        self.assertEqual(daemon.wait(), 0)
        self.assertIn("stopping while a model loads", daemon.log())
        self.assertFalse(daemon.ready_file.exists())
        client.communicate(timeout=LIMIT_S)
        self.assertEqual(client.returncode, 1)


class BrokenTemplate(WithFolder):
    def test_text_works_without_a_template_and_a_chat_is_told_what_is_wrong_with_it(self):
        path = self.folder / "broken.gguf"
        path.write_bytes(with_metadata(SMALL, "tokenizer.chat_template", "{% for m in messages %}{{ m.content }}"))
        daemon = self.start(path).wait_until_ready()
        why = "chat template 'default' is broken: line 1"
        self.assertIn(why, daemon.log())
        self.check(quantd("generate", "hello", "--max-tokens", "2", "--address", daemon.grpc), 0)
        self.check(quantd("chat", "hello", "--address", daemon.grpc), 1,
                   "error: FAILED_PRECONDITION CHAT_TEMPLATE_BROKEN: " + why)


class Progress(WithFolder):
    def test_log_lines_clear_the_progress_line_of_a_terminal(self):
        path = make_long_model(self.folder)
        names = [f"m{i}" for i in range(100)]
        config = self.write("models:\n" + "".join(f"  - {{name: {n}, path: {path}, kv_cache_bytes: 8MiB}}\n" for n in names))
        controller, terminal = pty.openpty()
        self.addCleanup(os.close, controller)
        daemon = self.start("--config", config, stderr=terminal)
        os.close(terminal)
        shown = ""
        bar_then_log = re.compile(r"loading m\d+ \[[#.]+\] +\d+ %  .*?\n.*\n", re.S)
        end = time.monotonic() + LIMIT_S
        while not bar_then_log.search(shown) and select.select([controller], [], [], max(end - time.monotonic(), 0))[0]:
            shown += os.read(controller, 65536).decode()
        daemon.signal()
        self.assertRegex(shown, bar_then_log)
        for line in LOG_LINE.finditer(shown):
            self.assertTrue(shown[:line.start()].endswith("\r\x1b[K"), shown)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
