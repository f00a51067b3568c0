#!/usr/bin/env python3
"""grpcurl and `buf curl`, as programs. usage: command_line.py ADDRESS MODEL STUBS grpcurl|buf PROGRAM PROTOS"""
import base64
import json
import subprocess
import sys

import checks

address, model = checks.enter()
tool, program, protos = sys.argv[4:7]


def text(*command: str, stdin: bytes = b"") -> tuple[int, str]:
    done = subprocess.run([program, *command], input=stdin, capture_output=True, timeout=checks.LIMIT_S, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def request(new_tokens: int, name: str = model) -> str:
    return json.dumps({"model": name, "text": "A colour:", "sampling": {"temperature": 0}, "stopping": {"maxNewTokens": new_tokens}})


def objects(out: str) -> list[dict]:
    """JSON values one after another."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while out[at:].strip():
        at += len(out[at:]) - len(out[at:].lstrip())
        value, at = decoder.raw_decode(out, at)
        found.append(value)
    return found


def check_stream(out: str) -> str:
    kinds = [next(iter(event)) for event in objects(out)]
    checks.need(kinds[:2] == ["accepted", "prompt"] and kinds[-1] == "finished", out[:300])
    return f"{len(kinds)} events"


def grpcurl() -> None:
    def call(method: str, data: str = "{}", *flags: str):
        return text("-plaintext", *flags, "-d", data, address, method)

    def services():
        code, out = text("-plaintext", address, "list")
        checks.need(code == 0 and set(out.split()) == checks.SERVICES, out)
        return "v1alpha"

    def health():
        code, out = call("grpc.health.v1.Health/List")
        checks.need(code == 0 and json.loads(out)["statuses"][f"model:{model}"]["status"] == "SERVING", out)

    def details():
        code, out = call("quantd.v1.Generation/Generate", request(4, "none"))
        checks.need(code != 0 and '"reason":"MODEL_NOT_FOUND"' in out.replace(" ", ""), out)
        return "as JSON"

    def unbuilt():
        code, out = call("quantd.v1.Models/LoadModel")
        checks.need(code != 0 and "Unimplemented" in out and "not built yet" in out, out)

    def deadline():
        code, out = call("quantd.v1.Generation/GenerateStream", request(4000).replace('"maxNewTokens"', '"ignoreEos": true, "maxNewTokens"'),
                         "-max-time", "0.5")
        checks.need(code != 0 and "DeadlineExceeded" in out.replace("context deadline exceeded", "DeadlineExceeded"), out[-300:])

    checks.attempt("reflection", services)
    checks.attempt("health", health)
    checks.attempt("stream", lambda: check_stream(call("quantd.v1.Generation/GenerateStream", request(8))[1]))
    checks.attempt("details", details)
    checks.attempt("unbuilt", unbuilt)
    checks.attempt("deadline", deadline)


def buf() -> None:
    def call(method: str, data: str = "{}", *flags: str):
        return text("curl", "--http2-prior-knowledge", *flags, "-d", data, f"http://{address}/{method}")

    grpc = ("--protocol", "grpc")

    def reflection():
        for version in ("grpc-v1", "grpc-v1alpha"):
            code, out = call("grpc.health.v1.Health/Check", "{}", *grpc, "--reflect-protocol", version)
            checks.need(code == 0 and json.loads(out)["status"] == "SERVING", (version, out))
        return "v1, v1alpha"

    def health():
        code, out = call("grpc.health.v1.Health/List", "{}", *grpc)
        checks.need(code == 0 and json.loads(out)["statuses"][f"model:{model}"]["status"] == "SERVING", out)

    def details():
        _, out = call("quantd.v1.Generation/Generate", request(4, "none"), *grpc)
        error = json.loads(out)
        value = error["details"][0]["value"]
        checks.need(error["code"] == "not_found", error)
        code, out = text("convert", protos, "--type", error["details"][0]["type"], "--from", "-#format=binpb", "--to", "-#format=json",
                         stdin=base64.b64decode(value + "=" * (-len(value) % 4)))
        checks.need(code == 0 and json.loads(out)["reason"] == "MODEL_NOT_FOUND", out)
        return "base64, read by buf convert"

    def unbuilt():
        code, out = call("quantd.v1.Models/LoadModel", "{}", *grpc)
        checks.need(code != 0 and "not built yet" in out, out)

    def connect():
        """The Connect protocol is refused with what to say instead."""
        code, out = text("curl", "--schema", protos, f"http://{address}/grpc.health.v1.Health/Check")
        checks.need(code != 0 and "this port speaks gRPC" in out, out)
        return "refused: " + " ".join(out.split())[:80]

    checks.attempt("reflection", reflection)
    checks.attempt("health", health)
    checks.attempt("stream", lambda: check_stream(call("quantd.v1.Generation/GenerateStream", request(8), *grpc)[1]))
    checks.attempt("details", details)
    checks.attempt("unbuilt", unbuilt)
    checks.attempt("connect", connect)


{"grpcurl": grpcurl, "buf": buf}[tool]()
