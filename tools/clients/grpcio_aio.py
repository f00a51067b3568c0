#!/usr/bin/env python3
"""grpcio, asyncio. usage: grpcio_aio.py ADDRESS MODEL STUBS"""
import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import checks

address, model = checks.enter()
from quantd.v1 import generation_pb2 as pb
from quantd.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc


def run(action):
    """An event loop and a channel of its own for each check."""
    async def with_channel():
        async with grpc.aio.insecure_channel(address) as channel:
            return await action(channel)
    return lambda: asyncio.run(with_channel())


async def caught(awaitable) -> grpc.aio.AioRpcError:
    try:
        await awaitable
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("no error")


async def events(call):
    return [event async for event in call]


async def health(channel):
    statuses = (await health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest(), timeout=checks.LIMIT_S)).statuses
    checks.need(statuses[f"model:{model}"].status == 1, statuses)


async def stream(channel):
    stub = generation_pb2_grpc.GenerationStub(channel)
    return checks.check_events(await events(stub.GenerateStream(checks.chat(pb, model, 16), timeout=checks.LIMIT_S)))


async def error_details(channel):
    stub = generation_pb2_grpc.GenerationStub(channel)
    error = await caught(stub.Generate(checks.chat(pb, "none", 4), timeout=checks.LIMIT_S))
    checks.need(error.code() == grpc.StatusCode.NOT_FOUND, error)
    return checks.reason_of(dict(error.trailing_metadata())["grpc-status-details-bin"])


async def unbuilt(channel):
    load = models_pb2_grpc.ModelsStub(channel).LoadModel(models_pb2.LoadModelRequest(), timeout=checks.LIMIT_S)
    error = await caught(events(load))
    checks.need(error.code() == grpc.StatusCode.UNIMPLEMENTED and "not built" in error.details(), error)


async def cancel(channel):
    stub = generation_pb2_grpc.GenerationStub(channel)
    call = stub.GenerateStream(checks.chat(pb, model, 4000, ignore_eos=True), timeout=checks.LIMIT_S)
    await call.read()
    checks.need(call.cancel(), "was over already")
    checks.need(await call.code() == grpc.StatusCode.CANCELLED, await call.code())


async def deadline(channel):
    stub = generation_pb2_grpc.GenerationStub(channel)
    error = await caught(events(stub.GenerateStream(checks.chat(pb, model, 4000, ignore_eos=True), timeout=0.5)))
    checks.need(error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error)


async def gzip(channel):
    stub = generation_pb2_grpc.GenerationStub(channel)
    response = await stub.Generate(checks.chat(pb, model, 4), compression=grpc.Compression.Gzip, timeout=checks.LIMIT_S)
    checks.need(response.usage.new_tokens > 0, response)


checks.attempt("health", run(health))
checks.attempt("stream", run(stream))
checks.attempt("details", run(error_details))
checks.attempt("unbuilt", run(unbuilt))
checks.attempt("cancel", run(cancel))
checks.attempt("deadline", run(deadline))
checks.attempt("gzip", run(gzip))
