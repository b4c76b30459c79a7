"""Peers that the tests speak to a real broker with: WebSocket, HTTP, long-polling, and bare bytes.

None of them uses code of the broker: trio-websocket and h11 stand on the other side. Every wait has a
deadline.
"""

from __future__ import annotations

import gc
import json
import os
import re
import ssl
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

import h11
import trio
from attrs import field, frozen
from trio.testing import wait_all_tasks_blocked
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from broker import Broker, Server
from broker.testing import Connector, open_harness
from broker.testing.harness import plain_errors
from broker.testing.network import HOST

DEADLINE = 5.0
"""Seconds after which a test that waits has failed."""

ENGINE_PATH = "/socket.io/?EIO=4"
SEPARATOR = "\x1e"
_WHY = re.compile(r"(?<![^\x1e])1\{[^\x1e]*$")

Headers = Iterable[tuple[str, str]]


# -- where ---------------------------------------------------------------------


@frozen
class Door:
    """Where a server is, and how to get in.

    Attributes:
        port: TCP port on `host`.
        host: TCP host, also the name in the Host header and in TLS.
        path: Unix socket; wins over host and port.
        ssl_context: For TLS.
        connector: The way in where there is no port; wins over all others.
    """

    port: int = 0
    host: str = "127.0.0.1"
    path: str | None = None
    ssl_context: ssl.SSLContext | None = None
    connector: Connector | None = None

    @property
    def authority(self) -> str:
        """The Host header."""
        return self.host if self.path else f"{self.host}:{self.port}"

    async def connect(self) -> trio.abc.Stream:
        """Open a stream to it."""
        with trio.fail_after(DEADLINE):
            if self.connector is not None:
                return await self.connector(self.host, self.port)
            if self.path is not None:
                return await trio.open_unix_socket(self.path)
            stream = await trio.open_tcp_stream(self.host, self.port)
            if self.ssl_context is None:
                return stream
            secure = trio.SSLStream(
                stream, self.ssl_context, server_hostname=self.host, https_compatible=True
            )
            await secure.do_handshake()
            return secure


Where = Door | Server | int


def door(where: Where) -> Door:
    """Take a port or a server as the way in to it on the loopback."""
    if isinstance(where, Door):
        return where
    return Door(where if isinstance(where, int) else where.port)


# -- HTTP ----------------------------------------------------------------------


@frozen
class Response:
    """An HTTP response; header names are in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    informational: list[int] = field(factory=list)

    def header(self, name: str) -> str | None:
        """Return the values of a header, joined; None if it is not there."""
        values = self.all(name)
        return ", ".join(values) if values else None

    def all(self, name: str) -> list[str]:
        """Return each value of a header."""
        return [value for known, value in self.headers if known == name.lower()]

    @property
    def text(self) -> str:
        """The body as text; of a CLOSE only the digit, see `told` for what stands behind it."""
        return _WHY.sub("1", self.body.decode())

    @property
    def told(self) -> Any:
        """What a CLOSE at the end of the body says of the end of the session."""
        found = _WHY.search(self.body.decode())
        return None if found is None else json.loads(found[0][1:])

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class HttpPeer:
    """One connection of an HTTP client, which may also send what no HTTP client would.

    Requests are plain bytes; responses are read by h11, one after another, so that pipelining works.
    """

    def __init__(self, stream: trio.abc.Stream, authority: str = "localhost") -> None:
        self.stream = stream
        self.authority = authority
        self._rest = b""

    @classmethod
    async def open(cls, where: Where) -> Self:
        """Connect."""
        way = door(where)
        return cls(await way.connect(), way.authority)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.abort()

    async def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        with trio.fail_after(DEADLINE):
            await self.stream.send_all(data)

    async def send(
        self, method: str, target: str, headers: Headers = (), body: bytes | str | None = None
    ) -> None:
        """Send one request, with Host and Content-Length unless `headers` have them."""
        given = {name.lower() for name, _ in headers}
        lines = [f"{method} {target} HTTP/1.1"]
        if "host" not in given:
            lines.append(f"Host: {self.authority}")
        data = body.encode() if isinstance(body, str) else body
        if data is not None and not given & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(data)}")
        lines += [f"{name}: {value}" for name, value in headers]
        await self.send_raw("\r\n".join([*lines, "", ""]).encode("latin-1") + (data or b""))

    async def receive(self, method: str = "GET") -> Response:
        """Read the response to the oldest unanswered request, which had this method."""
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        reader.send(h11.EndOfMessage())
        if self._rest:
            reader.receive_data(self._rest)
        response: h11.Response | None = None
        informational: list[int] = []
        body = bytearray()
        with trio.fail_after(DEADLINE):
            while True:
                event = reader.next_event()
                if event is h11.NEED_DATA:
                    reader.receive_data(await self.stream.receive_some())
                elif isinstance(event, h11.InformationalResponse):
                    informational.append(event.status_code)
                elif isinstance(event, h11.Response):
                    response = event
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    raise ConnectionResetError(f"the server closed without an answer: {event!r}")
        self._rest = reader.trailing_data[0]
        assert response is not None
        headers = [(name.decode().lower(), value.decode("latin-1")) for name, value in response.headers]
        return Response(response.status_code, headers, bytes(body), informational)

    async def request(
        self, method: str, target: str, headers: Headers = (), body: bytes | str | None = None
    ) -> Response:
        """Send one request and read its response."""
        await self.send(method, target, headers, body)
        return await self.receive(method)

    async def wait_closed(self) -> bytes:
        """Read until the server closes; return what came."""
        data = bytearray(self._rest)
        with trio.fail_after(DEADLINE):
            try:
                while more := await self.stream.receive_some():
                    data += more
            except trio.BrokenResourceError:
                pass
        return bytes(data)

    async def abort(self) -> None:
        """Close without a word."""
        await trio.aclose_forcefully(self.stream)


async def http(
    where: Where,
    method: str = "GET",
    target: str = "/",
    headers: Headers = (),
    body: bytes | str | None = None,
) -> Response:
    """Send one request over a connection of its own."""
    async with await HttpPeer.open(where) as peer:
        return await peer.request(method, target, headers, body)


# -- long-polling --------------------------------------------------------------


class PollingPeer:
    """A client on the polling transport; each request has a connection of its own.

    Attributes:
        sid: The session id.
        handshake: The object of the OPEN packet.
        opened: The response to the handshake.
    """

    def __init__(self, where: Where, opened: Response, path: str, headers: Headers) -> None:
        self.where = where
        self.opened = opened
        self.handshake: dict[str, Any] = json.loads(opened.text.split(SEPARATOR)[0].removeprefix("0"))
        self.sid: str = self.handshake["sid"]
        self.target = f"{path}&transport=polling&sid={self.sid}"
        self.headers = list(headers)
        self._waiting: list[str] = []

    @classmethod
    async def open(cls, where: Where, path: str = ENGINE_PATH, headers: Headers = ()) -> Self:
        """Open a session; `path` ends in a query without transport and sid."""
        opened = await http(where, "GET", f"{path}&transport=polling", headers)
        assert opened.status == 200, opened
        return cls(where, opened, path, headers)

    async def get(self) -> Response:
        """Send a GET and wait for its response."""
        return await http(self.where, "GET", self.target, self.headers)

    async def begin_get(self) -> HttpPeer:
        """Send a GET, and return its connection once the broker has had time to park it."""
        peer = await HttpPeer.open(self.where)
        await peer.send("GET", self.target, self.headers)
        await settled()
        return peer

    async def post(self, body: bytes | str, headers: Headers = ()) -> Response:
        """Send a POST."""
        return await http(self.where, "POST", self.target, [*self.headers, *headers], body)

    async def send(self, *packets: str) -> None:
        """Post packets as one payload."""
        response = await self.post(SEPARATOR.join(packets))
        assert (response.status, response.body) == (200, b"ok")

    async def packets(self) -> list[str]:
        """Send a GET; return the packets of its response."""
        response = await self.get()
        assert response.status == 200, response
        return response.text.split(SEPARATOR)

    async def receive(self) -> str:
        """Return the next packet, with as many GETs as that takes; pings are answered."""
        while True:
            if not self._waiting:
                self._waiting = await self.packets()
            packet = self._waiting.pop(0)
            if packet != "2":
                return packet
            await self.send("3")

    async def expect(self, text: str) -> None:
        """Receive this packet."""
        received = await self.receive()
        assert received == text

    async def join(self, namespace: str = "/", auth: Any = None) -> str:
        """Join a namespace; return the socket's id."""
        await self.send(connect_packet(namespace, auth))
        return joined_id(await self.receive(), namespace)

    async def status(self) -> int:
        """Send a POST of nothing but a noop; tells whether the session is there (200) or not (400)."""
        return (await self.post("6")).status


# -- WebSocket -----------------------------------------------------------------


class Closed(NamedTuple):
    """How a WebSocket was closed; 1006 is without a close frame."""

    code: int
    reason: str


class RawWebSocket:
    """A well-behaved WebSocket client by trio-websocket; answers Engine.IO pings unless told not to.

    Attributes:
        connection: The connection of trio-websocket.
        pongs: Whether `2` is answered with `3` and hidden from the test.
        handshake: The object of the OPEN packet, once `opened` was called.
    """

    def __init__(self, connection: WebSocketConnection, *, pongs: bool = True) -> None:
        self.connection = connection
        self.pongs = pongs
        self.handshake: dict[str, Any] = {}

    async def send_text(self, text: str) -> None:
        """Send a text message."""
        with trio.fail_after(DEADLINE):
            await self.connection.send_message(text)

    async def send_binary(self, data: bytes) -> None:
        """Send a binary message."""
        with trio.fail_after(DEADLINE):
            await self.connection.send_message(data)

    async def receive(self, deadline: float = DEADLINE) -> str | bytes:
        """Return the next message.

        Raises:
            ConnectionClosed: The server has closed.
            TooSlowError: Nothing came in time.
        """
        with trio.fail_after(deadline):
            while True:
                message: str | bytes = await self.connection.get_message()
                if message != "2" or not self.pongs:
                    return message
                await self.connection.send_message("3")

    async def expect(self, message: str | bytes) -> None:
        """Receive this message."""
        received = await self.receive()
        assert received == message

    async def expect_close(self, deadline: float = DEADLINE) -> Closed:
        """Wait for the end; any message but a ping before it is an error."""
        with trio.fail_after(deadline):
            while True:
                try:
                    message = await self.connection.get_message()
                except ConnectionClosed as closed:
                    if closed.reason is None:
                        return Closed(1006, "")
                    return Closed(closed.reason.code, closed.reason.reason or "")
                assert message == "2", f"got {message!r} instead of the end"

    async def opened(self) -> dict[str, Any]:
        """Receive the OPEN packet."""
        text = await self.receive()
        assert isinstance(text, str)
        assert text[0] == "0"
        self.handshake = json.loads(text[1:])
        return self.handshake

    async def join(self, namespace: str = "/", auth: Any = None) -> str:
        """Join a namespace; return the socket's id."""
        await self.send_text(connect_packet(namespace, auth))
        return joined_id(await self.receive(), namespace)

    async def emit(self, event: str, *args: Any) -> None:
        """Send an event without attachments to the default namespace."""
        await self.send_text("42" + json.dumps([event, *args], separators=(",", ":")))

    async def close(self) -> None:
        """Close with a close frame and wait for the answer."""
        with trio.fail_after(DEADLINE):
            await self.connection.aclose()

    async def abort(self) -> None:
        """Drop the TCP connection."""
        await trio.aclose_forcefully(self.connection._stream)


@asynccontextmanager
async def websocket(
    where: Where,
    path: str = ENGINE_PATH,
    *,
    sid: str | None = None,
    headers: Headers = (),
    pongs: bool = True,
    stream: trio.abc.Stream | None = None,
) -> AsyncIterator[RawWebSocket]:
    """Open a WebSocket; nothing is read from it yet.

    Args:
        where: The server; any, if there is a `stream`.
        path: Path and query, without transport and sid.
        sid: A session to upgrade.
        headers: More headers.
        pongs: Whether pings are answered.
        stream: An open connection to use.

    Raises:
        ConnectionRejected: The server has answered with an HTTP status.
    """
    way = door(where)
    resource = f"{path}&transport=websocket" + (f"&sid={sid}" if sid else "")
    extra = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    opened = stream or await way.connect()
    with plain_errors():
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(DEADLINE):
                    connection = await wrap_client_stream(
                        nursery, opened, way.authority, resource, extra_headers=extra, message_queue_size=100
                    )
                try:
                    yield RawWebSocket(connection, pongs=pongs)
                finally:
                    with trio.move_on_after(1, shield=True):
                        await connection.aclose()
                    nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(opened)


@asynccontextmanager
async def client(where: Where, namespace: str = "/", **options: Any) -> AsyncIterator[RawWebSocket]:
    """Open a WebSocket session and join a namespace."""
    async with websocket(where, **options) as peer:
        await peer.opened()
        await peer.join(namespace)
        yield peer


class Frame(NamedTuple):
    """A frame from the server."""

    opcode: int
    payload: bytes
    final: bool = True


TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def build_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    mask: bytes | None = b"\x11\x22\x33\x44",
    rsv: int = 0,
    length: int | None = None,
) -> bytes:
    """Build a frame, right or wrong.

    Args:
        opcode: Opcode.
        payload: Unmasked payload.
        final: The FIN bit.
        mask: Four bytes; None leaves the payload unmasked.
        rsv: The three reserved bits.
        length: The length to claim; None tells the truth.
    """
    size = len(payload) if length is None else length
    flag = 0x80 if mask is not None else 0
    head = bytes([(0x80 if final else 0) | rsv << 4 | opcode])
    if size < 126:
        head += bytes([flag | size])
    elif size < 1 << 16:
        head += struct.pack("!BH", flag | 126, size)
    else:
        head += struct.pack("!BQ", flag | 127, size)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


class BareWebSocket:
    """A WebSocket client on bare bytes: it may break every rule."""

    def __init__(self, peer: HttpPeer, answer: Response, rest: bytes) -> None:
        self.peer = peer
        self.answer = answer
        self._data = bytearray(rest)

    @classmethod
    async def open(
        cls,
        where: Where,
        path: str = ENGINE_PATH,
        *,
        sid: str | None = None,
        headers: Headers = (),
        extra: bytes = b"",
    ) -> Self:
        """Send a handshake with `extra` bytes behind it, and read the answer, which may be a refusal."""
        peer = await HttpPeer.open(where)
        target = f"{path}&transport=websocket" + (f"&sid={sid}" if sid else "")
        await peer.send_raw(upgrade_head(target, peer.authority, headers) + extra)
        return await cls.answered(peer)

    @classmethod
    async def answered(cls, peer: HttpPeer) -> Self:
        """Read the answer to a handshake; the rest of the connection is a WebSocket."""
        data = b""
        with trio.fail_after(DEADLINE):
            while b"\r\n\r\n" not in data:
                more = await peer.stream.receive_some()
                assert more, f"closed without an answer: {data!r}"
                data += more
        head, rest = data.split(b"\r\n\r\n", 1)
        status, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(": ") for line in lines]
        found = [(name.lower(), value) for name, _, value in pairs]
        return cls(peer, Response(int(status.split()[1]), found, rest), rest)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.peer.abort()

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self.peer.send_raw(data)

    async def send_frame(self, opcode: int, payload: bytes = b"", **how: Any) -> None:
        """Send one frame; see `build_frame`."""
        await self.send(build_frame(opcode, payload, **how))

    async def receive_frame(self) -> Frame | None:
        """Read one frame; None at the end of the stream."""
        if not await self._fill(2):
            return None
        first, size = self._data[0], self._data[1] & 0x7F
        start = {126: 4, 127: 10}.get(size, 2)
        assert await self._fill(start)
        if start > 2:
            size = int.from_bytes(self._data[2:start], "big")
        assert await self._fill(start + size)
        payload = bytes(self._data[start : start + size])
        del self._data[: start + size]
        return Frame(first & 0x0F, payload, bool(first & 0x80))

    async def expect_close(self) -> Closed:
        """Read to the end; return what the close frame said. Text before it is skipped."""
        closed = Closed(1006, "")
        while (frame := await self.receive_frame()) is not None:
            if frame.opcode == CLOSE and frame.payload:
                closed = Closed(int.from_bytes(frame.payload[:2], "big"), frame.payload[2:].decode())
            elif frame.opcode == CLOSE:
                closed = Closed(1005, "")
        return closed

    async def _fill(self, size: int) -> bool:
        with trio.fail_after(DEADLINE):
            while len(self._data) < size:
                try:
                    more = await self.peer.stream.receive_some()
                except trio.BrokenResourceError:
                    return False
                if not more:
                    return False
                self._data += more
        return True


def upgrade_head(target: str, authority: str = "localhost", headers: Headers = ()) -> bytes:
    """Build a right WebSocket handshake; `headers` replace its own, and an empty value leaves one out."""
    lines = {
        "host": authority,
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
    }
    for name, value in headers:
        lines[name.lower()] = value
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"GET {target} HTTP/1.1\r\n{text}\r\n".encode("latin-1")


# -- Socket.IO in three lines ---------------------------------------------------


def connect_packet(namespace: str = "/", auth: Any = None) -> str:
    """Write a CONNECT packet."""
    prefix = "" if namespace == "/" else namespace + ","
    return f"40{prefix}" + ("" if auth is None else json.dumps(auth, separators=(",", ":")))


def joined_id(packet: str | bytes, namespace: str = "/") -> str:
    """Read the socket id out of the answer to a CONNECT."""
    prefix = "40" if namespace == "/" else f"40{namespace},"
    assert isinstance(packet, str)
    assert packet.startswith(prefix + "{"), packet
    sid: str = json.loads(packet[len(prefix) :])["sid"]
    return sid


# -- the broker under test -------------------------------------------------------


def quick_broker(**options: Any) -> Broker:
    """Return a broker with a short heartbeat that echoes `echo` and acknowledges it."""
    broker = Broker(**{"ping_interval": 0.3, "ping_timeout": 0.2, **options})

    @broker.on("echo")
    async def echo(socket: Any, *args: Any) -> tuple[Any, ...]:
        socket.emit("echo", *args)
        return args

    return broker


@asynccontextmanager
async def serving(broker: Broker, **options: Any) -> AsyncIterator[Server]:
    """Serve on a free port for the block, and hold that nothing is left of it afterwards.

    Args:
        broker: The broker.
        options: Arguments of `Broker.serve`.
    """
    tasks = trio.lowlevel.current_statistics().tasks_living
    sockets = open_sockets()
    with plain_errors():
        async with trio.open_nursery() as nursery:
            options = {"host": "127.0.0.1", "port": 0, **options}
            start = {name: options.pop(name) for name in ("host", "port")}

            async def serve(task_status: trio.TaskStatus[Server]) -> None:
                await broker.serve(start["host"], start["port"], **options, task_status=task_status)

            server = await nursery.start(serve)
            try:
                yield server
            finally:
                nursery.cancel_scope.cancel()
    assert broker.statistics().sessions == 0
    await settled()
    assert trio.lowlevel.current_statistics().tasks_living == tasks, "tasks are left"
    gc.collect()  # tells of sockets that nobody closed
    assert open_sockets() == sockets, "sockets are left open"


@asynccontextmanager
async def serving_in_memory(broker: Broker) -> AsyncIterator[Door]:
    """Serve on a network in memory for the block, and hold that nothing is left of it afterwards."""
    async with open_harness(broker) as harness:
        yield Door(host=HOST, connector=harness.connector)


async def settled() -> None:
    """Wait until everybody in this process waits; on the loopback all that was sent has then been handled."""
    with trio.fail_after(DEADLINE):
        await wait_all_tasks_blocked(0.005)


async def until(condition: Any) -> None:
    """Wait until something becomes true in this process."""
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - there is nothing that could set an event
            await trio.sleep(0.001)


def open_sockets() -> int:
    """Count this process's open sockets."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except OSError:
            continue
    return count
