"""One session with a client under test, with the same verbs whatever transport it is on."""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any

import trio

from broker.conformance.cases import Deviation, Late, expect, expect_equal
from broker.conformance.frames import BINARY, CLOSE, PING, PONG, TEXT, build, take
from broker.conformance.packets import Event, parse_event

from .requests import Request

if TYPE_CHECKING:
    from .lab import ClientLab

DEADLINE = 5.0
Message = str | bytes


def _frame(packet: Message) -> bytes:
    if isinstance(packet, str):
        return build(TEXT, packet.encode(), mask=None)
    return build(BINARY, packet, mask=None)


def _polled(packet: Message) -> str:
    return packet if isinstance(packet, str) else "b" + base64.b64encode(packet).decode()


class ClientSession:
    """A session, as its server.

    Attributes:
        sid: Its id.
        transport: `polling` or `websocket`.
        probe: What to do with a WebSocket for this session: `accept`, `refuse`, `drop`, `hang` or `garble`.
        problems: What the client did wrong on the way, whatever the situation is about.
        posts: The bodies of its POST requests.
        gets: When each GET arrived.
        probed: Set when it tried to upgrade.
        switched: Set when it has upgraded.
        ended: Set when its WebSocket has ended, or it sent CLOSE.
        ended_at: When.
        control: Control frames of the client.
    """

    def __init__(self, lab: ClientLab, sid: str, *, pings: bool = True) -> None:
        self.lab = lab
        self.sid = sid
        self.transport = "polling"
        self.probe = "accept"
        self.problems: list[str] = []
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.gets: list[float] = []
        self.probed = trio.Event()
        self.switched = trio.Event()
        self.ended = trio.Event()
        self.ended_at = math.inf
        self.closed_code: int | None = None
        self.control: list[tuple[int, bytes]] = []
        self.pongs = 0
        self._pings = pings
        self._parked: Request | None = None
        self._waiting: list[Message] = []
        self._stream: trio.abc.Stream | None = None
        self._in, self._out = trio.open_memory_channel[Message](math.inf)

    # Start

    async def open(self, request: Request, **changes: Any) -> None:
        """Answer the handshake."""
        websocket = request.wants_websocket
        packet = {
            "sid": self.sid,
            "upgrades": [] if websocket else ["websocket"],
            "pingInterval": 25_000,
            "pingTimeout": 20_000,
            "maxPayload": 1_000_000,
            **changes,
        }
        text = "0" + json.dumps(packet, separators=(",", ":"))
        self.lab.sessions[self.sid] = self
        if websocket:
            self.transport = "websocket"
            await request.accept_websocket()
            self._stream = request.stream
            self.lab.start_soon(self._read_websocket, request.stream, True)
            await self.send(text)
        else:
            request.respond(200, text)

    # Requests of this session

    async def on_request(self, request: Request) -> None:
        """Take a request that names this session."""
        if request.wants_websocket:
            await self._on_probe(request)
        elif self.transport == "websocket":
            self.problems.append(f"{request.method} on polling after the upgrade")
            request.respond(400, '{"code":3,"message":"Bad request"}', content_type="application/json")
        elif request.method == "GET":
            self._on_get(request)
        elif request.method == "POST":
            self._on_post(request)
        else:
            self.problems.append(f"a {request.method} request on a session")
            request.respond(405)

    def _on_get(self, request: Request) -> None:
        self.gets.append(request.arrived)
        if self._parked is not None and self._parked.answer is None:
            self.problems.append("a second GET while one was parked (EIO-POLL-1)")
        self._parked = request
        self._flush()

    def _on_post(self, request: Request) -> None:
        self.posts.append((request.headers, request.body))
        try:
            text = request.body.decode()
        except UnicodeDecodeError:
            self.problems.append("the body of a POST is not UTF-8")
            text = ""
        for packet in text.split("\x1e"):
            self._on_packet(packet)
        request.respond(200, "ok", content_type="text/html")

    def _on_packet(self, packet: Message) -> None:
        if packet == "3":
            self.pongs += 1
        elif packet == "1":
            self._end()
        elif packet == "":
            self.problems.append("an empty packet")
        if isinstance(packet, str) and packet.startswith("b"):
            try:
                self._in.send_nowait(base64.b64decode(packet[1:], validate=True))
            except ValueError:
                self.problems.append(f"base64 that is not padded, or none: {packet[:40]!r} (EIO-PKT-4)")
            return
        self._in.send_nowait(packet)

    def _end(self) -> None:
        if not self.ended.is_set():
            self.ended_at = trio.current_time()
            self.ended.set()

    # Upgrade

    async def _on_probe(self, request: Request) -> None:
        self.probed.set()
        if self.probe == "refuse":
            request.respond(400, '{"code":3,"message":"Bad request"}', content_type="application/json")
        elif self.probe == "drop":
            request.drop()
        elif self.probe == "hang":
            return
        else:
            try:
                await request.accept_websocket()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the client gave the attempt up
            self.lab.start_soon(self._read_websocket, request.stream, False)

    async def _on_probing(self, stream: trio.abc.Stream, message: Message) -> bool:
        """Take a message of a probe; tell whether it has become the session's transport."""
        if message == "2probe":
            if self.probe == "garble":
                await stream.send_all(_frame("3nonsense"))
                return False
            await stream.send_all(_frame("3probe"))
            self.lab.start_soon(self._release)
        elif message == "5":
            await self._switch(stream)
            return True
        else:
            self.problems.append(f"{message!r} on the WebSocket before UPGRADE (EIO-UPG-6)")
        return False

    async def _switch(self, stream: trio.abc.Stream) -> None:
        """Make a WebSocket the session's transport; what waits goes first."""
        self.transport = "websocket"
        if self._parked is not None and self._parked.answer is None:
            self.problems.append("UPGRADE while a GET was parked (EIO-UPG-6)")
            self._parked.respond(200, "6")
        while self._waiting:
            # What the situation sends meanwhile waits too, so that the order stays.
            waiting, self._waiting = self._waiting, []
            await stream.send_all(b"".join(map(_frame, waiting)))
        self._stream = stream
        self.switched.set()

    async def _release(self) -> None:
        while self.transport == "polling":
            await trio.sleep(0.1)
            if self._parked is not None:
                self._parked.respond(200, "6")

    # WebSocket

    async def _read_websocket(self, stream: trio.abc.Stream, own: bool) -> None:
        buffer, parts = bytearray(), bytearray()
        try:
            while True:
                while (frame := take(buffer)) is not None:
                    if not frame.masked:
                        self.problems.append("a frame without a mask (WS-3)")
                    if frame.opcode == CLOSE:
                        self.closed_code = int.from_bytes(frame.payload[:2], "big") if frame.payload else 1005
                        await stream.send_all(build(CLOSE, frame.payload[:2], mask=None))
                        return
                    if frame.opcode in (PING, PONG):
                        self.control.append((frame.opcode, frame.payload))
                        continue
                    parts += frame.payload
                    if not frame.final:
                        continue
                    message: Message = bytes(parts) if frame.opcode == BINARY else parts.decode()
                    parts.clear()
                    if own:
                        self._on_own(message)
                    else:
                        own = await self._on_probing(stream, message)
                data = await stream.receive_some(65_536)
                if not data:
                    return
                buffer += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            if own:
                self._end()
            await trio.aclose_forcefully(stream)

    def _on_own(self, message: Message) -> None:
        if isinstance(message, bytes):
            self._in.send_nowait(message)
        else:
            self._on_packet(message)

    # Verbs of the situation

    async def send(self, *packets: Message) -> None:
        """Send packets; on polling as one payload, with the next GET if none is parked."""
        if self._stream is None:
            self._waiting += packets
            self._flush()
            return
        await self.raw(b"".join(map(_frame, packets)))

    async def raw(self, data: bytes) -> None:
        """Send bytes on the WebSocket."""
        assert self._stream is not None
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end()

    def _flush(self) -> None:
        if self._waiting and self._parked is not None and self._parked.answer is None:
            self._parked.respond(200, "\x1e".join(map(_polled, self._waiting)))
            self._waiting.clear()

    async def receive(self, within: float = DEADLINE) -> Message:
        """Return the next packet of the client but PONG."""
        with trio.move_on_after(within):
            while True:
                packet = await self._out.receive()
                if packet != "3":
                    return packet
        raise Late(f"no packet of the client within {within:g} s")

    async def event(self, within: float = DEADLINE) -> Event:
        """Return the next event or ack with its attachments."""
        packet = await self.receive(within)
        event = parse_event(packet) if isinstance(packet, str) else None
        if event is None:
            raise Deviation(f"expected an event or ack, got {packet!r}")
        for _ in range(event.count):
            attachment = await self.receive()
            if isinstance(attachment, str):
                raise Deviation(f"expected an attachment, got {attachment!r}")
            event.attachments.append(attachment)
        return event

    async def join(self) -> str:
        """Take CONNECT and accept it; returns what it carried."""
        packet = await self.receive()
        expect(isinstance(packet, str) and packet.startswith("40"), f"expected CONNECT first, got {packet!r}")
        await self.send(f'40{{"sid":"{self.lab.new_id()}"}}')
        return str(packet)[2:]

    async def echo(self, *args: Any) -> None:
        """Hold that the client works: `message` comes back as `message-back`."""
        await self.send("42" + json.dumps(["message", *args], separators=(",", ":")))
        event = await self.event()
        expect_equal((event.name, event.args), ("message-back", list(args)), "echo of the client")

    async def close(self) -> None:
        """End the session without DISCONNECT."""
        if self._stream is None:
            await self.send("1")
        else:
            await self.raw(build(CLOSE, (1001).to_bytes(2, "big"), mask=None))
        self.lab.sessions.pop(self.sid, None)

    async def expect_ended(self, within: float) -> None:
        """Wait for the client to end it: by a close frame, CLOSE, or the end of its requests."""
        if self.transport == "polling":
            # The next thing to come is a new handshake, or nothing.
            return
        with trio.move_on_after(within) as scope:
            await self.ended.wait()
        if scope.cancelled_caught:
            raise Late(f"the client has not ended the session within {within:g} s")

    def check(self) -> None:
        """Raise `Deviation` for what the client did wrong on the way."""
        if self.problems:
            raise Deviation("; ".join(self.problems))
