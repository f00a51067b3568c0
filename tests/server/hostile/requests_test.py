"""What one call may bring: compressed, malformed and oversized messages of every method."""
import gzip
import time
import zlib

import fixture
import grpc
import http2
from attacks import field
from fixture import RPC_S
from grpc.health.v1 import health_pb2
from quantd.v1 import generation_pb2 as pb
from quantd.v1 import models_pb2

MIB = 1 << 20
HEALTH = "/grpc.health.v1.Health/Check"
PEAK_MIB = 120  # what one request of 16 MiB may take: as it was sent, as it was decompressed, as a message


def zeros(mib: int, compressor) -> bytes:
    block = bytes(MIB)
    return b"".join(compressor.compress(block) for _ in range(mib)) + compressor.flush()


def hello(**more) -> pb.GenerateRequest:
    return pb.GenerateRequest(model="tiny", text="hello", stopping=pb.Stopping(max_new_tokens=2), **more)


class Requests(fixture.WithDaemon):
    models = ("tiny",)

    def call(self, body: bytes, encoding: str = "", path: str = http2.GENERATE) -> tuple[str, str]:
        """Status and message of a call with `body` on the wire."""
        headers = [(b"grpc-encoding", encoding.encode())] if encoding else []
        found = http2.call(self.daemon.address, path, body, headers)
        self.assertIsNotNone(found, "no status came")
        return grpc.StatusCode(next(c.value for c in grpc.StatusCode if c.value[0] == int(found["grpc-status"]))).name, \
            found.get("grpc-message", "")

    def assert_bounded(self, work) -> None:
        """`work` costs memory of the order of what one request may be, and it comes back."""
        self.daemon.forget_peak()
        before = self.daemon.rss_mib()
        work()
        self.assertLess(self.daemon.peak_mib() - before, PEAK_MIB)
        fixture.harness.wait_until(lambda: self.daemon.rss_mib() < before + fixture.harness.MARGIN_MIB,
                                   "memory is given back", fixture.harness.GIVEN_BACK_S)
        self.assert_serves()

    def test_a_compressed_request_is_one_like_any(self):
        for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            self.assertEqual(self.stub().Generate(hello(), timeout=RPC_S, compression=compression).usage.new_tokens, 2)
        tokenized = self.stub().Tokenize(pb.TokenizeRequest(model="tiny", text="ab " * 1000), timeout=RPC_S,
                                         compression=grpc.Compression.Gzip)
        self.assertEqual(tokenized.rendered, "ab " * 1000)

    def test_a_bomb_is_stopped_at_the_size_of_a_request(self):
        for encoding, compressor in (("gzip", zlib.compressobj(9, zlib.DEFLATED, 31)), ("deflate", zlib.compressobj(9))):
            bomb = zeros(256, compressor)
            for path in (http2.GENERATE, http2.GENERATE_STREAM, "/quantd.v1.Generation/Tokenize",
                         "/quantd.v1.Models/PlanModel", HEALTH, "/grpc.health.v1.Health/Watch"):
                def attack(path=path, bomb=bomb, encoding=encoding):
                    code, text = self.call(http2.message(bomb, compressed=True), encoding, path)
                    self.assertEqual(code, "RESOURCE_EXHAUSTED", text)
                    self.assertIn("when it is decompressed", text)
                self.assert_bounded(attack)

    def test_many_bombs_at_once_are_bounded_too(self):
        bomb = zeros(256, zlib.compressobj(9, zlib.DEFLATED, 31))
        call = self.channel().unary_unary(http2.GENERATE)

        def attack():
            with http2.open_connection(self.daemon.address) as connection:
                streams = list(range(1, 65, 2))
                uploader = http2.Uploader(connection, streams)
                headers = http2.request_headers(http2.GENERATE, [(b"grpc-encoding", b"gzip")])
                for stream in streams:
                    uploader.open(stream, headers)
                uploader.send(dict.fromkeys(streams, http2.message(bomb, compressed=True)), end=True, seconds=RPC_S)
                deadline = time.monotonic() + RPC_S
                while len(uploader.ended) < len(streams) and not uploader.closed and time.monotonic() < deadline:
                    uploader.receive(0.1)
                self.assertEqual(len(uploader.ended), len(streams))

        self.daemon.forget_peak()
        before = self.daemon.rss_mib()
        attack()
        self.assertLess(self.daemon.peak_mib() - before, 300)  # the total of requests that are being read: 256 MiB
        self.assert_serves()
        del call

    def test_what_is_wrong_with_a_compressed_request_is_said(self):
        good = hello().SerializeToString()
        packed = gzip.compress(good)
        for body, encoding, why in (
                (packed[:-9], "gzip", "is cut off"), (packed + b"x", "gzip", "has bytes behind its end"),
                (packed + packed, "gzip", "has bytes behind its end"), (zlib.compress(good), "gzip", "is not gzip"),
                (packed, "deflate", "is not deflate"), (b"", "gzip", "is cut off"),
                (gzip.compress(packed), "gzip", "has wire type 7"),  # twice: what is inside is no message
                (gzip.compress(b"\xff\xff"), "gzip", "is not a message of its type")):
            code, text = self.call(http2.message(body, compressed=True), encoding)
            self.assertEqual(code, "INVALID_ARGUMENT", text)
            self.assertIn(why, text)
        self.assertIn(self.call(http2.message(packed, compressed=True), "zork")[0], ("INVALID_ARGUMENT", "UNIMPLEMENTED"))
        self.assert_serves()

    def test_every_short_text_of_a_channel_finds_a_place(self):
        """gRPC holds back what is more than the server's streams at once; no more than that is to wait there."""
        for method, request in (("Tokenize", pb.TokenizeRequest(model="tiny", text="hello")),
                                ("Detokenize", pb.DetokenizeRequest(model="tiny", ids=[5, 6]))):
            call = getattr(self.stub(), method)
            futures = [call.future(request, timeout=60) for _ in range(5000)]
            self.assertEqual({future.code().name for future in futures}, {"OK"})

    def test_large_texts_take_the_memory_of_requests_until_they_are_tokens(self):
        self.daemon.forget_peak()
        before = self.daemon.rss_mib()
        request = pb.GenerateRequest(model="tiny", text="a b " * (15 << 18), stopping=pb.Stopping(max_new_tokens=2))
        futures = [self.stub().Generate.future(request, timeout=300) for _ in range(3)]
        limit = self.daemon.metric("quantd_request_memory_limit_bytes")
        used = []
        while not all(future.done() for future in futures):
            used.append(self.daemon.metric("quantd_request_memory_bytes"))
        for future in futures:
            self.assertIn(fixture.reason_of(future.exception())[:2], (
                ("INVALID_ARGUMENT", "CONTEXT_TOO_LONG"), ("RESOURCE_EXHAUSTED", "LIMIT"),
                ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY")))
        self.assertLess(self.daemon.peak_mib() - before, 650)  # 256 MiB of requests, and one at a time being tokenized
        self.assertGreater(max(used), 30 * MIB)  # of one that waits for another
        self.assertLess(max(used), limit + 32 * MIB)  # the one that finds no room is counted for a moment
        fixture.harness.wait_until(lambda: self.daemon.metric("quantd_request_memory_bytes") == 0, "they are let go")
        self.assert_serves()

    def test_lying_lengths_end_their_call_alone(self):
        good = hello().SerializeToString()
        for body in (b"\0\xff\xff\xff\xff" + good, b"\0\0\0\x10\0" + good, b"\0", b"\xff" + http2.message(good)[1:], b""):
            found = http2.call(self.daemon.address, http2.GENERATE, body, seconds=5)
            if found is not None:
                self.assertNotEqual(found["grpc-status"], "0")
        self.assert_serves()

    def test_messages_that_grow_when_parsed_are_refused(self):
        raw = self.channel().unary_unary(http2.GENERATE)
        tokenize = self.channel().unary_unary("/quantd.v1.Generation/Tokenize")
        health = self.channel().unary_unary(HEALTH)
        size = 16 * MIB - 64
        for call, what, body in (
                (raw, "chat.messages", field(5, b"\x0a\x00" * (size // 2))),
                (raw, "chat.tools", field(5, b"\x1a\x00" * (size // 2))),
                (raw, "stopping.stop", field(7, b"\x1a\x00" * (size // 2))),
                (raw, "stopping.stop_token_ids", field(7, field(4, b"\x01" * (size - 16)))),
                (raw, "tokens.ids", field(4, field(1, b"\x01" * (size - 16)))),
                (raw, "sampling.logit_bias", field(6, b"\x52\x00" * (size // 2))),
                (raw, "chat.template_args.fields", field(5, field(4, b"\x0a\x00" * (size // 2 - 8)))),
                (raw, "the request", b"\x7a\x00" * (size // 2)),  # no field of it
                (raw, "the request", b"\x58\x01" * (size // 2)),  # one flag, again and again
                (tokenize, "chat.messages", field(3, b"\x0a\x00" * (size // 2))),
                (health, "the request", b"\x12\x00" * (size // 2))):
            def attack(call=call, body=body, what=what):
                text = self.assert_refused(lambda: call(body, timeout=RPC_S), "RESOURCE_EXHAUSTED", "LIMIT")
                self.assertIn(what, text)
            self.assert_bounded(attack)

    def test_a_request_over_the_size_is_refused_by_its_length(self):
        self.assert_bounded(lambda: self.assert_refused(
            lambda: self.channel().unary_unary(http2.GENERATE)(bytes(17 * MIB), timeout=RPC_S),
            "RESOURCE_EXHAUSTED", ""))

    def test_strings_that_are_not_utf8_are_named(self):
        raw = self.channel().unary_unary(http2.GENERATE)
        text = self.assert_refused(lambda: raw(field(5, field(1, field(2, b"ab\xff"))), timeout=RPC_S),
                                   "INVALID_ARGUMENT", "FIELD_INVALID", ["chat.messages[0].content"])
        self.assertEqual(text, "chat.messages[0].content is not UTF-8 at byte 2")

    def test_deep_values_are_refused(self):
        tokenize = self.channel().unary_unary("/quantd.v1.Generation/Tokenize")

        def request(lists: int) -> bytes:
            value = field(3, b"x")
            for _ in range(lists):
                value = field(6, field(1, value))  # a Value of a list of one
            arguments = field(1, field(1, b"k") + field(2, value))
            return field(1, b"tiny") + field(3, field(1, field(1, b"user") + field(2, b"x")) + field(4, arguments))

        tokenize(request(20), timeout=RPC_S)
        text = self.assert_refused(lambda: tokenize(request(60), timeout=RPC_S), "INVALID_ARGUMENT", "FIELD_INVALID")
        self.assertIn("is nested more than 100 messages deep", text)

    def test_requests_of_other_services_are_bounded(self):
        health = self.channel().unary_unary(HEALTH, request_serializer=health_pb2.HealthCheckRequest.SerializeToString)
        self.assert_bounded(lambda: self.assert_refused(
            lambda: health(health_pb2.HealthCheckRequest(service="x" * (16 * MIB - 64)), timeout=RPC_S),
            "INVALID_ARGUMENT", "FIELD_INVALID", ["service"]))
        get = self.channel().unary_unary("/quantd.v1.Models/GetModel",
                                         request_serializer=models_pb2.GetModelRequest.SerializeToString)
        self.assert_bounded(lambda: self.assert_refused(
            lambda: get(models_pb2.GetModelRequest(name="x" * (16 * MIB - 64)), timeout=RPC_S),
            "NOT_FOUND", "MODEL_NOT_FOUND"))
