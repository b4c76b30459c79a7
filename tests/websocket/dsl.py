"""The words that the WebSocket cases are written in: what a tester sends, and what must come back."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

FULL = os.environ.get("BROKER_WEBSOCKET_CASES") == "full"
"""Whether the long form of the cases runs."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

Event = tuple[str, bytes]
"""`("text", payload)`, `("binary", payload)`, `("pong", payload)` or `("quiet", label)`."""


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        opcode: Opcode.
        payload: Payload, unmasked.
        final: The FIN bit.
        rsv: The three reserved bits.
        cuts: Where its payload is cut into pieces; after each piece but the last comes a `Quiet`.
    """

    opcode: int
    payload: bytes = b""
    final: bool = True
    rsv: int = 0
    cuts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Raw:
    """Bytes as they are."""

    data: bytes


@dataclass(frozen=True)
class Await:
    """Wait until this many events were recorded."""

    count: int


@dataclass(frozen=True)
class Quiet:
    """Wait a while; if the connection is still open then, record it under this label."""

    label: bytes


Step = Frame | Raw | Await | Quiet


@dataclass(frozen=True)
class Ending:
    """How the connection must end.

    Attributes:
        by: `tester`: it sends close 1000 when all events are there; `steps`: a close frame is among
            the steps; `server`: the server fails the connection.
        codes: Codes that the server may send; a close frame without a code always counts as one of them.
        drop: Whether the server may drop the connection without a close frame.
    """

    by: str
    codes: frozenset[int]
    drop: bool = False


NORMAL = Ending("tester", frozenset({1000}))
FAIL_1002 = Ending("server", frozenset({1002}))
FAIL_1007 = Ending("server", frozenset({1007}))
FAIL_1009 = Ending("server", frozenset({1009}))
BAD_CLOSE = Ending("server", frozenset({1002}), drop=True)


def answered(*codes: int) -> Ending:
    """The tester's close frame is answered with one of these codes, and the server closes."""
    return Ending("steps", frozenset(codes))


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        id: Group and number; our own additions have a plus sign.
        steps: What the tester does.
        events: What it must record.
        ending: How the connection ends.
        shape: `plain` sends all frames together, `frames` one by one, a number pieces of that many bytes.
        weaker: Records that are legal but weaker.
        slow: Whether it runs in the long form only.
    """

    id: str
    steps: Sequence[Step]
    events: Sequence[Event] = ()
    ending: Ending = NORMAL
    shape: str | int = "plain"
    weaker: Sequence[Sequence[Event]] = field(default=())
    slow: bool = False

    @property
    def group(self) -> int:
        """The number of its group."""
        return int(re.split(r"[.+]", self.id)[0])


def text(payload: bytes = b"", *, final: bool = True, rsv: int = 0, cuts: tuple[int, ...] = ()) -> Frame:
    """A text frame."""
    return Frame(TEXT, payload, final, rsv, cuts)


def binary(payload: bytes = b"", *, final: bool = True, rsv: int = 0) -> Frame:
    """A binary frame."""
    return Frame(BINARY, payload, final, rsv)


def more(payload: bytes = b"", *, final: bool = False) -> Frame:
    """A continuation frame."""
    return Frame(CONTINUATION, payload, final)


def ping(payload: bytes = b"", *, final: bool = True, rsv: int = 0) -> Frame:
    """A ping frame."""
    return Frame(PING, payload, final, rsv)


def pong(payload: bytes = b"", *, final: bool = True) -> Frame:
    """A pong frame."""
    return Frame(PONG, payload, final)


def close(code: int | None = None, reason: bytes = b"", *, rsv: int = 0) -> Frame:
    """A close frame; without a code its payload is only the reason."""
    return Frame(CLOSE, (b"" if code is None else code.to_bytes(2, "big")) + reason, rsv=rsv)


def fragments(payload: bytes, size: int = 1, opcode: int = TEXT) -> list[Step]:
    """A message in fragments of this size."""
    parts = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    last = len(parts) - 1
    return [
        Frame(opcode if index == 0 else CONTINUATION, part, index == last) for index, part in enumerate(parts)
    ]


def as_text(payload: bytes) -> Event:
    """The echo of a text message."""
    return ("text", payload)


def as_binary(payload: bytes) -> Event:
    """The echo of a binary message."""
    return ("binary", payload)


def as_pong(payload: bytes = b"") -> Event:
    """The answer to a ping."""
    return ("pong", payload)


def quiet(label: bytes) -> Event:
    """The connection was still open after a wait."""
    return ("quiet", label)
