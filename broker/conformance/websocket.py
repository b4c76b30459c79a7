"""A WebSocket client on bare bytes: answers pings by itself, may break every rule, and sees how it ends."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import trio

from .cases import Deviation, Late, expect, expect_equal
from .frames import BINARY, CLOSE, PING, PONG, TEXT, build, take
from .http import Response, ResponseReader
from .packets import Event, connect_packet, event_packet, parse_connected, parse_event

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
DEADLINE = 4.0


class Closed(NamedTuple):
    """How a WebSocket ended; 1006 is without a close frame, 1005 with one that carried no code."""

    code: int
    reason: str


def upgrade_headers() -> list[tuple[str, str]]:
    """The headers of a right opening handshake."""
    return [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", KEY),
    ]


class WebSocketPeer:
    """One WebSocket, as a client.

    Attributes:
        stream: The connection.
        pongs: Whether `2` is answered with `3` and hidden from the case.
        answers_close: Whether a close frame is answered; if not, the end is that of the connection.
        answered: The answer to the opening handshake.
        open_packet: The object of OPEN.
        closed: How it ended, once it has.
        pings: When each `2` came.
        control: Control frames of the server, as opcode and payload.
    """

    def __init__(self, stream: trio.abc.Stream, *, pongs: bool = True) -> None:
        self.stream = stream
        self.pongs = pongs
        self.answers_close = True
        self.answered = Response(0, [], b"")
        self.open_packet: dict[str, Any] = {}
        self.closed: Closed | None = None
        self.pings: list[float] = []
        self.control: list[tuple[int, bytes]] = []
        self.problem: str | None = None
        self._buffer = bytearray()
        self._in, self._out = trio.open_memory_channel[str | bytes](math.inf)
        self._ended = trio.Event()
        self._control_seen = trio.Event()
        self._sending = trio.Lock()

    # Opening

    async def handshake(self) -> None:
        """Read the answer to the opening handshake."""
        reader = ResponseReader(self.stream)
        self.answered = await reader.receive()
        self._buffer += reader.rest

    def answered_101(self) -> None:
        """Raise `Deviation` unless the server agreed."""
        expect_equal(self.answered.status, 101, "status of the WebSocket handshake")

    async def opened(self) -> dict[str, Any]:
        """Take the OPEN packet."""
        self.answered_101()
        text = await self.text()
        expect(text.startswith("0{"), f"expected OPEN as the first message, got {text!r}")
        self.open_packet = json.loads(text[1:])
        return self.open_packet

    @property
    def sid(self) -> str:
        """The session id."""
        return str(self.open_packet["sid"])

    async def join(self, namespace: str = "/", auth: Any = None) -> str:
        """Join a namespace; returns the socket id. The `auth` event behind it is taken."""
        await self.send(connect_packet(namespace, auth))
        socket_id = parse_connected(await self.text(), namespace)
        event = await self.event()
        expect_equal((event.namespace, event.name), (namespace, "auth"), "first event of the fixture")
        return socket_id

    # Reading

    async def pump(self) -> None:
        """Read frames until the end; answers pings of both kinds."""
        try:
            while True:
                while (frame := take(self._buffer)) is not None:
                    if not await self._take(
                        frame.opcode, frame.payload, frame.final, frame.masked, frame.rsv
                    ):
                        return
                data = await self.stream.receive_some(65_536)
                if not data:
                    return
                self._buffer += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            if self.closed is None:
                self.closed = Closed(1006, "")
            self._in.close()
            self._ended.set()

    async def _take(self, opcode: int, payload: bytes, final: bool, masked: bool, rsv: int) -> bool:
        if masked or rsv or opcode not in (0, TEXT, BINARY, CLOSE, PING, PONG):
            self.problem = (
                f"a frame of the server breaks RFC 6455: opcode {opcode}, masked {masked}, rsv {rsv}"
            )
        if opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big") if payload else 1005
            self.closed = Closed(code, payload[2:].decode(errors="replace"))
            if not self.answers_close:
                return True
            await self._quietly(build(CLOSE, payload[:2]))
            return False
        if opcode in (PING, PONG):
            self.control.append((opcode, payload))
            self._control_seen.set()
            if opcode == PING:
                await self._quietly(build(PONG, payload))
            return True
        if opcode == BINARY:
            self._in.send_nowait(payload)
            return True
        text = payload.decode(errors="replace")
        if text == "2":
            self.pings.append(trio.current_time())
            if self.pongs:
                await self._quietly(build(TEXT, b"3"))
                return True
        self._in.send_nowait(text)
        return final or True

    async def _quietly(self, data: bytes) -> None:
        try:
            async with self._sending:
                await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def receive(self, within: float = DEADLINE) -> str | bytes:
        """Return the next message that is no answered ping.

        Raises:
            Late: None came in time.
            Deviation: The server closed.
        """
        with trio.move_on_after(within):
            try:
                return await self._out.receive()
            except trio.EndOfChannel:
                raise self._gone() from None
        raise Late(f"no message within {within:g} s")

    def _gone(self) -> Deviation:
        text = f"the server ended the connection: {self.closed}"
        # Pings were answered: either the machine was too busy for it, or the server cannot count.
        return Late(text) if self.closed == (1000, "ping timeout") else Deviation(text)

    async def text(self, within: float = DEADLINE) -> str:
        """Return the next message, which must be text."""
        message = await self.receive(within)
        if isinstance(message, bytes):
            raise Deviation(f"expected a text message, got binary {message[:40].hex(' ')}")
        return message

    async def binary(self, within: float = DEADLINE) -> bytes:
        """Return the next message, which must be binary."""
        message = await self.receive(within)
        if isinstance(message, str):
            raise Deviation(f"expected a binary message, got text {message[:100]!r}")
        return message

    async def expect(self, message: str | bytes, within: float = DEADLINE) -> None:
        """Receive this message."""
        expect_equal(await self.receive(within), message, "message")

    async def event(self, within: float = DEADLINE) -> Event:
        """Receive one event or ack with its attachments."""
        text = await self.text(within)
        event = parse_event(text)
        if event is None:
            raise Deviation(f"expected an event or ack, got {text!r}")
        event.attachments = [await self.binary() for _ in range(event.count)]
        return event

    async def control_frame(self, opcode: int) -> bytes:
        """Wait for a control frame of this kind and return its payload."""
        with trio.move_on_after(DEADLINE):
            while True:
                for seen in self.control:
                    if seen[0] == opcode:
                        self.control.remove(seen)
                        return seen[1]
                self._control_seen = trio.Event()
                await self._control_seen.wait()
        raise Late(f"no control frame {opcode} within {DEADLINE:g} s")

    async def silent(self, seconds: float) -> None:
        """Nothing but pings may come, and no end, for this long."""
        with trio.move_on_after(seconds):
            try:
                message = await self._out.receive()
            except trio.EndOfChannel:
                raise self._gone() from None
            raise Deviation(f"expected silence, got {message[:100]!r}")

    async def ended(self, within: float) -> Closed:
        """Wait for the end of the connection; messages on the way are left where they are.

        Raises:
            Late: It is still open; pings were answered, so no ping timeout would have ended it.
        """
        with trio.move_on_after(within) as scope:
            await self._ended.wait()
        if scope.cancelled_caught or self.closed is None:
            raise Late(f"not closed within {within * 1000:.0f} ms, while pings were answered")
        return self.closed

    async def expect_closed(self, code: int, reason: str | None, within: float) -> None:
        """Wait for a close frame with this code, and this reason if one is given."""
        closed = await self.ended(within)
        expect_equal(closed.code, code, f"close code (reason {closed.reason!r})")
        if reason is not None:
            expect_equal(closed.reason, reason, "close reason")

    # Writing

    async def send(self, message: str | bytes) -> None:
        """Send a message."""
        if isinstance(message, str):
            await self.raw(build(TEXT, message.encode()))
        else:
            await self.raw(build(BINARY, message))

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are; that the server has closed meanwhile is seen elsewhere."""
        await self._quietly(data)

    async def refused(self) -> None:
        """Send pong frames until the server has closed the connection, and not only its own side of it."""
        try:
            while True:
                await self.stream.send_all(build(PONG))
                await trio.sleep(0.02)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def trickle(self, data: bytes) -> None:
        """Send bytes one by one, and nothing between them."""
        async with self._sending:
            for at in range(len(data)):
                await self.stream.send_all(data[at : at + 1])
                await trio.sleep(0.001)

    async def emit(self, name: str, *args: Any, ack: int | None = None, namespace: str = "/") -> None:
        """Send an event without attachments."""
        await self.send(event_packet(name, args, ack, namespace))

    async def echo(self, *args: Any) -> None:
        """Hold that the session works: `message` comes back as `message-back`."""
        await self.emit("message", *args)
        event = await self.event()
        expect_equal((event.name, event.args), ("message-back", list(args)), "echo")

    async def call(self, name: str, *args: Any, ack: int = 7) -> list[Any]:
        """Send an event with an ack id and return what the ack carries."""
        await self.emit(name, *args, ack=ack)
        event = await self.event()
        expect_equal((event.kind, event.ack), (3, ack), "type and id of the ack")
        return event.data

    async def close(self) -> None:
        """Send a close frame."""
        await self.raw(build(CLOSE, (1000).to_bytes(2, "big")))
