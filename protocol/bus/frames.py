"""Frames between the processes of one server: length, kind, content."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

_HEAD = struct.Struct("!IB")


class FrameKind(IntEnum):
    """What is in a frame."""

    HELLO = 0  # who sends: JSON
    ROOMS = 1  # rooms that have come to be here, or are here no more: JSON
    MESSAGE = 2  # a cluster message
    GAP = 3  # how much could not be sent before this: JSON


class FrameTooLong(ValueError):
    """A frame is longer than it may be."""


def write_frame(kind: FrameKind, content: bytes) -> bytes:
    """Write one frame."""
    return _HEAD.pack(len(content), kind) + content


class FrameSplitter:
    """Cuts a stream of bytes into frames.

    Args:
        max_bytes: How long the content of one may be.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take what has been received; yield kind and content of each frame that is complete.

        Raises:
            FrameTooLong: A frame announces more than it may.
        """
        self._data += data
        at = 0
        try:
            while len(self._data) - at >= _HEAD.size:
                length, kind = _HEAD.unpack_from(self._data, at)
                if length > self._max_bytes:
                    raise FrameTooLong(f"a frame is {self._max_bytes} bytes at most, not {length}")
                end = at + _HEAD.size + length
                if len(self._data) < end:
                    return
                content = bytes(self._data[at + _HEAD.size : end])
                at = end
                yield kind, content
        finally:
            del self._data[:at]
