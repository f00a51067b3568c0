#!/usr/bin/env python3
"""grpcio, sync. usage: grpcio_sync.py ADDRESS MODEL STUBS"""
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

import checks

address, model = checks.enter()
from google.rpc import error_details_pb2
from quantd.v1 import generation_pb2 as pb
from quantd.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc

channel = grpc.insecure_channel(address)
stub = generation_pb2_grpc.GenerationStub(channel)


def caught(call) -> grpc.RpcError:
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("no error")


def reflection():
    database = ProtoReflectionDescriptorDatabase(channel)
    checks.need(set(database.get_services()) == checks.SERVICES, database.get_services())
    for name in ("quantd.v1.GenerateRequest", "google.rpc.ErrorInfo", "grpc.health.v1.HealthListResponse"):
        database.FindFileContainingSymbol(name)
    return "v1alpha"


def health():
    health_stub = health_pb2_grpc.HealthStub(channel)
    check = health_stub.Check(health_pb2.HealthCheckRequest(), timeout=checks.LIMIT_S)
    statuses = health_stub.List(health_pb2.HealthListRequest(), timeout=checks.LIMIT_S).statuses
    checks.need(check.status == 1 and statuses[f"model:{model}"].status == 1, statuses)
    return f"Check, List ({len(statuses)} names)"


def error_details():
    error = caught(lambda: stub.Generate(checks.chat(pb, "none", 4), timeout=checks.LIMIT_S))
    checks.need(error.code() == grpc.StatusCode.NOT_FOUND, error)
    info = error_details_pb2.ErrorInfo()
    checks.need(any(detail.Unpack(info) for detail in rpc_status.from_call(error).details), error)
    return info.reason


def unbuilt():
    load = models_pb2_grpc.ModelsStub(channel).LoadModel(models_pb2.LoadModelRequest(), timeout=checks.LIMIT_S)
    error = caught(lambda: next(load))
    checks.need(error.code() == grpc.StatusCode.UNIMPLEMENTED and "not built" in error.details(), error)
    return error.details()[:40]


def cancel():
    call = stub.GenerateStream(checks.chat(pb, model, 4000, ignore_eos=True), timeout=checks.LIMIT_S)
    for event in call:
        if event.WhichOneof("event") == "delta":
            break
    call.cancel()
    error = caught(lambda: list(call))
    checks.need(error.code() == grpc.StatusCode.CANCELLED, error)


def deadline():
    error = caught(lambda: list(stub.GenerateStream(checks.chat(pb, model, 4000, ignore_eos=True), timeout=0.5)))
    checks.need(error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error)


def gzip():
    response = stub.Generate(checks.chat(pb, model, 4), compression=grpc.Compression.Gzip, timeout=checks.LIMIT_S)
    checks.need(response.usage.new_tokens > 0, response)


def tokenize():
    """The largest text whose whole answer is promised to fit a client of default settings."""
    response = stub.Tokenize(pb.TokenizeRequest(model=model, text="a1" * (1 << 18)), timeout=checks.LIMIT_S)
    checks.need(len(response.ids) == len(response.byte_offsets) and len(response.rendered) == 1 << 19, len(response.ids))
    return f"512 KiB: {len(response.ids)} ids in {response.ByteSize()} bytes"


checks.attempt("reflection", reflection)
checks.attempt("health", health)
checks.attempt("stream", lambda: checks.check_events(list(stub.GenerateStream(checks.chat(pb, model, 16), timeout=checks.LIMIT_S))))
checks.attempt("details", error_details)
checks.attempt("unbuilt", unbuilt)
checks.attempt("cancel", cancel)
checks.attempt("deadline", deadline)
checks.attempt("gzip", gzip)
checks.attempt("tokenize", tokenize)
