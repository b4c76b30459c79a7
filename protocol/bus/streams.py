"""Entries of a Redis stream and the sessions beside it, as the streams adapter writes them."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from protocol.jsontext import load
from protocol.socketio.msgpack import read_value

from .cluster import ClusterMessage, MessageType, read_parts
from .options import read_rooms
from .values import dump, dump_text, pack

_NUMBER: Final = re.compile(rb"\d{1,2}")
_ORDINAL: Final = re.compile(rb"\d{1,15}")
_ENTRY_ID: Final = re.compile(r"\d{1,20}-\d{1,20}")
KEPT: Final = frozenset(
    (
        MessageType.BROADCAST,
        MessageType.SOCKETS_JOIN,
        MessageType.SOCKETS_LEAVE,
        MessageType.DISCONNECT_SOCKETS,
    )
)
"""The types that go to the stream; a broadcast only if it wants no acks."""


def is_kept(message: ClusterMessage) -> bool:
    """Tell whether a message goes to the stream; the others are published."""
    return message.type in KEPT and not (
        message.type is MessageType.BROADCAST and message.request_id is not None
    )


def is_entry_id(text: str) -> bool:
    """Tell whether a text is the id of an entry."""
    return _ENTRY_ID.fullmatch(text) is not None


def write_entry(message: ClusterMessage, only_text: bool = False) -> list[bytes]:
    """Return fields and values of the entry of a message.

    Args:
        message: The message.
        only_text: Write bytes as JSON does, instead of the whole data in base64.

    Raises:
        TypeError: Something in it has no form.
    """
    fields = [
        b"uid", message.uid.encode(),
        b"nsp", message.namespace.encode(),
        b"type", b"%d" % message.type,
    ]  # fmt: skip
    data = message.data()
    if data is not None:
        text = dump(data) if only_text else dump_text(data)
        fields += [b"data", b64encode(pack(data)) if text is None else text]
    return fields


def read_entry(fields: Sequence[bytes], depth: int) -> ClusterMessage | None:
    """Read the fields and values of an entry; None if it is no message."""
    parts = dict(zip(fields[::2], fields[1::2], strict=False))
    number = parts.get(b"type", b"")
    if _NUMBER.fullmatch(number) is None:
        return None
    data = parts.get(b"data")
    try:
        uid, namespace = parts[b"uid"].decode(), parts[b"nsp"].decode()
        value = None if data is None else _read_data(data, depth)
    except (KeyError, ValueError):
        return None
    return read_parts(int(number), uid, namespace, value)


def read_ordinal(fields: Sequence[bytes]) -> int | None:
    """Read which of its sender's events an entry is, from a field that only brokers of this project write."""
    text = dict(zip(fields[::2], fields[1::2], strict=False)).get(b"no", b"")
    return int(text) if _ORDINAL.fullmatch(text) else None


def _read_data(data: bytes, depth: int) -> Any:
    if data[:1] == b"{":
        return load(data, depth)
    return read_value(b64decode(data, validate=True), depth)


def stream_name(name: str, count: int, namespace: str) -> str:
    """Return the stream of a namespace: the only one, or one of several by a hash of the name.

    The reference takes the remainder of a hash that may be negative, and so writes to streams that it does
    not read; those who use several streams beside it must write to the same.
    """
    if count <= 1:
        return name
    value = 0
    for unit in memoryview(namespace.encode("utf-16-le")).cast("H"):
        value = (value * 31 + unit) & 0xFFFFFFFF
    if value >= 1 << 31:
        value -= 1 << 32
    remainder = abs(value) % count
    return f"{name}-{-remainder if value < 0 else remainder}"


def stream_names(name: str, count: int) -> list[str]:
    """Return all streams that `stream_name` gives a namespace, those with a negative number among them."""
    return [name] if count <= 1 else [f"{name}-{number}" for number in range(1 - count, count)]


@dataclass(frozen=True, slots=True)
class KeptSession:
    """What is kept of a client that is gone.

    Attributes:
        sid: Id of its socket.
        pid: Its private id.
        rooms: Where it was.
        data: What the application kept with it.
        more: What brokers of this project keep beside it, which others pass over; None if there is nothing.
        node: The id of the node that has written that; empty without it.
    """

    sid: str
    pid: str
    rooms: tuple[str, ...]
    data: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] | None = None
    node: str = ""


def write_session(session: KeptSession) -> bytes:
    """Write a session as the value of its key.

    Raises:
        TypeError: Something in its data has no form.
    """
    parts = {"sid": session.sid, "pid": session.pid, "rooms": list(session.rooms), "data": session.data}
    if session.more is not None:
        parts = {"node": _padded(session.node), **parts, "more": session.more}
    return b64encode(pack(parts))


def node_mark(node: str) -> bytes:
    """Return what the values of all keys begin with that this node has written."""
    size = len(pack({"node": _padded(node)}))  # a head of one byte, however many entries follow
    return write_session(KeptSession("", "", (), more={}, node=node))[: size // 3 * 4]


def _padded(node: str) -> str:
    """Fill up the id, so that it ends in base64 where a group of three bytes does."""
    return node + " " * (-len(pack(node)) % 3)


def read_session(value: bytes, depth: int) -> KeptSession | None:
    """Read the value of a key; None if it is no session."""
    try:
        parts = read_value(b64decode(value, validate=True), depth)
    except ValueError:
        return None
    if not isinstance(parts, dict):
        return None
    sid, pid, rooms, data, more = (parts.get(name) for name in ("sid", "pid", "rooms", "data", "more"))
    node = parts.get("node")
    names = read_rooms(rooms)
    if type(sid) is not str or type(pid) is not str or names is None:
        return None
    return KeptSession(
        sid,
        pid,
        names,
        data if isinstance(data, dict) else {},
        more if isinstance(more, dict) else None,
        node.rstrip(" ") if isinstance(node, str) else "",
    )
