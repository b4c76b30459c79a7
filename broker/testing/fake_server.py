"""A scripted server: a test of a client says what it answers, packet by packet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import trio

from protocol.http_head import accept_websocket

from .peers import PATIENCE, WebSocketPeer
from .wire import HEAD_END, Unit, WireReader

_WAITING = 100
OPEN = {
    "sid": "SESSION",
    "upgrades": [],
    "pingInterval": 25_000,
    "pingTimeout": 20_000,
    "maxPayload": 1_000_000,
}


class FakeConnection(WebSocketPeer):
    """The server's end of one WebSocket of a client."""

    async def open(self, **changed: Any) -> None:  # type: ignore[override] # this end opens by a packet
        """Send OPEN, with these fields changed."""
        await self.send("0", {**OPEN, **changed})

    async def enter(self, sid: str = "SOCKET", **data: Any) -> Any:
        """Send OPEN, let the client into `/`, and return the auth of its CONNECT."""
        await self.open()
        _, auth = _split_connect(await self.receive())
        await self.send("40", {"sid": sid, **data})
        return auth


class FakeRequest:
    """An HTTP request of a client that waits for its answer.

    Attributes:
        method: GET or POST.
        target: Path and query.
        body: What it carries.
    """

    def __init__(self, unit: Unit, stream: trio.abc.Stream) -> None:
        head, _, self.body = unit.raw.partition(HEAD_END)
        self.method, self.target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ", 2)
        self._stream = stream
        self.answered = trio.Event()

    async def respond(
        self, body: bytes | str = b"", status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer it."""
        data = body.encode() if isinstance(body, str) else body
        lines = {
            "Content-Length": str(len(data)),
            "Content-Type": "text/plain; charset=UTF-8",
            **(headers or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        await self._stream.send_all(f"HTTP/1.1 {status} Answer\r\n{head}\r\n".encode() + data)
        self.answered.set()

    async def drop(self) -> None:
        """Close its connection without an answer."""
        await trio.aclose_forcefully(self._stream)
        self.answered.set()


class FakeServer:
    """Waits for clients and does nothing by itself.

    Serve it with `network.listen(fake.serve)`, or `open_harness(fake)`.
    """

    def __init__(self) -> None:
        self._put_socket, self._sockets = trio.open_memory_channel[FakeConnection](_WAITING)
        self._put_request, self._requests = trio.open_memory_channel[FakeRequest](_WAITING)

    async def accept(self) -> FakeConnection:
        """Return the next WebSocket that a client opens."""
        with trio.move_on_after(PATIENCE):
            return await self._sockets.receive()
        raise AssertionError(f"no client opened a WebSocket in {PATIENCE:g} s")

    async def request(self) -> FakeRequest:
        """Return the next HTTP request of a client that is no WebSocket."""
        with trio.move_on_after(PATIENCE):
            return await self._requests.receive()
        raise AssertionError(f"no client sent a request in {PATIENCE:g} s")

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection until the client or the test closes it."""
        reader = WireReader()
        async with stream:
            while data := bytes(await stream.receive_some()):
                for unit in reader.feed(data):
                    if reader.frames:
                        await self._serve_websocket(unit, reader.pending, stream)
                        return
                    request = FakeRequest(unit, stream)
                    await self._put_request.send(request)
                    await request.answered.wait()

    async def _serve_websocket(self, unit: Unit, rest: bytes, stream: trio.abc.Stream) -> None:
        answer = accept_websocket(unit.raw, ())
        if not isinstance(answer, bytes):
            raise AssertionError(f"the client's handshake is wrong: {unit.text}")
        await stream.send_all(answer)
        closed = _Watched(stream)
        await self._put_socket.send(FakeConnection(closed, rest, masked=False))
        await closed.ended.wait()


class _Watched(trio.abc.Stream):
    """Tells when it has ended, so that the connection is held until then."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.ended = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self._stream.receive_some(max_bytes))
        if not data:
            self.ended.set()
        return data

    async def aclose(self) -> None:
        self.ended.set()
        await self._stream.aclose()


def _split_connect(packet: str | bytes) -> tuple[str, Any]:
    if not isinstance(packet, str) or not packet.startswith("40"):
        raise AssertionError(f"expected a CONNECT, but there came {packet!r}")
    return "40", orjson.loads(packet[2:]) if len(packet) > 2 else None
