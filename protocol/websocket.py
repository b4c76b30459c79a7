"""WebSocket frames of a server: whole data frames by hand, everything rarer through wsproto.

A complete, final, masked data frame is nearly all that ever arrives. It is cut and unmasked here in about a
microsecond; whether its text is UTF-8, the parser of that text finds out on the way. So are pings and pongs.
Close frames and fragments go, one complete frame at a time, to wsproto, which exists only while a fragmented
message is open.
Spec: WS-1 to WS-6, RFC 6455.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from .limits import Limits
from .reasons import CloseCode, Violation

TEXT = 0x81
BINARY = 0x82
CLOSE = 0x88
PING = 0x89
PONG = 0x8A

FRAMES_PER_FEED = 128
"""How many frames are read at once: a chunk of 64 KiB may hold eleven thousand."""

_MASKED = 0x80
_MAX_CONTROL_BYTES = 125
_MAX_REASON_BYTES = 123
_PLAIN = (TEXT, BINARY)
_HEARTBEATS = (PING, PONG)
_DATA_OPCODES = (0, 1, 2)
_CONTROL_OPCODES = (8, 9, 10)
_TABLE_FROM_BYTES = 1_024  # where tables become faster than integers
_XOR_TABLES = tuple(bytes(byte ^ key for byte in range(256)) for key in range(256))
_FRAMES = (None,) * FRAMES_PER_FEED  # to count them costs nothing this way
_to_int = int.from_bytes
_ILLEGAL_LENGTH = -256  # below what a frame without mask gives


class BinaryMessage(bytes):
    """The content of a binary message; text messages, the commonest kind, are plain `bytes`."""

    __slots__ = ()


class Control(IntEnum):
    """Which control frame."""

    CLOSE = CLOSE
    PING = PING
    PONG = PONG


@dataclass(frozen=True, slots=True)
class ControlFrame:
    """A control frame of the peer.

    Attributes:
        kind: Which one.
        payload: Its payload; for CLOSE the reason as UTF-8.
        code: Close code, for CLOSE; 1005 if it carried none.
    """

    kind: Control
    payload: bytes = b""
    code: int = 0


@dataclass(frozen=True, slots=True)
class FrameError:
    """The peer broke the framing; nothing after it is read."""

    violation: Violation
    close_code: int
    detail: str


Received: TypeAlias = bytes | ControlFrame | FrameError


def build_frame(opcode: int, payload: bytes) -> bytes:
    """Build one whole, unmasked frame; `opcode` includes the FIN bit. Spec: WS-2."""
    size = len(payload)
    if size < 126:  # nearly all; a call less on the way of every message
        return bytes((opcode, size)) + payload
    return _head(opcode, 0, size) + payload


def build_masked_frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """Build one frame of a client, masked by these four bytes. Spec: WS-3."""
    return _head(opcode, _MASKED, len(payload)) + mask + apply_mask(payload, mask)


def _head(opcode: int, flag: int, size: int) -> bytes:
    if size < 126:
        return bytes((opcode, flag | size))
    if size < 65536:
        return bytes((opcode, flag | 126)) + size.to_bytes(2, "big")
    return bytes((opcode, flag | 127)) + size.to_bytes(8, "big")


def build_close(code: int, reason: str = "") -> bytes:
    """Build a close frame; the reason is cut to what fits. Spec: WS-5."""
    text = reason.encode()[:_MAX_REASON_BYTES]
    # A cut may not leave half a character.
    text = text.decode(errors="ignore").encode()
    return build_frame(CLOSE, code.to_bytes(2, "big") + text)


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """Mask or unmask a payload: a short one as one XOR of two integers, a long one by tables."""
    size = len(payload)
    if size >= _TABLE_FROM_BYTES:
        masked = bytearray(size)
        for at in range(4):
            masked[at::4] = payload[at::4].translate(_XOR_TABLES[mask[at]])
        return bytes(masked)
    key = (mask * (size // 4 + 1))[:size]
    return (_to_int(payload, "little") ^ _to_int(key, "little")).to_bytes(size, "little")


class FrameReader:
    """Turns the bytes of one client into messages.

    Args:
        max_message_bytes: Bound on one message, fragments together.
        limits: Bounds on fragments.
        unread: Bytes that have come already.

    Attributes:
        unread: Bytes that hold frames which have not been read yet; empty if there are none.
    """

    __slots__ = (
        "_buffer",
        "_closed",
        "_done",
        "_fragments",
        "_max_bytes",
        "_max_fragments",
        "_need",
        "_start",
        "unread",
    )

    def __init__(self, max_message_bytes: int, limits: Limits, unread: bytes = b"") -> None:
        self.unread = unread
        self._start = 0
        self._max_bytes = max_message_bytes
        self._max_fragments = limits.fragments_per_message
        self._buffer: bytearray | None = None
        self._need = 0
        self._fragments: _Fragments | None = None
        self._done = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the peer has sent a close frame."""
        return self._closed

    @property
    def mid_frame(self) -> bool:
        """Whether a frame or a fragmented message has begun and is not complete."""
        return self._buffer is not None or self._fragments is not None

    def feed(self, data: bytes = b"") -> list[Received]:
        """Take bytes as they came; return what is complete.

        Text messages come as `bytes`, binary ones as `BinaryMessage`. After a close frame or a `FrameError`
        everything is ignored. At most `FRAMES_PER_FEED` frames are read: while something is `unread`, call
        this again.
        """
        received: list[Received] = []
        if self._done:
            return received
        at = 0
        if self.unread:
            data, self.unread = self.unread + data, b""
            at, self._start = self._start, 0
        elif self._buffer is not None:
            # Joined only when a frame is complete, so trickled input costs no more than whole.
            self._buffer += data
            if len(self._buffer) < self._need:
                return received
            data = bytes(self._buffer)
            self._buffer = None
        size = len(data)
        for _ in _FRAMES:
            if size - at < 2:
                break
            first = data[at]
            length = data[at + 1] - _MASKED
            start = at + 2
            if length >= 126:
                width, least = (2, 126) if length == 126 else (8, 65_536)
                if size - start < width:
                    break
                length = _to_int(data[start : start + width], "big")
                start += width
                if length < least or length >> 63:
                    length = _ILLEGAL_LENGTH
            plain = first in _PLAIN and self._fragments is None
            if not plain or not 0 <= length <= self._max_bytes:
                error = self._check_header(first, length)
                if error is not None:
                    received.append(error)
                    self._end()
                    return received
            end = start + 4 + length
            if end > size:
                self._wait(data[at:], end - at)
                return received
            if plain:
                payload = apply_mask(data[start + 4 : end], data[start : start + 4])
                received.append(payload if first == TEXT else BinaryMessage(payload))
            elif self._feed_rare(data[at:end], length, received):
                return received
            at = end
        else:
            if at < size:
                # Kept with its start, since to cut it each time would be quadratic.
                self.unread, self._start = data, at
            return received
        if at < size:
            # The header itself is short: any further byte may complete it.
            self._wait(data[at:], size - at + 1)
        return received

    def _wait(self, rest: bytes, need: int) -> None:
        self._buffer = bytearray(rest)
        self._need = need

    def _check_header(self, first: int, length: int) -> FrameError | None:
        """Refuse what cannot become legal, before its payload is waited for."""
        opcode = first & 0x0F
        if first & 0x70:
            return _broken("reserved bits are set")
        if opcode not in _DATA_OPCODES and opcode not in _CONTROL_OPCODES:
            return _broken("unknown opcode")
        if length == _ILLEGAL_LENGTH:
            return _broken("length is not in its shortest form, or above 2^63")
        if length < 0:
            return _broken("frame of a client is not masked")
        if opcode in _CONTROL_OPCODES:
            if not first & 0x80:
                return _broken("control frame is fragmented")
            if length > _MAX_CONTROL_BYTES:
                return _broken("control frame is longer than 125 bytes")
            return None
        if (opcode == 0) != (self._fragments is not None):
            return _broken("continuation out of place")
        held = self._fragments.size if self._fragments is not None else 0
        if held + length > self._max_bytes:
            return FrameError(
                Violation.MESSAGE_TOO_BIG,
                CloseCode.TOO_BIG,
                f"message is longer than {self._max_bytes} bytes",
            )
        return None

    def _end(self) -> None:
        """Read nothing more and hold nothing more."""
        self._done = True
        self._buffer = self._fragments = None

    def _feed_rare(self, frame: bytes, length: int, received: list[Received]) -> bool:
        """Let wsproto read one complete frame; tell whether the stream has ended with it.

        Pings and pongs are read by hand: their header has been checked, which is all there is to check, and a
        flood of them must cost no more than one of messages.
        """
        if frame[0] in _HEARTBEATS:
            received.append(ControlFrame(Control(frame[0]), apply_mask(frame[6:], frame[2:6])))
            return False
        fragments = self._fragments
        if fragments is None:
            fragments = _Fragments(self._max_fragments)
        outcome = fragments.feed(frame, length)
        self._fragments = fragments if fragments.is_open else None
        if outcome is None:
            return False
        received.append(outcome)
        self._closed = isinstance(outcome, ControlFrame) and outcome.kind is Control.CLOSE
        if self._closed or isinstance(outcome, FrameError):
            self._end()
        return self._done


class _Fragments:
    """One fragmented message, or a close frame."""

    __slots__ = ("_count", "_max_count", "_parts", "_protocol", "_text", "size")

    def __init__(self, max_count: int) -> None:
        self._protocol = FrameProtocol(client=False, extensions=[])
        self._max_count = max_count
        self._parts: list[bytes] = []
        self._count = 0
        self._text = False
        self.size = 0

    @property
    def is_open(self) -> bool:
        return self._count > 0

    def feed(self, frame_bytes: bytes, length: int) -> Received | None:
        self._protocol.receive_bytes(frame_bytes)
        try:
            frame = next(self._protocol.received_frames())
        except ParseFailed as error:
            return _failed(error)
        payload = frame.payload
        if isinstance(payload, tuple):
            code, reason = payload
            return ControlFrame(Control.CLOSE, (reason or "").encode(), int(code))
        # Counted as it came: of text, wsproto still holds a character that is cut in two.
        self.size += length
        return self._add(frame.opcode, payload, frame.message_finished)

    def _add(self, opcode: Opcode, payload: str | bytes, finished: bool) -> Received | None:
        if self._count == 0:
            self._text = opcode is Opcode.TEXT
        self._parts.append(payload.encode() if isinstance(payload, str) else bytes(payload))
        self._count += 1
        if self._count > self._max_count:
            return FrameError(
                Violation.TOO_MANY_FRAGMENTS,
                CloseCode.POLICY,
                f"message has more than {self._max_count} fragments",
            )
        if not finished:
            return None
        self._count = 0
        message = b"".join(self._parts)
        return message if self._text else BinaryMessage(message)


def _broken(detail: str) -> FrameError:
    return FrameError(Violation.BAD_FRAME, CloseCode.PROTOCOL_ERROR, detail)


def _failed(error: ParseFailed) -> FrameError:
    code = int(error.code)
    violation = Violation.BAD_TEXT if code == CloseCode.INVALID_TEXT else Violation.BAD_FRAME
    return FrameError(violation, code, str(error))
