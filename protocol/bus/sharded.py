"""Cluster messages as the sharded adapter, and the pub/sub half of the streams adapter, write them."""

from __future__ import annotations

from .cluster import ClusterMessage, read_message
from .values import dump_text, pack, read_any


def write_sharded(message: ClusterMessage) -> bytes:
    """Write a message as JSON, or as MessagePack if there are bytes in it.

    Raises:
        TypeError: Something in it has no form.
    """
    wire = message.to_wire()
    text = dump_text(wire)
    return pack(wire) if text is None else text


def write_packed(message: ClusterMessage) -> bytes:
    """Write a message as MessagePack, as the streams adapter publishes it.

    Raises:
        TypeError: Something in it has no form.
    """
    return pack(message.to_wire())


def read_published(data: bytes, depth: int) -> ClusterMessage | None:
    """Read a message in either form; None if it is none."""
    try:
        return read_message(read_any(data, depth))
    except ValueError:
        return None
