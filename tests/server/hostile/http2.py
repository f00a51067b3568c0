"""HTTP/2 as an attacker writes it: frames by hand, headers without a library (RFC 9113, RFC 7541)."""
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CANCEL = 8
MAX_FRAME = 16384  # what every peer takes
SETTING_INITIAL_WINDOW = 4
GENERATE = "/quantd.v1.Generation/Generate"
GENERATE_STREAM = "/quantd.v1.Generation/GenerateStream"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def integer(value: int, prefix_bits: int, first: int = 0) -> bytes:
    """RFC 7541, 5.1."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes([first | value])
    out = bytearray([first | limit])
    value -= limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def literal(name: bytes, value: bytes) -> bytes:
    """A header that no table keeps, without Huffman codes (RFC 7541, 6.2.2)."""
    return b"\x00" + integer(len(name), 7) + name + integer(len(value), 7) + value


def request_headers(path: str, more: list[tuple[bytes, bytes]] = ()) -> bytes:
    headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"quantd"),
               (b"te", b"trailers"), (b"content-type", b"application/grpc"), *more]
    return b"".join(literal(name, value) for name, value in headers)


def message(payload: bytes, compressed: bool = False) -> bytes:
    """A gRPC message with its prefix."""
    return bytes([compressed]) + struct.pack(">I", len(payload)) + payload


def connect(address: str, timeout: float = 10) -> socket.socket:
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def open_connection(address: str, settings: bytes = b"") -> socket.socket:
    connection = connect(address)
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
    return connection


class Uploader:
    """Sends bodies on streams of one connection as fast as its peer's windows allow."""

    def __init__(self, connection: socket.socket, streams: list[int]):
        self.connection = connection
        self.window = {0: 65535, **dict.fromkeys(streams, 65535)}
        self.initial_window = 65535
        self.buffer = b""
        self.closed = False
        self.sent = 0  # bytes of bodies
        self.ended: dict[int, list[tuple[int, bytes]]] = {}  # stream: the frames that ended it

    def open(self, stream: int, headers: bytes) -> None:
        self.window[stream] = self.initial_window
        self._write(frame(HEADERS, END_HEADERS, stream, headers))

    def send(self, bodies: dict[int, bytes], end: bool, seconds: float) -> None:
        """Sends all of `bodies`, or what the windows allow in `seconds`; with `end` the streams are half-closed."""
        sent = dict.fromkeys(bodies, 0)
        deadline = time.monotonic() + seconds
        while not self.closed and time.monotonic() < deadline:
            waiting = [s for s in bodies if sent[s] < len(bodies[s]) and s not in self.ended]
            if not waiting:
                return
            progress = False
            for stream in waiting:
                size = min(MAX_FRAME, len(bodies[stream]) - sent[stream], self.window[0], self.window[stream])
                if size <= 0:
                    continue
                part = bodies[stream][sent[stream]:sent[stream] + size]
                sent[stream] += size
                last = end and sent[stream] == len(bodies[stream])
                self.sent += size
                self.window[0] -= size
                self.window[stream] -= size
                try:
                    self.connection.settimeout(5)
                    self.connection.sendall(frame(DATA, END_STREAM if last else 0, stream, part))
                except OSError:
                    self.closed = True
                    return
                progress = True
            self.receive(0.0005 if progress else 0.05)

    def receive(self, seconds: float) -> None:
        try:
            self.connection.settimeout(seconds)
            got = self.connection.recv(1 << 20)
        except TimeoutError:
            return
        except OSError:
            got = b""
        self.closed = self.closed or not got
        self.buffer += got
        while len(self.buffer) >= 9:
            size = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + size:
                return
            kind, flags, stream = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big")
            payload, self.buffer = self.buffer[9:9 + size], self.buffer[9 + size:]
            self._take(kind, flags, stream, payload)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE and stream in self.window:
            self.window[stream] += int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            for i in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[i:i + 6])
                if name == SETTING_INITIAL_WINDOW:
                    for s in self.window:
                        self.window[s] += value - self.initial_window if s else 0
                    self.initial_window = value
            self._write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._write(frame(PING, ACK, 0, payload))
        elif kind in (HEADERS, RST_STREAM):
            self.ended.setdefault(stream, []).append((kind, payload))

    def _write(self, data: bytes) -> None:
        try:
            self.connection.settimeout(5)
            self.connection.sendall(data)
        except OSError:
            self.closed = True


def call(address: str, path: str, body: bytes, more_headers: list[tuple[bytes, bytes]] = (), seconds: float = 20):
    """One unary call with `body` as it is sent on the wire. The response's headers and trailers as one dict, or None
    where no trailers came."""
    import hpack
    with open_connection(address) as connection:
        connection.sendall(frame(HEADERS, END_HEADERS, 1, request_headers(path, more_headers)))
        uploader = Uploader(connection, [1])
        if body:
            uploader.send({1: body}, end=True, seconds=seconds)
        else:
            connection.sendall(frame(DATA, END_STREAM, 1))
        decoder, found = hpack.Decoder(), {}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and "grpc-status" not in found:
            uploader.receive(0.1)
            for kind, payload in uploader.ended.pop(1, []):
                if kind == RST_STREAM:
                    return found or None
                found.update(decoder.decode(payload))
            if uploader.closed:
                break
        return found if "grpc-status" in found else None
