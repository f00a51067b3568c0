"""Models that somebody made to harm whoever serves them."""
import json
import pathlib
import signal
import subprocess
import threading
import unittest

import fixture
import grpc
import harness
import tiny_model
from fixture import RPC_S
from quantd.v1 import generation_pb2 as pb
from quantd.v1 import models_pb2, models_pb2_grpc

DRAIN_S = 5  # of a drain of 1 s, on a machine that does other work
SLOW = "{% set s='A'*4000000 %}{% for i in range(10000) %}{% set t=s|lower %}{% endfor %}"


class Models(unittest.TestCase):
    def folder(self, name: str, **more) -> pathlib.Path:
        return tiny_model.make(fixture.models / name, **more)

    def start(self, models: dict[str, pathlib.Path], **more) -> harness.Daemon:
        daemon = harness.Daemon(fixture.binary, models, "--drain-timeout", "1s", **more)
        self.addCleanup(daemon.close)
        return daemon

    def channel(self, daemon: harness.Daemon) -> grpc.Channel:
        channel = grpc.insecure_channel(daemon.address)
        self.addCleanup(channel.close)
        return channel

    def generate(self, daemon: harness.Daemon, model: str, timeout: float = RPC_S, chat: bool = False) -> str:
        """The code of a request of two tokens."""
        request = pb.GenerateRequest(model=model, stopping=pb.Stopping(max_new_tokens=2))
        if chat:
            request.chat.messages.add(role="user", content="hello")
        else:
            request.text = "hello"
        try:
            fixture.generation_pb2_grpc.GenerationStub(self.channel(daemon)).Generate(request, timeout=timeout)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    def assert_stops(self, daemon: harness.Daemon) -> None:
        self.assertLess(fixture.seconds(lambda: self.assertEqual(daemon.stop(), 0)), DRAIN_S)

    def test_verbs_in_a_split_pattern_are_refused_at_load(self):
        for pattern in ("a(*SKIP)b", "(*COMMIT)x", "(*NO_START_OPT)a", "a(*PRUNE:n)b"):
            bad = self.folder("verbs", split=pattern)
            plan = subprocess.run([fixture.binary, "serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
                                   "--model", f"bad={bad}"], capture_output=True, text=True, check=False,
                                  timeout=harness.LIMIT_S)
            self.assertEqual(plan.returncode, 4, plan.stderr)
            self.assertIn("(*", plan.stderr)
        daemon = self.start({"bad": bad, "good": fixture.models / "tiny"})
        self.assertEqual(self.generate(daemon, "bad"), "FAILED_PRECONDITION")
        self.assertEqual(self.generate(daemon, "good"), "OK")
        self.assert_stops(daemon)

    def test_a_split_pattern_that_backtracks_has_an_end(self):
        bad = self.folder("backtracks", split="(a|aa|aaa)+$|(a*)*b")
        daemon = self.start({"bad": bad, "good": fixture.models / "tiny"})
        stub = fixture.generation_pb2_grpc.GenerationStub(self.channel(daemon))
        took = fixture.seconds(lambda: self.assertRaises(
            grpc.RpcError, stub.Tokenize, pb.TokenizeRequest(model="bad", text="a" * 50_000 + "!"), timeout=RPC_S))
        self.assertLess(took, RPC_S / 2)
        self.assertEqual(self.generate(daemon, "good"), "OK")
        self.assert_stops(daemon)

    def test_a_slow_template_holds_up_nobody_else(self):
        daemon = self.start({"bad": self.folder("slow", chat_template=SLOW), "good": fixture.models / "tiny"})
        self.assertEqual(self.generate(daemon, "good"), "OK")
        given_up = [threading.Thread(target=self.generate, args=(daemon, "bad", 0.3, True)) for _ in range(4)]
        for thread in given_up:
            thread.start()
        for thread in given_up:
            thread.join()
        self.assertLess(fixture.seconds(lambda: self.assertEqual(self.generate(daemon, "good"), "OK")), 2)
        running = threading.Thread(target=self.generate, args=(daemon, "bad", RPC_S, True))
        running.start()
        self.assertLess(fixture.seconds(lambda: self.assertEqual(self.generate(daemon, "good"), "OK")), 2)
        daemon.process.send_signal(signal.SIGTERM)
        self.assert_stops(daemon)
        running.join()

    def test_an_error_that_quotes_a_file_breaks_nothing(self):
        evil = "[" + "一丁丂七丄" * 8000 + "]("
        for pattern in (evil, "(\n2026-11-28T00:00:00.000Z INFO request id=fake code=OK\x1b[31m"):
            daemon = self.start({"bad": self.folder("evil", split=pattern), "good": fixture.models / "tiny"})
            stub = models_pb2_grpc.ModelsStub(self.channel(daemon))
            listed = {m.name: m for m in stub.ListModels(models_pb2.ListModelsRequest(), timeout=RPC_S).models}
            self.assertEqual(listed["good"].state, models_pb2.MODEL_STATE_READY)
            failure = stub.GetModel(models_pb2.GetModelRequest(name="bad"), timeout=RPC_S).failure
            self.assertTrue(failure and failure.isprintable(), failure)
            self.assertNotIn(str(fixture.models), failure)
            self.assertEqual(self.generate(daemon, "bad"), "FAILED_PRECONDITION")
            log = daemon.log_file.read_bytes()
            log.decode()
            self.assertNotIn(b"\x1b", log)
            self.assertNotIn(b"quantd/", log)
            for line in log.splitlines():
                self.assertRegex(line, rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARN|ERROR) ")
            self.assertEqual(self.generate(daemon, "good"), "OK")
            self.assert_stops(daemon)

    def check_told(self, name: str, folder: pathlib.Path, word: str) -> None:
        """The model is refused, or served with a warning; either names `word`."""
        daemon = harness.Daemon(fixture.binary, {"x": folder}, ready=False)
        self.addCleanup(daemon.close)
        harness.wait_until(lambda: daemon.ready_file.exists() or not daemon.alive(), "it is served or refused")
        told = [line for line in daemon.log().splitlines() if " WARN " in line or "error" in line.lower()]
        self.assertTrue(any(word in line for line in told), f"{name}: {word} in\n{daemon.log()}")
        if daemon.alive():
            daemon.stop()

    def test_nothing_that_changes_the_output_is_ignored_in_silence(self):
        for name, more, word in (
                ("sliding_window", {"config": {"sliding_window": 4}}, "sliding_window"),
                ("encoder", {"generation": {"encoder_no_repeat_ngram_size": 3}}, "encoder_no_repeat_ngram_size"),
                ("eos beyond the vocabulary", {"config": {"eos_token_id": 99999}, "generation": {"eos_token_id": 99999}},
                 "eos_token_id")):
            self.check_told(name, self.folder("silent-" + name.replace(" ", "-"), **more), word)
        folder = self.folder("silent-duplicate")
        text = (folder / "tokenizer.json").read_text()
        self.assertTrue(text.endswith("}"))
        (folder / "tokenizer.json").write_text(text[:-1] + ', "model": {"type": "BPE", "vocab": {}, "merges": []}}')
        self.check_told("duplicate key", folder, "model")
        folder = self.folder("silent-no-bytes")
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        for character in tiny_model.byte_characters()[100:110]:
            del tokenizer["model"]["vocab"][character]
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        self.check_told("a byte without a token", folder, "byte")
