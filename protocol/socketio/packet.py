"""One Socket.IO packet, and how it is written."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

from protocol.jsontext import dump_with_attachments

DEFAULT_NAMESPACE = "/"

RESERVED_EVENTS = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)


class PacketType(IntEnum):
    """The digit in front of a packet. Spec: SIO-PKT-1."""

    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    CONNECT_ERROR = 4
    BINARY_EVENT = 5
    BINARY_ACK = 6


class Packet(NamedTuple):
    """One Socket.IO packet, its attachments already in place.

    Attributes:
        type: EVENT and ACK also stand for their binary forms.
        namespace: Name with its leading slash.
        ack_id: The id that an ack is asked for with, or that this acknowledges.
        data: EVENT: `[name, *arguments]`; ACK: the arguments; CONNECT: an object or None;
            CONNECT_ERROR: an object or text; DISCONNECT: None.
    """

    type: PacketType
    namespace: str = DEFAULT_NAMESPACE
    ack_id: int | None = None
    data: Any = None


_BINARY = {PacketType.EVENT: PacketType.BINARY_EVENT, PacketType.ACK: PacketType.BINARY_ACK}
_DIGITS = [b"%d" % each for each in PacketType]


def encode_packet(packet: Packet) -> tuple[bytes, list[bytes]]:
    """Write a packet as one text message and its attachments. Spec: SIO-PKT-2, SIO-BIN-1.

    EVENT and ACK become their binary forms by themselves if the data holds bytes.

    Returns:
        The text, without the Engine.IO type digit, and the attachments in placeholder order.

    Raises:
        TypeError: The data has no JSON form.
    """
    body = b""
    attachments: list[bytes] = []
    if packet.data is not None:
        body, attachments = dump_with_attachments(packet.data)
    if attachments and packet.type not in _BINARY:
        raise TypeError(f"a {packet.type.name} packet cannot carry bytes")
    return packet_head(packet.type, packet.namespace, packet.ack_id, len(attachments)) + body, attachments


def packet_head(packet_type: PacketType, namespace: str, ack_id: int | None, attachments: int = 0) -> bytes:
    """Return what stands before the data of a packet. Spec: SIO-PKT-2, SIO-PKT-3.

    Args:
        packet_type: Its type; EVENT or ACK if there are attachments.
        namespace: Its namespace.
        ack_id: Its ack id, or None.
        attachments: How many binary messages follow.
    """
    head = b"%d%d-" % (_BINARY[packet_type], attachments) if attachments else _DIGITS[packet_type]
    if namespace != DEFAULT_NAMESPACE:
        head += namespace.encode() + b","
    return head if ack_id is None else head + b"%d" % ack_id
