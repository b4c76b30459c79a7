"""Values on the bus: JSON or MessagePack, written as the nodes of a JavaScript cluster write them."""

from __future__ import annotations

from typing import Any

import orjson

from protocol.jsontext import load
from protocol.socketio.msgpack import new_date, pack_value, read_value


class _HasBytesError(Exception):
    """There are bytes in a value that was to become JSON."""


def pack(value: Any) -> bytes:
    """Write a value as MessagePack; dates as its timestamps, None in all its places.

    Raises:
        TypeError: Something in it has no form.
    """
    return pack_value(value, value, new_date)


def dump(value: Any) -> bytes:
    """Write a value as JSON, bytes as Node writes a Buffer.

    Raises:
        TypeError: Something in it has no form.
    """
    return _dump(value, _buffer)


def dump_text(value: Any) -> bytes | None:
    """Write a value as JSON; None if there are bytes in it.

    Raises:
        TypeError: Something in it has no form.
    """
    try:
        return _dump(value, _refuse)
    except _HasBytesError:
        return None


def _dump(value: Any, write_bytes: Any) -> bytes:
    def replace(item: Any) -> Any:
        if isinstance(item, (bytes, bytearray, memoryview)):
            return write_bytes(bytes(item))
        if isinstance(item, (set, frozenset)):
            return list(item)
        raise TypeError(f"{type(item).__name__} has no form on the bus")

    try:
        return orjson.dumps(value, default=replace)
    except orjson.JSONEncodeError as error:
        if isinstance(error.__cause__, _HasBytesError):
            raise error.__cause__ from None
        raise TypeError(f"arguments cannot be encoded: {error.__cause__ or error}") from error


def _buffer(data: bytes) -> dict[str, Any]:
    return {"type": "Buffer", "data": list(data)}


def _refuse(data: bytes) -> Any:
    raise _HasBytesError


def read_any(data: bytes, depth: int) -> Any:
    """Read a message that begins with `{` if it is JSON, and is MessagePack otherwise.

    Args:
        data: The message.
        depth: How deep arrays and maps may nest.

    Raises:
        ValueError: It is neither, or nests deeper.
    """
    if data[:1] == b"{":
        return load(data, depth)
    return read_value(data, depth)
