"""The packets of `socket.io-msgpack-parser`: each one MessagePack map in one binary message, bytes inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any
from uuid import UUID

from protocol.limits import Limits
from protocol.reasons import Violation

from .decoder import NeedAttachments, check_packet
from .msgpack_reader import EPOCH, NotText, TooDeep, read
from .packet import Packet, PacketType

_TYPES = {int(each): each for each in PacketType if each <= PacketType.CONNECT_ERROR}
_MILLISECOND = timedelta(milliseconds=1)

_PLAIN_BYTES = 4_096
_SPECIAL_HEADS = bytes((0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8))
_CONTAINER_HEADS = bytes((*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF))


class MsgpackDecoder:
    """Decodes the messages of one session; no packet needs more than one of them.

    Args:
        limits: Bounds on depth, digits and names. The size of a message bounds what it decodes to.
    """

    __slots__ = ("_limits",)

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    @property
    def pending(self) -> Packet | None:
        """The packet whose attachments are awaited: never one, bytes stand in their place."""
        return None

    def reset(self) -> None:
        """Forget a packet that is not complete: there is none."""

    def feed_text(self, text: bytes) -> Packet | NeedAttachments | Violation:
        """Refuse a text message: every packet is binary. Spec: SIO-PARSER-2."""
        return Violation.WRONG_PARSER

    def feed_binary(self, data: bytes) -> Packet | NeedAttachments | Violation:
        """Decode one packet. Spec: SIO-PARSER-2, SIO-PARSER-4."""
        try:
            # One level more: the map of the packet itself is not part of the data.
            found = read_value(data, self._limits.json_depth + 1)
        except TooDeep:
            return Violation.TOO_DEEP
        except NotText:
            return Violation.BAD_TEXT
        except ValueError:
            return Violation.INVALID_PAYLOAD
        if not isinstance(found, dict):
            return Violation.INVALID_PAYLOAD
        packet_type = found.get("type")
        if type(packet_type) is not int or packet_type not in _TYPES:
            return Violation.UNKNOWN_TYPE
        # Undefined and nil have both become None; the encoders of some clients write them for nothing.
        packet = Packet(_TYPES[packet_type], found.get("nsp", ""), found.get("id"), found.get("data"))
        return check_packet(packet, self._limits) or packet


class MsgpackParser:
    """The parser that `Settings(parser="msgpack")` stands for.

    Raises:
        ImportError: The package msgpack is not installed.
    """

    def __init__(self) -> None:
        _package()

    def encode(self, packet: Packet) -> Sequence[str | bytes]:
        """Encode a packet as one binary message; see `encode`."""
        return (encode(packet),)

    def decoder(self, limits: Limits, max_payload_bytes: int) -> MsgpackDecoder:
        """Return a decoder for one session."""
        return MsgpackDecoder(limits)


def encode(packet: Packet) -> bytes:
    """Encode a packet. Spec: SIO-PARSER-2, SIO-PARSER-3.

    Raises:
        TypeError: Something in the data has no MessagePack form, nests too deep, or refers to itself.
    """
    parts: dict[str, Any] = {"type": int(packet.type)}
    if packet.data is not None:
        parts["data"] = packet.data
    parts["nsp"] = packet.namespace
    if packet.ack_id is not None:
        parts["id"] = packet.ack_id
    return pack_value(parts, packet.data, _old_date)


def with_ack_id(packed: bytes, ack_id: int) -> bytes:
    """Return a packet that `encode` encoded without an ack id, with this one."""
    # The head of a map of up to 15 keys holds their number, and the id comes last.
    package = _package()
    return bytes((packed[0] + 1,)) + packed[1:] + bytes(package.packb("id") + package.packb(ack_id))


def _old_date(value: datetime) -> Any:
    """Return a date as notepack.io 2 writes it, the library of the JavaScript parser."""
    return _package().ExtType(0, _milliseconds(value).to_bytes(8, "big", signed=True))


def new_date(value: datetime) -> Any:
    """Return a date as the timestamp of the MessagePack specification, to the millisecond."""
    seconds, milliseconds = divmod(_milliseconds(value), 1000)
    return _package().Timestamp(seconds, milliseconds * 1_000_000)


def pack_value(value: Any, untrusted: Any, date_form: Callable[[datetime], Any]) -> bytes:
    """Write any value.

    Args:
        value: What to write.
        untrusted: The part of it that an application has made, whose keys are to be checked.
        date_form: Returns what stands for a date.

    Raises:
        TypeError: Something in it has no MessagePack form, nests too deep, or refers to itself.
    """
    replaced: list[Any] = []

    def replace(item: Any) -> Any:
        if isinstance(item, datetime):
            return date_form(item)
        replaced.append(_plain(item))
        return replaced[-1]

    try:
        packed: bytes = _package().packb(value, default=replace)
    except (TypeError, ValueError, OverflowError, BufferError) as error:
        raise TypeError(f"arguments cannot be encoded: {error}") from error
    _check_keys([untrusted, *replaced])  # only now it is known that nothing refers to itself
    return packed


def _check_keys(values: list[Any]) -> None:
    """Refuse keys that are not text, as JSON does: the package takes any.

    Raises:
        TypeError: There is one.
    """
    while values:
        value = values.pop()
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise TypeError("arguments cannot be encoded: the keys of a dict are not all str")
            value = value.values()
        elif not isinstance(value, (list, tuple)):
            continue
        values += [item for item in value if isinstance(item, (dict, list, tuple))]


@cache
def _package() -> Any:
    """Import the package when it is first used: most brokers do without it."""
    return import_module("msgpack")


def read_value(data: bytes, depth: int) -> Any:
    """Do what `read` does; by the package, three times as fast, where the two cannot differ.

    That is: short, without a byte that could begin an extension or bytes, which may not be keys, and without
    more bytes that could begin an array or a map than may nest.
    """
    length = len(data)
    if (
        length <= _PLAIN_BYTES
        and len(data.translate(None, _SPECIAL_HEADS)) == length
        and length - len(data.translate(None, _CONTAINER_HEADS)) <= depth
    ):
        try:
            return _package().unpackb(data)
        except Exception:
            return read(data, depth)  # says what is wrong
    return read(data, depth)


def _milliseconds(value: datetime) -> int:
    """Return the milliseconds since 1970; a time without a zone is taken as UTC."""
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return (aware - EPOCH) // _MILLISECOND


def _plain(value: Any) -> Any:
    """Return what stands for a value that is no MessagePack type, the same as in JSON text."""
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        names = (each.name for each in fields(value))
        return {name: getattr(value, name) for name in names if not name.startswith("_")}
    raise TypeError(f"{type(value).__name__} has no MessagePack form")
