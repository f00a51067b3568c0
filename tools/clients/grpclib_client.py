#!/usr/bin/env python3
"""grpclib, which shares no code with gRPC's own. usage: grpclib_client.py ADDRESS MODEL STUBS"""
import asyncio

from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError

import checks

address, model = checks.enter()
import google.rpc.error_details_pb2  # grpclib decodes the details whose types are loaded
from quantd.v1 import generation_pb2 as pb
from quantd.v1 import models_pb2

host, port = address.rsplit(":", 1)


def run(action):
    async def with_channel():
        async with Channel(host, int(port)) as channel:
            return await action(channel)
    return lambda: asyncio.run(with_channel())


def generate(channel):
    return UnaryUnaryMethod(channel, "/quantd.v1.Generation/Generate", pb.GenerateRequest, pb.GenerateResponse)


def generate_stream(channel):
    return UnaryStreamMethod(channel, "/quantd.v1.Generation/GenerateStream", pb.GenerateRequest, pb.GenerateEvent)


async def caught(awaitable) -> GRPCError:
    try:
        await awaitable
    except GRPCError as error:
        return error
    raise AssertionError("no error")


async def stream(channel):
    return checks.check_events(await generate_stream(channel)(checks.chat(pb, model, 16), timeout=checks.LIMIT_S))


async def error_details(channel):
    error = await caught(generate(channel)(checks.chat(pb, "none", 4), timeout=checks.LIMIT_S))
    checks.need(error.status == Status.NOT_FOUND, error)
    info = [detail for detail in error.details if type(detail).__name__ == "ErrorInfo"]
    checks.need(len(info) == 1, error.details)
    return info[0].reason


async def unbuilt(channel):
    load = UnaryStreamMethod(channel, "/quantd.v1.Models/LoadModel", models_pb2.LoadModelRequest, models_pb2.LoadEvent)
    error = await caught(load(models_pb2.LoadModelRequest(), timeout=checks.LIMIT_S))
    checks.need(error.status == Status.UNIMPLEMENTED and "not built" in error.message, error)


async def cancel(channel):
    async with generate_stream(channel).open(timeout=checks.LIMIT_S) as call:
        await call.send_message(checks.chat(pb, model, 4000, ignore_eos=True), end=True)
        checks.need(await call.recv_message() is not None, "no event")
        await call.cancel()
    # The connection goes on.
    await stream(channel)


async def deadline(channel):
    try:
        await generate_stream(channel)(checks.chat(pb, model, 4000, ignore_eos=True), timeout=0.5)
    except (GRPCError, asyncio.TimeoutError) as error:
        checks.need(isinstance(error, asyncio.TimeoutError) or error.status == Status.DEADLINE_EXCEEDED, error)
        return
    raise AssertionError("no error")


checks.attempt("stream", run(stream))
checks.attempt("details", run(error_details))
checks.attempt("unbuilt", run(unbuilt))
checks.attempt("cancel", run(cancel))
checks.attempt("deadline", run(deadline))
