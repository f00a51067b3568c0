"""When descriptors run out: it says so, and accepts again."""
import contextlib
import socket
import unittest

import fixture
import grpc
import harness
import http2
from fixture import RPC_S
from quantd.v1 import generation_pb2 as pb

LIMIT = 256


class Exhaustion(unittest.TestCase):
    def start(self, limit: int) -> harness.Daemon:
        daemon = harness.Daemon(fixture.binary, {"tiny": fixture.models / "tiny"},
                                shell=f"ulimit -n {limit}")
        self.addCleanup(daemon.close)
        return daemon

    def generate(self, channel: grpc.Channel, timeout: float = RPC_S) -> int:
        request = pb.GenerateRequest(text="hello", stopping=pb.Stopping(max_new_tokens=2))
        return fixture.generation_pb2_grpc.GenerationStub(channel).Generate(request, timeout=timeout).usage.new_tokens

    def test_it_accepts_again_after_descriptors_ran_out(self):
        daemon = self.start(LIMIT)
        with grpc.insecure_channel(daemon.address) as old:
            self.assertEqual(self.generate(old), 2)
            with contextlib.ExitStack() as held:
                for _ in range(LIMIT + 150):
                    try:
                        held.enter_context(http2.open_connection(daemon.address))
                    except OSError:
                        pass
                self.assertEqual(self.generate(old), 2)  # who is connected is served
                self.assertEqual(daemon.http("/livez")[0], 200)  # and the metrics port answers
                self.assertLessEqual(daemon.descriptors(), LIMIT)
                self.assert_readiness_is_true(daemon)

            def accepts() -> bool:
                with grpc.insecure_channel(daemon.address, [("grpc.use_local_subchannel_pool", 1)]) as new, \
                        contextlib.suppress(grpc.RpcError):
                    return self.generate(new, timeout=2) == 2
                return False

            harness.wait_until(accepts, "a new connection is served", 10)
            harness.wait_until(lambda: daemon.http("/readyz")[0] == 200, "it says that it is ready", 10)
            self.assertEqual(self.generate(old), 2)
        self.assertEqual(daemon.stop(), 0)

    def assert_readiness_is_true(self, daemon: harness.Daemon) -> None:
        """/readyz says 200 where a new connection gets an answer, and something else where not."""
        def truth() -> bool:
            with grpc.insecure_channel(daemon.address, [("grpc.use_local_subchannel_pool", 1)]) as new:
                try:
                    served = self.generate(new, timeout=2) == 2
                except grpc.RpcError:
                    served = False
            return (daemon.http("/readyz")[0] == 200) == served
        harness.wait_until(truth, "readiness says what is", 10)

    def test_the_metrics_port_may_run_full_too(self):
        daemon = self.start(LIMIT)
        host, port = daemon.metrics_address.rsplit(":", 1)
        with contextlib.ExitStack() as held:
            for _ in range(LIMIT + 150):
                with contextlib.suppress(OSError):
                    held.enter_context(socket.create_connection((host, int(port)), timeout=2))
            with grpc.insecure_channel(daemon.address) as channel:
                harness.wait_until(lambda: self.generate(channel) == 2, "requests are served", 10)
        harness.wait_until(lambda: daemon.http("/readyz")[0] == 200, "it answers", 10)
        self.assertEqual(daemon.stop(), 0)
