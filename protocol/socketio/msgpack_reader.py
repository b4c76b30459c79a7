"""Reads one MessagePack value out of untrusted bytes: within a depth, without holding more than they hold.

The decoder of the msgpack package does not do for all of them. It cannot tell `d4 00 00`, which notepack.io
(the library of the JavaScript parser) writes for undefined, from a buffer of one byte, nor a date from one of
eight; and it makes room for as many items as an array claims to have, at each level, before it has seen one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from struct import Struct, error
from typing import Any, Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_CONSTANTS: Final = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS: Final = {
    head: Struct(form)
    for head, form in zip(
        range(0xCA, 0xD4), (">f", ">d", ">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q"), strict=True
    )
}
# How many bytes say how long it is.
_BYTES: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_TEXTS: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAYS: Final = {0xDC: 2, 0xDD: 4}
_MAPS: Final = {0xDE: 2, 0xDF: 4}
_BUFFERS: Final = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED: Final = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_TIMESTAMP: Final = 0xFF  # -1
_NANOSECONDS: Final = 1_000_000_000


class TooDeep(ValueError):
    """Arrays and maps nest deeper than the limit."""


class NotText(ValueError):
    """A text is not UTF-8."""


def read(data: bytes, depth: int) -> Any:
    """Read the one value that `data` holds.

    Undefined is None; a Date and a timestamp are a datetime in UTC; buffers and typed arrays are bytes.

    Args:
        data: The whole value; costs time and memory in proportion to its length.
        depth: How deep arrays and maps may nest.

    Raises:
        TooDeep: They nest deeper.
        NotText: A text is not UTF-8.
        ValueError: It is anything else but one value, or has a map with keys that are not text, an extension
            type that is not known, or a date that is none.
    """
    reader = _Reader(data)
    try:
        value = reader.value(depth)
    except (IndexError, error):
        raise ValueError("it ends too early") from None
    except OverflowError:
        raise ValueError("no such date") from None
    if reader.at != len(data):
        raise ValueError("more than one value")
    return value


class _Reader:
    """Stands somewhere in the bytes."""

    __slots__ = ("_data", "at")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def value(self, depth: int) -> Any:
        head = self._data[self.at]
        self.at += 1
        if head < 0x80:
            return head
        if head >= 0xE0:
            return head - 0x100
        if head < 0x90:
            return self._map(head & 0x0F, depth)
        if head < 0xA0:
            return self._array(head & 0x0F, depth)
        if head < 0xC0:
            return self._text(head & 0x1F)
        if head in _NUMBERS:
            return self._number(_NUMBERS[head])
        if head in _CONSTANTS:
            return _CONSTANTS[head]
        return self._sized(head, depth)

    def _sized(self, head: int, depth: int) -> Any:
        if head in _TEXTS:
            return self._text(self._length(_TEXTS[head]))
        if head in _ARRAYS:
            return self._array(self._length(_ARRAYS[head]), depth)
        if head in _MAPS:
            return self._map(self._length(_MAPS[head]), depth)
        if head in _BYTES:
            return self._take(self._length(_BYTES[head]))
        if head in _BUFFERS:
            return self._extension(self._length(_BUFFERS[head]))
        if head in _FIXED:
            return self._fixed_extension(_FIXED[head])
        raise ValueError("not the first byte of a value")

    def _take(self, length: int) -> bytes:
        start = self.at
        self.at += length
        if self.at > len(self._data):
            raise IndexError
        return self._data[start : self.at]

    def _length(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _number(self, form: Struct) -> Any:
        start = self.at
        self.at += form.size
        return form.unpack_from(self._data, start)[0]

    def _text(self, length: int) -> str:
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise NotText from None

    def _array(self, count: int, depth: int) -> list[Any]:
        if depth == 0:
            raise TooDeep
        return [self.value(depth - 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict[str, Any]:
        if depth == 0:
            raise TooDeep
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self.value(depth - 1)
            if type(key) is not str:
                raise ValueError("a key is not text")
            found[key] = self.value(depth - 1)
        return found

    def _extension(self, length: int) -> Any:
        kind = self._data[self.at]
        self.at += 1
        data = self._take(length)
        return data if kind == 0 else _timestamp(kind, data)

    def _fixed_extension(self, length: int) -> Any:
        kind = self._data[self.at]
        self.at += 1
        data = self._take(length)
        if kind == 0 and length == 1:
            return None
        if kind == 0 and length == 8:
            return EPOCH + timedelta(milliseconds=int.from_bytes(data, "big", signed=True))
        return _timestamp(kind, data)


def _timestamp(kind: int, data: bytes) -> datetime:
    """Read the timestamp of the MessagePack specification, in its three sizes."""
    if kind != _TIMESTAMP or len(data) not in (4, 8, 12):
        raise ValueError("an unknown extension type")
    nanoseconds, seconds = 0, int.from_bytes(data[-8:], "big", signed=len(data) == 12)
    if len(data) == 8:
        nanoseconds, seconds = seconds >> 34, seconds & (1 << 34) - 1
    elif len(data) == 12:
        nanoseconds = int.from_bytes(data[:4], "big")
    if nanoseconds >= _NANOSECONDS:
        raise ValueError("no such date")
    return EPOCH + timedelta(seconds=seconds, microseconds=nanoseconds // 1_000)
