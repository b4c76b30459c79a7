"""Cuts the bytes of a connection into what a person calls a message: HTTP requests, responses, frames."""

from __future__ import annotations

import struct

from attrs import frozen

from protocol.websocket import apply_mask, build_frame, build_masked_frame

HEAD_END = b"\r\n\r\n"
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_KINDS = {
    0x0: "continuation",
    _TEXT: "text",
    _BINARY: "binary",
    _CLOSE: "close",
    _PING: "ping",
    _PONG: "pong",
}
OPCODES = {name: opcode for opcode, name in _KINDS.items()}
_SHOWN_BYTES = 16
_MASK = b"\x37\xfa\x21\x3d"


@frozen
class Unit:
    """One message on the wire.

    Attributes:
        kind: `request`, `response`, `text`, `binary`, `continuation`, `ping`, `pong`, `close`, or `bytes` for
            what is none of these.
        text: What a transcript shows.
        raw: The bytes it came as.
        payload: A frame's payload without its mask; a request or response as it is.
    """

    kind: str
    text: str
    raw: bytes
    payload: bytes


class WireReader:
    """Reads one direction of a connection; it never fails: what it cannot read is `bytes`.

    Attributes:
        frames: Whether it has gone over to WebSocket frames.
        switches: Whether a response said so.
    """

    def __init__(self) -> None:
        self.frames = False
        self.switches = False
        self._data = b""
        self._lost = False

    @property
    def pending(self) -> bytes:
        """The bytes of a message that has not come whole."""
        return self._data

    def feed(self, data: bytes) -> list[Unit]:
        """Take bytes; return the messages that are whole now."""
        self._data = self._data + data if self._data else data
        units: list[Unit] = []
        while self._data:
            unit = self._next()
            if unit is None:
                break
            units.append(unit)
            self._data = self._data[len(unit.raw) :]
        return units

    def _next(self) -> Unit | None:
        if self._lost:
            return Unit("bytes", show_bytes(self._data), self._data, self._data)
        if self.frames:
            return read_frame(self._data)
        return self._http()

    def _http(self) -> Unit | None:
        data = self._data
        end = data.find(HEAD_END)
        if end < 0:
            if b"\r\n" not in data[:8_192] and len(data) > 8_192:
                self._lost = True
            return None
        body_at = end + len(HEAD_END)
        first, *lines = data[:end].decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        if first.startswith("HTTP/"):
            return self._response(first, headers, body_at)
        method, _, rest = first.partition(" ")
        if not rest.endswith(("HTTP/1.1", "HTTP/1.0")):
            self._lost = True
            return self._next()
        length = _body_length(data, body_at, headers)
        if length is None or len(data) < body_at + length:
            return None
        if headers.get("upgrade", "").lower() == "websocket":
            self.frames = True
        body = show_text(_body(data[body_at : body_at + length], headers))
        text = f"{method} {rest[:-9]}" + (f" | {body}" if body else "")
        raw = data[: body_at + length]
        return Unit("request", text, raw, raw)

    def _response(self, first: str, headers: dict[str, str], body_at: int) -> Unit | None:
        data = self._data
        status = first.split(" ")[1]
        length: int | None = 0
        if status == "101":
            self.frames = self.switches = True
        elif status not in {"204", "304"}:
            length = _body_length(data, body_at, headers)
        if length is None or len(data) < body_at + length:
            return None
        body = show_text(_body(data[body_at : body_at + length], headers))
        raw = data[: body_at + length]
        return Unit("response", f"{status} {body}".rstrip(), raw, raw)


def _body_length(data: bytes, start: int, headers: dict[str, str]) -> int | None:
    """Return how long a body is with its framing; None if that cannot be told yet."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        at = start
        while (line := data.find(b"\r\n", at)) >= 0:
            try:
                size = int(data[at:line].split(b";")[0], 16)
            except ValueError:
                return len(data) - start
            at = line + 2 + size + 2
            if size == 0:
                return at - start
        return None
    try:
        return int(headers.get("content-length", "0"))
    except ValueError:
        return len(data) - start


def _body(data: bytes, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return data
    body = b""
    while data:
        line, _, rest = data.partition(b"\r\n")
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError:
            return body
        body += rest[:size]
        data = rest[size + 2 :]
    return body


def read_frame(data: bytes) -> Unit | None:
    """Read the frame that `data` begins with; None if it is not whole."""
    if len(data) < 2:
        return None
    first, second = data[0], data[1]
    size, at = second & 0x7F, 2
    if size == 126:
        if len(data) < 4:
            return None
        (size,), at = struct.unpack_from("!H", data, 2), 4
    elif size == 127:
        if len(data) < 10:
            return None
        (size,), at = struct.unpack_from("!Q", data, 2), 10
    mask = b""
    if second & 0x80:
        mask, at = data[at : at + 4], at + 4
    if len(data) < at + size:
        return None
    payload = data[at : at + size]
    if mask:
        payload = apply_mask(payload, mask)
    kind = _KINDS.get(first & 0x0F, "bytes")
    return Unit(kind, _describe(kind, payload), data[: at + size], payload)


def _describe(kind: str, payload: bytes) -> str:
    if kind == "text":
        return show_text(payload)
    if kind == "close":
        code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
        return f"close {code} {show_text(payload[2:])}".rstrip()
    return f"{kind} {show_bytes(payload)}"


def show_text(data: bytes) -> str:
    """Show text in one line: the separator of packets as a bar."""
    return data.decode("utf-8", "backslashreplace").replace("\x1e", " ␞ ").replace("\n", "\\n")


def show_bytes(data: bytes) -> str:
    """Show bytes by their number and how they begin."""
    more = "…" if len(data) > _SHOWN_BYTES else ""
    return f"<{len(data)} bytes {data[:_SHOWN_BYTES].hex(' ')}{more}>"


def write_frame(kind: str, payload: bytes, *, masked: bool, final: bool = True) -> bytes:
    """Build a frame.

    Args:
        kind: The name of its opcode, see `Unit`.
        payload: Its payload.
        masked: Whether a client sends it; the mask is always the same.
        final: The FIN bit.
    """
    opcode = (0x80 if final else 0) | OPCODES[kind]
    return build_masked_frame(opcode, payload, _MASK) if masked else build_frame(opcode, payload)
