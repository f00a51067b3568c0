"""What the tests of this folder share: the daemon's program, the small models, clients."""
import pathlib
import time
import unittest

import grpc
import harness
import tiny_model
from google.rpc import error_details_pb2, status_pb2
from quantd.v1 import generation_pb2 as pb
from quantd.v1 import generation_pb2_grpc

binary = ""
stubs = pathlib.Path()
models = pathlib.Path()
RPC_S = 20  # for what takes milliseconds on a free machine
MAX_SEND = 64 << 20


def begin(quantd: str, stubs_folder: pathlib.Path, models_folder: pathlib.Path) -> None:
    global binary, stubs, models
    binary, stubs, models = quantd, stubs_folder, models_folder
    # Of a size whose step takes about a millisecond, so that a stream of it is work like a user's.
    tiny_model.make(models / "bystander", hidden=256, inner=1024, layers=6, context=2048)
    tiny_model.make(models / "tiny")


def reason_of(error: grpc.RpcError) -> tuple[str, str, list[str]]:
    """Code, reason and fields of an error."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    reason, fields = "", []
    for any_ in status_pb2.Status.FromString(details).details if details else []:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if any_.Unpack(info):
            reason = info.reason
        elif any_.Unpack(bad):
            fields += [violation.field for violation in bad.field_violations]
    return error.code().name, reason, fields


class WithDaemon(unittest.TestCase):
    """One daemon for the tests of a class; a new one after a test that ended it."""
    models = ("bystander",)
    arguments: tuple[str, ...] = ()
    daemon: harness.Daemon | None = None

    def setUp(self) -> None:
        cls = type(self)
        if cls.daemon is None or not cls.daemon.alive():
            if cls.daemon is not None:
                cls.daemon.close()
            cls.daemon = harness.Daemon(binary, {name: models / name for name in self.models}, *self.arguments)

    @classmethod
    def tearDownClass(cls) -> None:
        if cls.daemon is None:
            return
        status = cls.daemon.stop()
        cls.daemon.close()
        cls.daemon = None
        assert status == 0, f"quantd serve ended with {status} on SIGTERM"

    def channel(self, daemon: harness.Daemon | None = None) -> grpc.Channel:
        channel = grpc.insecure_channel((daemon or self.daemon).address, options=[
            ("grpc.max_send_message_length", MAX_SEND), ("grpc.max_receive_message_length", MAX_SEND),
            ("grpc.use_local_subchannel_pool", 1)])
        self.addCleanup(channel.close)
        return channel

    def stub(self, daemon: harness.Daemon | None = None) -> generation_pb2_grpc.GenerationStub:
        return generation_pb2_grpc.GenerationStub(self.channel(daemon))

    def assert_serves(self, daemon: harness.Daemon | None = None, limit_s: float = RPC_S) -> None:
        """It lives, says that it is ready, and is: a new connection gets an answer."""
        daemon = daemon or self.daemon
        self.assertTrue(daemon.alive(), f"the daemon ended with {daemon.process.poll()}:\n{daemon.log()[-2000:]}")
        request = pb.GenerateRequest(model=self.models[0], text="hello", stopping=pb.Stopping(max_new_tokens=2))
        self.assertEqual(self.stub(daemon).Generate(request, timeout=limit_s).usage.new_tokens, 2)
        self.assertEqual(daemon.http("/livez")[0], 200)
        self.assertEqual(daemon.http("/readyz")[0], 200)

    def assert_refused(self, call, code: str, reason: str, fields: list[str] | None = None) -> str:
        """Its message."""
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        found = reason_of(caught.exception)
        self.assertEqual(found[:2], (code, reason), caught.exception.details())
        if fields is not None:
            self.assertEqual(found[2], fields)
        return caught.exception.details()


def seconds(work) -> float:
    begin_ = time.monotonic()
    work()
    return time.monotonic() - begin_
