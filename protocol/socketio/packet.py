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
    packet_type = packet.type
    prefix = b""
    if attachments:
        binary_type = _BINARY.get(packet_type)
        if binary_type is None:
            raise TypeError(f"a {packet_type.name} packet cannot carry bytes")
        packet_type = binary_type
        prefix = b"%d-" % len(attachments)
    head = b"%d%b%b" % (packet_type, prefix, namespace_prefix(packet.namespace))
    if packet.ack_id is not None:
        head += b"%d" % packet.ack_id
    return head + body, attachments


def namespace_prefix(namespace: str) -> bytes:
    """Return the namespace as it stands in a packet: nothing for the default one. Spec: SIO-PKT-3."""
    return b"" if namespace == DEFAULT_NAMESPACE else namespace.encode() + b","
