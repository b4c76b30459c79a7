"""Plays one case as a WebSocket client and judges it: strict, non-strict or failed."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from enum import StrEnum

import trio

from tests.peers import DEADLINE, Door, HttpPeer, Where, door, upgrade_head

from .dsl import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Await, Case, Event, Frame, Quiet, Raw, Step

_MASK = b"\x37\xfa\x21\x3d"
_PAUSE_BETWEEN_FRAMES = 0.002
_QUIET = 0.05  # how long nothing must come for a connection to count as open
_KINDS = {TEXT: "text", BINARY: "binary", PING: "ping", PONG: "pong"}
_OPEN_EVENT, _CLOSE_EVENT = b'42["echo","', b'"]'


class Verdict(StrEnum):
    """What a case has shown."""

    STRICT = "strict"
    NON_STRICT = "non-strict"
    FAILED = "failed"


@dataclass
class Record:
    """What was seen of the server.

    Attributes:
        events: Messages, pongs and quiet waits, in order.
        code: The code of its close frame; 1005 without one, None if there was no close frame.
        first: Whether it sent a close frame before the tester did, or dropped the connection.
        ended: Whether it has closed the connection.
    """

    events: list[Event]
    code: int | None = None
    first: bool = False
    ended: bool = False


def encode(frame: Frame) -> bytes:
    """Build a masked frame."""
    size = len(frame.payload)
    head = bytes([(0x80 if frame.final else 0) | frame.rsv << 4 | frame.opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65_536:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    key = (_MASK * (size // 4 + 1))[:size]
    masked = int.from_bytes(frame.payload, "big") ^ int.from_bytes(key, "big")
    return head + _MASK + masked.to_bytes(size, "big")


class Player:
    """One connection, one case.

    Args:
        stream: A connection whose handshake is done.
        case: The case.
        in_session: Whether texts travel as the argument of an event.
    """

    def __init__(self, stream: trio.abc.Stream, case: Case, *, in_session: bool) -> None:
        self._stream = stream
        self._case = case
        self._in_session = in_session
        self._data = bytearray()
        self._changed = trio.Event()
        self._closing = False
        self._in_text = False
        self.record = Record([])

    async def run(self) -> Record:
        """Play the case to its end."""
        deadline = DEADLINE * (20 if self._case.slow else 1)
        with trio.fail_after(deadline):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                await self._play()
                while not self.record.ended:
                    await self._wait_change()
                nursery.cancel_scope.cancel()
        return self.record

    async def _play(self) -> None:
        try:
            for piece in self._pieces():
                if isinstance(piece, bytes):
                    await self._stream.send_all(piece)
                else:
                    await self._pause(piece)
            if self._case.ending.by == "tester":
                await self._await_events(len(self._case.events))
                self._closing = True
                await self._stream.send_all(encode(Frame(CLOSE, b"\x03\xe8")))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the server has failed the connection meanwhile

    async def _pause(self, step: Await | Quiet | None) -> None:
        if step is None:
            await trio.sleep(_PAUSE_BETWEEN_FRAMES)
        elif isinstance(step, Await):
            await self._await_events(step.count)
        elif not self.record.ended and self.record.code is None:
            with trio.move_on_after(_QUIET):
                while not self.record.ended and self.record.code is None:
                    await self._wait_change()
                return
            self._note((Quiet.__name__.lower(), step.label))

    def _pieces(self) -> list[bytes | Await | Quiet | None]:
        """Cut what is to be sent the way the case says."""
        pieces: list[bytes | Await | Quiet | None] = []
        together = b""
        for step in self._case.steps:
            parts = self._encoded(step)
            for part in parts:
                if isinstance(part, bytes) and self._case.shape == "plain":
                    together += part
                    continue
                if together:
                    pieces.append(together)
                    together = b""
                pieces += self._shaped(part)
        return [*pieces, together] if together else pieces

    def _shaped(self, part: bytes | Await | Quiet) -> list[bytes | Await | Quiet | None]:
        shape = self._case.shape
        if isinstance(part, bytes) and isinstance(shape, int):
            return [part[at : at + shape] for at in range(0, len(part), shape)]
        return [part, None] if isinstance(part, bytes) else [part]

    def _encoded(self, step: Step) -> list[bytes | Await | Quiet]:
        if isinstance(step, (Await, Quiet)):
            return [step]
        if isinstance(step, Raw):
            return [step.data]
        if step.opcode == CLOSE and not step.rsv:
            self._closing = True
        frame, shift = self._in_event(step) if self._in_session else (step, 0)
        data = encode(frame)
        start = len(data) - len(frame.payload) + shift
        parts: list[bytes | Await | Quiet] = []
        for label, cut in zip((b"A", b"B", b"C"), step.cuts, strict=False):
            done = sum(len(part) for part in parts if isinstance(part, bytes))
            parts += [data[done : start + cut], Quiet(label)]
        done = sum(len(part) for part in parts if isinstance(part, bytes))
        return [*parts, data[done:]]

    def _in_event(self, frame: Frame) -> tuple[Frame, int]:
        """Put the text of a message between what makes an event of it."""
        payload, shift = frame.payload, 0
        if frame.opcode == TEXT:
            payload = b"".join(b"\\u%04x" % octet if octet < 32 else bytes([octet]) for octet in payload)
            payload, shift = _OPEN_EVENT + payload, len(_OPEN_EVENT)
            self._in_text = True
        if frame.opcode in (TEXT, CONTINUATION) and frame.final and self._in_text:
            payload += _CLOSE_EVENT
            self._in_text = False
        return Frame(frame.opcode, payload, frame.final, frame.rsv), shift

    # What comes back

    async def _read(self) -> None:
        try:
            while data := await self._stream.receive_some(1 << 18):
                self._data += data
                while self._take_frame():
                    pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        if self.record.code is None and not self._closing:
            self.record.first = True
        self.record.ended = True
        self._wake()

    def _take_frame(self) -> bool:
        data = self._data
        if len(data) < 2:
            return False
        size, start = data[1], 2
        assert size < 128, "a server must not mask"
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            return False
        assert data[0] & 0xF0 == 0x80, "a frame of the server is whole, without reserved bits"
        opcode, payload = data[0] & 0x0F, bytes(data[start : start + size])
        del data[: start + size]
        if opcode == CLOSE:
            self.record.code = int.from_bytes(payload[:2], "big") if payload else 1005
            self.record.first = not self._closing
            # Once the server has failed the connection, how long it waits for an answer is its own affair.
            self.record.ended = self.record.first or self._case.ending.by == "server"
            self._wake()
        elif self._in_session and opcode == TEXT:
            name, value = json.loads(payload.removeprefix(b"42"))
            assert name == "echo"
            self._note(("text", value.encode()))
        else:
            self._note((_KINDS[opcode], payload))
        return True

    def _note(self, event: Event) -> None:
        self.record.events.append(event)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _wait_change(self) -> None:
        await self._changed.wait()

    async def _await_events(self, count: int) -> None:
        while len(self.record.events) < count and not self.record.ended:
            await self._wait_change()


def judge(case: Case, record: Record) -> tuple[Verdict, str]:
    """Compare a record with what the case asks for; the text says what was wrong."""
    ending = case.ending
    if ending.by == "server":
        allowed = ending.codes | {1005} | ({None} if ending.drop else set())
        if record.code not in allowed:
            return Verdict.FAILED, f"closed with {record.code}"
        # Where the tester closes itself and wrongly so, the code alone tells that the server has noticed.
        if not record.first and not any(isinstance(s, Frame) and s.opcode == CLOSE for s in case.steps):
            return Verdict.FAILED, "the server has not noticed"
    elif record.first or record.code not in ending.codes | {1005}:
        return Verdict.FAILED, f"not closed cleanly: {record.code}, by the server first: {record.first}"
    if record.events == list(case.events):
        return Verdict.STRICT, ""
    if record.events in [list(one) for one in case.weaker]:
        return Verdict.NON_STRICT, ""
    seen = [(kind, payload[:40]) for kind, payload in record.events[:12]]
    return Verdict.FAILED, f"saw {seen}"


async def connect(where: Where, target: str) -> tuple[trio.abc.Stream, bytes]:
    """Open a WebSocket; return its stream and what came behind the handshake."""
    way: Door = door(where)
    peer = HttpPeer(await way.connect(), way.authority)
    if isinstance(peer.stream, trio.SocketStream):
        peer.stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await peer.send_raw(upgrade_head(target, peer.authority))
    data = b""
    with trio.fail_after(DEADLINE):
        while b"\r\n\r\n" not in data:
            data += await peer.stream.receive_some(1)
    assert data.startswith(b"HTTP/1.1 101 "), data
    return peer.stream, data.partition(b"\r\n\r\n")[2]


async def play(where: Where, case: Case, target: str = "/") -> tuple[Verdict, str]:
    """Play a case against an echo endpoint."""
    stream, _ = await connect(where, target)
    try:
        return judge(case, await Player(stream, case, in_session=False).run())
    finally:
        await trio.aclose_forcefully(stream)
