"""Commands to a Redis server, as bytes."""

from __future__ import annotations

from collections.abc import Sequence

Part = bytes | str | int


def write_command(parts: Sequence[Part]) -> bytes:
    """Write one command: an array of bulk strings. Text is UTF-8, numbers are decimal."""
    written = [b"*%d\r\n" % len(parts)]
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        written.append(b"$%d\r\n" % len(data))
        written.append(data)
        written.append(b"\r\n")
    return b"".join(written)
