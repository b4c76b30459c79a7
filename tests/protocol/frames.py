"""Frames as a client sends them, built without the code under test."""

from __future__ import annotations

from itertools import cycle

MASK = b"\x12\xa5\x5a\xff"


def client_frame(first: int, payload: bytes = b"", mask: bytes = MASK, width: int | None = None) -> bytes:
    """Build a masked frame; `width` forces the size of the length field (0, 2 or 8 bytes)."""
    size = len(payload)
    if width is None:
        width = 0 if size < 126 else 2 if size < 65536 else 8
    marker = {0: size, 2: 126, 8: 127}[width]
    head = bytes((first, 0x80 | marker)) + (size.to_bytes(width, "big") if width else b"")
    return head + mask + bytes(byte ^ key for byte, key in zip(payload, cycle(mask), strict=False))
