"""Chat templates that take as long as they may: the programs of one model, on threads that all models share."""
import concurrent.futures
import time

import fixture
import grpc
import harness
import tiny_model
from fixture import RPC_S
from quantd.v1 import generation_pb2 as pb

# Each ran for minutes while a step was 64 bytes, whatever was done to them.
SLOW = {
    "case": "{% set s = 'A' * 4000000 %}{% for i in range(10000) %}{% set t = s | lower %}{% endfor %}",
    "list": "{% set s = 'A b ' * 100000 %}{% for i in range(100000) %}{% set t = s.split() | sort %}{% endfor %}",
    "loops": "{% for i in range(100000) %}{% for j in range(100000) %}{% set t = i %}{% endfor %}{% endfor %}",
}
GIVEN_UP_S = 0.3
STOPPED_S = 10  # of a daemon that waits for no template; its drain would take 30 s


def chat(model: str) -> pb.GenerateRequest:
    return pb.GenerateRequest(model=model, chat=pb.Chat(messages=[pb.ChatMessage(role="user", content="hi")]))


class Templates(fixture.WithDaemon):
    models = ("tiny", *SLOW)

    @classmethod
    def setUpClass(cls) -> None:
        for name, source in SLOW.items():
            tiny_model.make(fixture.models / name, chat_template=source)

    def flood(self, stub, pool: concurrent.futures.Executor, times: int) -> list[concurrent.futures.Future]:
        def one(model: str) -> str:
            try:
                stub.Generate(chat(model), timeout=GIVEN_UP_S)
            except grpc.RpcError as error:
                return error.code().name
            return "OK"
        return [pool.submit(one, model) for _ in range(times) for model in SLOW]

    def test_a_slow_template_holds_up_no_other_model(self):
        stub = self.stub()
        request = pb.GenerateRequest(model="tiny", text="hello", stopping=pb.Stopping(max_new_tokens=2))
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            ends = self.flood(stub, pool, 8)
            slowest = max(fixture.seconds(lambda: stub.Generate(request, timeout=RPC_S)) for _ in range(20))
            self.assertLessEqual({end.result() for end in ends}, {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})
        self.assertLess(slowest, 2)  # seconds, of milliseconds; a thread that is held is held for 6 and more
        self.assert_serves()

    def test_a_shutdown_waits_for_no_template(self):
        daemon = harness.Daemon(fixture.binary, {name: fixture.models / name for name in self.models})
        self.addCleanup(daemon.close)
        stub = self.stub(daemon)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            ends = self.flood(stub, pool, 4)
            began = time.monotonic()
            self.assertEqual(daemon.stop(), 0)
            self.assertLess(time.monotonic() - began, STOPPED_S)
            self.assertNotIn("OK", {end.result() for end in ends})
