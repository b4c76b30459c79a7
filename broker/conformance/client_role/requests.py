"""The requests of a client under test: read by h11, answered when the situation says so."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import h11
import trio

from broker.conformance.transcript import RecordingStream

Headers = Iterable[tuple[str, str]]
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(slots=True)
class Request:
    """One request of a client.

    Attributes:
        method: HTTP method.
        path: Path without the query.
        query: Parameters; a repeated one has its last value.
        headers: Names in lower case.
        body: The body.
        arrived: When.
        stream: The connection, for a WebSocket.
        answer: What to send; set by `respond`.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    stream: trio.abc.Stream
    arrived: float = field(default_factory=trio.current_time)
    answer: bytes | None = None
    closes: bool = False
    done: trio.Event = field(default_factory=trio.Event)

    @property
    def wants_websocket(self) -> bool:
        """Whether it asks for a WebSocket."""
        return self.headers.get("upgrade", "").lower() == "websocket"

    @property
    def sid(self) -> str | None:
        """The session that it names."""
        return self.query.get("sid")

    def respond(
        self,
        status: int,
        body: bytes | str = b"",
        headers: Headers = (),
        content_type: str = "text/plain; charset=UTF-8",
    ) -> None:
        """Answer it; a second answer is not sent."""
        if self.answer is not None:
            return
        data = body.encode() if isinstance(body, str) else body
        lines = [
            f"HTTP/1.1 {status} X",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(data)}",
            "Cache-Control: no-store",
            *(f"{name}: {value}" for name, value in headers),
        ]
        self.answer = ("\r\n".join(lines) + "\r\n\r\n").encode() + data
        self.done.set()

    def drop(self) -> None:
        """Close its connection without an answer."""
        self.answer = b""
        self.closes = True
        self.done.set()

    async def accept_websocket(self) -> None:
        """Answer 101; the connection is a WebSocket from then on."""
        key = self.headers.get("sec-websocket-key", "").encode()
        accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
        self.answer = b""
        await self.stream.send_all(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )


async def read_requests(stream: RecordingStream, arrived: trio.MemorySendChannel[Request]) -> None:
    """Read the requests of one connection, one after another, until it closes or becomes a WebSocket."""
    reader = h11.Connection(h11.SERVER)
    try:
        while True:
            request = await _read_one(reader, stream)
            if request is None:
                return
            arrived.send_nowait(request)
            if request.wants_websocket:
                # Whoever takes it reads on; an answer other than 101 ends the connection.
                await request.done.wait()
                if request.answer:
                    await stream.send_all(request.answer)
                await stream.aclose()
                return
            await request.done.wait()
            if request.answer:
                await stream.send_all(request.answer)
            if request.closes:
                await stream.aclose()
                return
            rest = reader.trailing_data[0]
            reader = h11.Connection(h11.SERVER)
            if rest:
                reader.receive_data(rest)
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
        return


async def _read_one(reader: h11.Connection, stream: trio.abc.Stream) -> Request | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = reader.next_event()
        if event is h11.NEED_DATA:
            reader.receive_data(bytes(await stream.receive_some(65_536)))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            return None
    assert head is not None
    target = head.target.decode()
    path, _, query = target.partition("?")
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in head.headers}
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    return Request(head.method.decode(), path, pairs, headers, bytes(body), stream)
