"""When memory runs out while it serves: the request that asks for it ends, those beside it go on, the daemon lives.

gRPC's core and abseil abort where a small allocation of their own fails, so the limit leaves room for those; a message
of a few KiB that is 15 MiB long once it is decompressed asks the daemon itself for more than there is.
"""
import pathlib
import resource
import threading
import unittest

import fixture
import grpc
import harness
from fixture import RPC_S
from quantd.v1 import generation_pb2 as pb

ROOM = 12 << 20  # bytes of address space beyond what it has mapped
LONG = "a " * ((15 << 20) // 2)
ROUNDS = 4


class Memory(unittest.TestCase):
    def limit(self, pid: int, room: int | None) -> None:
        """Of its address space, which is what `ulimit -v` bounds; None: no limit."""
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        mapped = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmSize:"))
        soft = resource.RLIM_INFINITY if room is None else mapped + room
        resource.prlimit(pid, resource.RLIMIT_AS, (soft, resource.RLIM_INFINITY))

    def test_a_request_ends_and_others_go_on(self):
        daemon = harness.Daemon(fixture.binary, {"tiny": fixture.models / "tiny"})
        self.addCleanup(daemon.close)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(daemon.address, options) as channel, grpc.insecure_channel(daemon.address, options) as other:
            stub, neighbour = (fixture.generation_pb2_grpc.GenerationStub(c) for c in (channel, other))
            self.assertEqual([self.stream(s) for s in (stub, neighbour)], [60, 60])
            self.limit(daemon.process.pid, ROOM)
            over, tokens = threading.Event(), []

            def bystander() -> None:
                while not over.is_set():
                    tokens.append(self.stream(neighbour))
            beside = threading.Thread(target=bystander)
            beside.start()
            try:
                found = [self.told(stub) for _ in range(ROUNDS)]
            finally:
                over.set()
                beside.join()
            self.assertTrue(daemon.alive(), f"it ended with {daemon.process.poll()}:\n{daemon.log()[-3000:]}")
            self.assertEqual(found, [("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY")] * ROUNDS)
            self.assertEqual(set(tokens), {60})
            self.limit(daemon.process.pid, None)
            self.assertNotEqual(self.told(stub)[1], "OUT_OF_MEMORY")
        harness.wait_until(lambda: daemon.metric("quantd_requests_running") == 0, "nothing runs")
        self.assertEqual(daemon.metric("quantd_kv_blocks", 'state="used"'), 0)
        self.assertEqual(daemon.http("/readyz")[0], 200)
        # Its orderly end is not part of this: docs/operations.md says why.

    @staticmethod
    def stream(stub) -> int:
        """How many tokens came."""
        request = pb.GenerateRequest(text="hello", stopping=pb.Stopping(max_new_tokens=60, ignore_eos=True))
        *_, last = stub.GenerateStream(request, timeout=RPC_S)
        return last.finished.usage.new_tokens

    @staticmethod
    def told(stub) -> tuple[str, str]:
        try:
            stub.Generate(pb.GenerateRequest(text=LONG), timeout=RPC_S, compression=grpc.Compression.Gzip)
            return "OK", ""
        except grpc.RpcError as error:
            return fixture.reason_of(error)[:2]
