#!/usr/bin/env python3
"""A stock Python client against the built daemon: stubs by grpcio-tools, a chat, a cancel, a deadline, an unknown model.

usage: python_client_test.py QUANTD PROTO_FOLDER SCRATCH_FOLDER

The scratch folder keeps a virtual environment with grpcio-tools from run to run. Skipped (exit 77) where pip finds no
grpcio-tools or the demo model is not in its cache.
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import polling
import python_client

HERE = pathlib.Path(__file__).resolve().parent
GOLDENS = HERE.parents[1] / "goldens" / "smollm2" / "chats.json"
MODEL_FILE = "models/SmolLM2-135M-Instruct.Q4_1.gguf"
LIMIT_S = 120  # for what takes milliseconds on a free machine


def demo_model() -> pathlib.Path:
    home_cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    cache = pathlib.Path(os.environ.get("QUANTD_CACHE") or pathlib.Path(home_cache) / "quantd")
    if not (cache / MODEL_FILE).exists():
        python_client.skip("data: SmolLM2 is not in the cache (tools/fetch_demo_model.sh)")
    return cache / MODEL_FILE


class Daemon:
    """`quantd serve` on ports of its own choosing."""

    def __init__(self, binary: str, folder: pathlib.Path):
        ready = folder / "ready.json"
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [binary, "serve", "--model", f"smollm2={demo_model()}", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
                 "--ready-file", ready], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(lambda: ready.exists() or self.process.poll() is not None, "the daemon is ready")
        if not ready.exists():
            raise RuntimeError(f"quantd serve exited with {self.process.returncode}:\n{self.log.read_text()}")
        self.addresses = json.loads(ready.read_text())

    def metric(self, name: str, labels: str = "") -> float:
        """The sum of the samples of `name` whose labels contain `labels`; 0 where there is none."""
        with urllib.request.urlopen(f"http://{self.addresses['metrics']}/metrics", timeout=LIMIT_S) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines
                   if line.split("{")[0].split(" ")[0] == name and labels in line)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=LIMIT_S)


def wait_until(condition, what: str) -> None:
    polling.wait_until(condition, what, LIMIT_S)


class PythonClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import grpc
        from quantd.v1 import generation_pb2, generation_pb2_grpc
        cls.grpc, cls.pb = grpc, generation_pb2
        cls.folder = tempfile.TemporaryDirectory()
        cls.daemon = Daemon(sys.argv[1], pathlib.Path(cls.folder.name))
        cls.channel = grpc.insecure_channel(cls.daemon.addresses["grpc"])
        cls.stub = generation_pb2_grpc.GenerationStub(cls.channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        status = cls.daemon.stop()
        cls.folder.cleanup()
        assert status == 0, f"quantd serve ended with {status} on SIGTERM"

    def request(self, text: str, max_new_tokens: int, **more):
        chat = self.pb.Chat(messages=[self.pb.ChatMessage(role="user", content=text)])
        stopping = self.pb.Stopping(max_new_tokens=max_new_tokens, ignore_eos=more.pop("ignore_eos", False))
        return self.pb.GenerateRequest(chat=chat, sampling=self.pb.Sampling(temperature=0), stopping=stopping, **more)

    def endless(self):
        return self.request("Tell me a very long story.", 4000, ignore_eos=True)

    def test_streams_a_chat(self):
        golden = json.loads(GOLDENS.read_text())[19]  # every step's margin is over 0.7: no near-tie, whatever the KV format
        events = list(self.stub.GenerateStream(self.request(golden["messages"][0]["content"], 40), timeout=LIMIT_S))
        kinds = [event.WhichOneof("event") for event in events]
        self.assertEqual(kinds[:2], ["accepted", "prompt"])
        self.assertEqual(kinds[-2:], ["output_end", "finished"])
        self.assertEqual(set(kinds[2:-2]), {"delta"})
        self.assertEqual(events[1].prompt.prompt_tokens, len(golden["prompt_ids"]))
        text = "".join(event.delta.text for event in events[2:-2])
        # The golden was cut inside a character.
        self.assertEqual(text.rstrip("\ufffd"), golden["answer"].rstrip("\ufffd"))
        self.assertEqual(events[-1].finished.usage.new_tokens, len(golden["answer_ids"]))

    def test_a_cancelled_stream_ends_and_the_daemon_sees_it(self):
        before = self.daemon.metric("quantd_requests_total", 'code="CANCELLED"')
        call = self.stub.GenerateStream(self.endless(), timeout=LIMIT_S)
        deltas = 0
        for event in call:
            deltas += event.WhichOneof("event") == "delta"
            if deltas == 3:
                break
        call.cancel()
        with self.assertRaises(self.grpc.RpcError):
            for _ in call:
                pass
        self.assertEqual(call.code(), self.grpc.StatusCode.CANCELLED)
        wait_until(lambda: self.daemon.metric("quantd_requests_total", 'code="CANCELLED"') == before + 1, "the cancel is counted")
        wait_until(lambda: self.daemon.metric("quantd_requests_running") == 0, "nothing runs")

    def test_a_deadline_ends_a_stream(self):
        before = self.daemon.metric("quantd_requests_total", 'code="DEADLINE_EXCEEDED"')
        call = self.stub.GenerateStream(self.endless(), timeout=0.5)
        with self.assertRaises(self.grpc.RpcError):
            for _ in call:
                pass
        self.assertEqual(call.code(), self.grpc.StatusCode.DEADLINE_EXCEEDED)
        wait_until(lambda: self.daemon.metric("quantd_requests_total", 'code="DEADLINE_EXCEEDED"') == before + 1,
                   "the deadline is counted")

    def test_an_unknown_model_is_not_found_with_error_info(self):
        from google.rpc import error_details_pb2, status_pb2
        with self.assertRaises(self.grpc.RpcError) as caught:
            self.stub.Generate(self.request("Hello", 4, model="no-such-model"), timeout=LIMIT_S)
        error = caught.exception
        self.assertEqual(error.code(), self.grpc.StatusCode.NOT_FOUND)
        self.assertIn("no-such-model", error.details())
        status = status_pb2.Status()
        status.ParseFromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
        info = error_details_pb2.ErrorInfo()
        self.assertTrue(any(detail.Unpack(info) for detail in status.details), status)
        self.assertEqual(info.reason, "MODEL_NOT_FOUND")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    scratch_folder = pathlib.Path(sys.argv[3]).resolve()
    demo_model()
    python_client.enter_environment(scratch_folder)
    python_client.make_stubs(pathlib.Path(sys.argv[2]).resolve(), scratch_folder / "stubs")
    python_client.use_stubs(scratch_folder / "stubs")
    unittest.main(argv=sys.argv[:1])
