"""What the daemon says of itself and of others: counts, deadlines, paths, errors."""
import os
import re
import struct
import subprocess
import tempfile
import time
import unittest
from collections import Counter

import fixture
import grpc
import harness
import http2
from fixture import RPC_S
from http2 import CANCEL, END_HEADERS, GENERATE, GENERATE_STREAM, HEADERS, RST_STREAM, frame, request_headers
from quantd.v1 import generation_pb2 as pb
from quantd.v1 import models_pb2, models_pb2_grpc


def request(tokens: int = 4, model: str = "tiny", text: str = "hello") -> pb.GenerateRequest:
    return pb.GenerateRequest(model=model, text=text, stopping=pb.Stopping(max_new_tokens=tokens, ignore_eos=True))


class Counts(fixture.WithDaemon):
    models = ("tiny",)

    def counted(self) -> Counter:
        found = Counter()
        for line in self.daemon.http("/metrics")[1].splitlines():
            labels = re.match(r'quantd_requests_total\{code="(\w+)",kind="generate",model="(\w+)"\} (\d+)', line)
            if labels and int(labels[3]):
                found[labels[2], labels[1]] += int(labels[3])
        return found

    def test_every_request_is_counted_as_what_became_of_it(self):
        before, expected = self.counted(), Counter()
        stub = self.stub()

        def send(call, model: str, code: str) -> None:
            try:
                list(call()) if code == "STREAM" else call()
                found = "OK"
            except grpc.RpcError as error:
                found = error.code().name
            self.assertEqual(found, "OK" if code == "STREAM" else code)
            expected[model, found] += 1

        for _ in range(5):
            send(lambda: stub.Generate(request(), timeout=RPC_S), "tiny", "OK")
            send(lambda: stub.GenerateStream(request(), timeout=RPC_S), "tiny", "STREAM")
            send(lambda: stub.Generate(request(500), timeout=RPC_S), "tiny", "INVALID_ARGUMENT")
            send(lambda: stub.Generate(request(model="none"), timeout=RPC_S), "unknown", "NOT_FOUND")
            send(lambda: self.channel().unary_unary(GENERATE)(b"\xff", timeout=RPC_S), "unknown", "INVALID_ARGUMENT")
        with http2.open_connection(self.daemon.address) as connection:
            body = http2.message(request(100).SerializeToString())
            for stream in range(1, 41, 2):  # whole, and reset at once
                connection.sendall(frame(HEADERS, END_HEADERS, stream, request_headers(GENERATE_STREAM)) +
                                   frame(http2.DATA, http2.END_STREAM, stream, body) +
                                   frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))
            for stream in range(41, 61, 2):  # reset before a byte of it
                connection.sendall(frame(HEADERS, END_HEADERS, stream, request_headers(GENERATE)) +
                                   frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))

            def news() -> Counter:
                return self.counted() - before

            # gRPC drops the message of a call that is reset in the same breath: its model is nobody's to know.
            harness.wait_until(lambda: sum(n for (_, code), n in news().items() if code in ("CANCELLED", "OK")) ==
                               30 + 10, "the resets are counted")
            self.assertEqual(sum(news().values()), sum(expected.values()) + 30)
            for key, count in expected.items():
                if key != ("tiny", "OK"):  # one that was faster than its reset
                    self.assertEqual(news()[key], count, key)
        durations = sum(self.daemon.metric("quantd_request_duration_seconds_count", f'model="{model}"')
                        for model in ("tiny", "unknown"))
        self.assertEqual(durations, sum(self.counted().values()))

    def test_a_call_without_a_message_is_invalid(self):
        found = http2.call(self.daemon.address, GENERATE, b"")
        self.assertEqual(found["grpc-status"], str(grpc.StatusCode.INVALID_ARGUMENT.value[0]))

    def test_deadlines_of_any_size_are_taken_for_what_they_are(self):
        body = http2.message(request().SerializeToString())
        for timeout in ("2000000H", "2562046H", "2562048H", "3000000H", "50000000H", "99999999H", "99999999M", "60S"):
            found = http2.call(self.daemon.address, GENERATE, body, [(b"grpc-timeout", timeout.encode())])
            self.assertEqual(found and found["grpc-status"], "0", timeout)
        self.assert_serves()

    def test_fields_that_change_nothing_are_refused(self):
        chat = pb.Chat(messages=[pb.ChatMessage(role="user", content="x")])
        nan = pb.Chat(messages=chat.messages)
        nan.template_args.fields["deep"].struct_value.fields["k"].number_value = float("nan")
        empty = pb.Chat(messages=chat.messages)
        empty.template_args.fields["nothing"].Clear()
        stub = self.stub()
        for call, sent, field in (
                (stub.Tokenize, pb.TokenizeRequest(model="tiny", chat=chat, parse_special=True), "parse_special"),
                (stub.Tokenize, pb.TokenizeRequest(model="tiny", chat=chat, add_special_tokens=False), "add_special_tokens"),
                (stub.Generate, pb.GenerateRequest(model="tiny", chat=chat, parse_special=True), "parse_special"),
                (stub.Generate, pb.GenerateRequest(model="tiny", text="x", stopping=pb.Stopping(min_new_tokens=500)),
                 "stopping.min_new_tokens"),
                (stub.Tokenize, pb.TokenizeRequest(model="tiny", chat=nan), "chat.template_args"),
                (stub.Tokenize, pb.TokenizeRequest(model="tiny", chat=empty), "chat.template_args")):
            with self.assertRaises(grpc.RpcError, msg=field) as caught:
                call(sent, timeout=RPC_S)
            code, _, fields = fixture.reason_of(caught.exception)
            self.assertEqual(code, "INVALID_ARGUMENT")
            self.assertTrue(fields and fields[0].startswith(field), (field, fields))

    def test_numbers_in_errors_can_be_read(self):
        for change, words in (({"output": pb.OutputOptions(stream_interval=2**32 - 1)}, "is 4294967295"),
                              ({"sampling": pb.Sampling(top_p=1.0000001)}, "is 1.0000001")):
            sent = pb.GenerateRequest(model="tiny", text="x", **change)
            self.assertIn(words, self.assert_refused(lambda: self.stub().Generate(sent, timeout=RPC_S),
                                                     "INVALID_ARGUMENT", "FIELD_INVALID"))

    def test_what_a_client_says_is_escaped_where_it_is_quoted(self):
        text = self.assert_refused(
            lambda: self.stub().Generate(request(model="a\x1b[31m\n2026-11-28T00:00:00.000Z INFO fake"), timeout=RPC_S),
            "NOT_FOUND", "MODEL_NOT_FOUND")
        self.assertIn("a\\x1b[31m\\n2026", text)

    def test_a_stranger_cannot_flood_the_log(self):
        lines = len(self.daemon.log().splitlines())
        raw = self.channel().unary_unary(GENERATE)
        begin = time.monotonic()
        for _ in range(500):
            with self.assertRaises(grpc.RpcError):
                raw(b"\xff", timeout=RPC_S)
        took = time.monotonic() - begin
        written = self.daemon.log().splitlines()[lines:]
        self.assertLessEqual(len(written), took + 2, written[:5])


class Plans(fixture.WithDaemon):
    models = ("tiny",)

    def plan(self, path: str) -> tuple[str, str]:
        stub = models_pb2_grpc.ModelsStub(self.channel())
        try:
            stub.PlanModel(models_pb2.PlanModelRequest(spec=models_pb2.LoadSpec(path=path)), timeout=RPC_S)
            return "OK", ""
        except grpc.RpcError as error:
            return error.code().name, error.details().replace(f": {path} is", ": PATH is")

    def test_a_plan_tells_nothing_of_the_rest_of_the_disk(self):
        own = str(fixture.models / "tiny")
        outside = {self.plan(path) for path in ("/etc", "/etc/passwd", "/etc/none", "/root/.ssh", "/root/.none", "/",
                                                "/proc/1/cwd", "..", ".", own + "/../bystander", own + "2")}
        self.assertEqual(len(outside), 1, outside)
        self.assertEqual(outside.pop()[0], "INVALID_ARGUMENT")
        for there, missing in (("/etc", "/no-such-folder"), ("/etc/passwd", "/etc/none"), ("/root", "/root2")):
            self.assertEqual(self.plan(there + "/.." * there.count("/") + own),
                             self.plan(missing + "/.." * missing.count("/") + own))
        for there, missing in (("/etc\0", "/none\0"), ("/etc\0/..", "/none\0/..")):
            self.assertEqual(self.plan(there + own)[0], self.plan(missing + own)[0])
        self.assertEqual(self.plan(own)[0], "OK")


class Processes(unittest.TestCase):
    def start(self, *args, **more) -> harness.Daemon:
        daemon = harness.Daemon(fixture.binary, {"tiny": fixture.models / "tiny"}, *args, **more)
        self.addCleanup(daemon.close)
        return daemon

    def test_closed_standard_descriptors_are_not_sockets(self):
        for closed in ("exec 0<&- 1>&- 2>&-", "exec 2>&-", "exec 1>&-", "exec 0<&-"):
            daemon = self.start(shell=closed)
            for fd in re.findall(r"(\d)[<>]&-", closed):
                self.assertEqual(os.readlink(f"/proc/{daemon.process.pid}/fd/{fd}"), "/dev/null", closed)
            with grpc.insecure_channel(daemon.address) as channel:
                stub = fixture.generation_pb2_grpc.GenerationStub(channel)
                self.assertEqual(stub.Generate(request(), timeout=RPC_S).usage.new_tokens, 4)
            self.assertEqual(daemon.stop(), 0)

    def test_commands_survive_closed_descriptors_too(self):
        with tempfile.TemporaryDirectory() as folder:
            script = f'exec 0<&- 1>&- 2>&-; cd "{folder}" && exec "$@"'
            status = subprocess.run(["bash", "-c", script, "bash", fixture.binary, "version"], check=False,
                                    timeout=harness.LIMIT_S).returncode
            self.assertEqual(status, 0)
