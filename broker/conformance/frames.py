"""WebSocket frames of either side, right or wrong; the kit's own, so that it does not share a mistake."""

from __future__ import annotations

import struct
from typing import NamedTuple

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
MASK = b"\x37\xfa\x21\x3d"


class Frame(NamedTuple):
    """A frame as received."""

    opcode: int
    payload: bytes
    final: bool
    masked: bool
    rsv: int


def build(
    opcode: int, payload: bytes = b"", *, final: bool = True, mask: bytes | None = MASK, rsv: int = 0
) -> bytes:
    """Build a frame; `mask` None leaves the payload unmasked."""
    size = len(payload)
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
    return head + mask + unmask(payload, mask)


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Mask or unmask."""
    masked = bytearray(payload)
    for at in range(4):
        masked[at::4] = payload[at::4].translate(bytes(byte ^ mask[at] for byte in range(256)))
    return bytes(masked)


def take(data: bytearray) -> Frame | None:
    """Take the first whole frame out of a buffer; None if there is none yet."""
    if len(data) < 2:
        return None
    first, second = data[0], data[1]
    size, start = second & 0x7F, 2
    if size >= 126:
        start = 4 if size == 126 else 10
        if len(data) < start:
            return None
        size = int.from_bytes(data[2:start], "big")
    masked = bool(second & 0x80)
    mask_start = start
    start += 4 if masked else 0
    if len(data) < start + size:
        return None
    payload = bytes(data[start : start + size])
    if masked:
        payload = unmask(payload, bytes(data[mask_start:start]))
    del data[: start + size]
    return Frame(first & 0x0F, payload, bool(first & 0x80), masked, first >> 4 & 7)
