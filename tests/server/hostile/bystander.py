"""Reads streams of one daemon and notes when tokens come. Told by lines on standard input, answers in lines of JSON.

usage: bystander.py ADDRESS STUBS_FOLDER

start  answers when the first token has come
begin  forgets what was noted
end    the gaps between tokens since, in seconds, and the error that ended a stream, if one did
"""
import json
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import python_client


class Reader(threading.Thread):
    def __init__(self, address: str):
        super().__init__(daemon=True)
        import grpc
        from quantd.v1 import generation_pb2, generation_pb2_grpc
        self.grpc, self.pb = grpc, generation_pb2
        self.stub = generation_pb2_grpc.GenerationStub(grpc.insecure_channel(address))
        self.lock = threading.Lock()
        self.gaps: list[float] = []
        self.last = 0.0  # when the last token came
        self.error = ""
        self.first = threading.Event()

    def run(self) -> None:
        # One stream after another, each short: attention costs more with every token.
        request = self.pb.GenerateRequest(model="bystander", text="hello", sampling=self.pb.Sampling(temperature=0),
                                          stopping=self.pb.Stopping(max_new_tokens=400, ignore_eos=True),
                                          output=self.pb.OutputOptions(token_ids=True))
        while not self.error:
            try:
                for event in self.stub.GenerateStream(request):
                    if event.WhichOneof("event") != "delta":
                        continue
                    now = time.monotonic()
                    with self.lock:  # a stream's first token counts from the last of the stream before
                        self.gaps.append(now - self.last)
                        self.last = now
                    self.first.set()
            except self.grpc.RpcError as error:
                self.error = f"{error.code().name}: {error.details()}"
                self.first.set()


def main() -> None:
    python_client.use_stubs(pathlib.Path(sys.argv[2]))
    reader = Reader(sys.argv[1])
    reader.start()
    for line in sys.stdin:
        word = line.strip()
        answer = {}
        if word == "start":
            reader.first.wait()
        elif word == "begin":
            with reader.lock:
                reader.gaps.clear()
        else:
            with reader.lock:
                # With the one that has not ended yet: a stream that stands still has no others.
                answer = {"gaps": [*reader.gaps, time.monotonic() - reader.last], "error": reader.error}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
