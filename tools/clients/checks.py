"""What the Python clients share: the requests, the stubs, and how a check is told."""
import json
import pathlib
import sys
import traceback

LIMIT_S = 120  # for what takes milliseconds on a free machine
SERVICES = {"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
            "quantd.v1.Control", "quantd.v1.Diffusion", "quantd.v1.Generation", "quantd.v1.Models"}


def enter() -> tuple[str, str]:
    """The daemon's address and the model's name. Generated code, below STUBS, joins the packages of the libraries."""
    address, model, stubs = sys.argv[1:4]
    sys.path.insert(0, stubs)
    import google
    google.__path__.append(str(pathlib.Path(stubs) / "google"))
    return address, model


def tell(check: str, good: bool, note: str = "") -> None:
    print(json.dumps({"check": check, "ok": bool(good), "note": note}), flush=True)


def attempt(check: str, action) -> None:
    """`action` gives what to note, or raises."""
    try:
        tell(check, True, action() or "")
    except Exception as error:  # whatever a client may raise is what the table must show
        traceback.print_exc()
        tell(check, False, f"{type(error).__name__}: {error}"[:200])


def need(condition: bool, what) -> None:
    if not condition:
        raise AssertionError(what)


def chat(pb, model: str, new_tokens: int, ignore_eos: bool = False):
    message = pb.ChatMessage(role="user", content="Name one colour of the rainbow.")
    return pb.GenerateRequest(model=model, chat=pb.Chat(messages=[message]), sampling=pb.Sampling(temperature=0),
                              stopping=pb.Stopping(max_new_tokens=new_tokens, ignore_eos=ignore_eos))


def check_events(events) -> str:
    kinds = [event.WhichOneof("event") for event in events]
    need(kinds[:2] == ["accepted", "prompt"] and kinds[-2:] == ["output_end", "finished"], kinds)
    return "".join(event.delta.text for event in events if event.WhichOneof("event") == "delta").strip()[:40]


def reason_of(details: bytes) -> str:
    from google.rpc import error_details_pb2, status_pb2
    status, info = status_pb2.Status(), error_details_pb2.ErrorInfo()
    status.ParseFromString(details)
    need(any(detail.Unpack(info) for detail in status.details), status)
    return info.reason
