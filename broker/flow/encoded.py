"""An outgoing message, encoded once and held in the wire forms that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import orjson

from protocol.engineio.packet import encode_binary
from protocol.jsontext import dump_with_attachments
from protocol.socketio.packet import Packet, PacketType, encode_packet, packet_head
from protocol.websocket import BINARY, TEXT, build_frame

if TYPE_CHECKING:
    from .overflow import Overflow

_MESSAGE = b"4"  # the type of an Engine.IO packet that carries another
_EVENT, _ACK = PacketType.EVENT, PacketType.ACK  # looked up once: this is on the way of every message

Key: TypeAlias = tuple[str, str]


class EncodedMessage:
    """One Engine.IO text packet and the binary packets behind it; shared by all its receivers.

    Attributes:
        text: The text packet with its type digit; empty if there are binary packets alone.
        attachments: The binary packets that follow, raw.
        size: Bytes that it counts for in a budget.
        frame: Its WebSocket frames as one piece, once somebody has asked for them.
        overflow: What to do with it when a budget is used up; None is `disconnect`, which acks and protocol
            packets always have.
        key: What `keep_latest` compares: namespace and key; None is never replaced.
        is_counted: Whether an application would miss it: an event or an ack, no packet of the protocol's own.
    """

    __slots__ = ("attachments", "frame", "key", "overflow", "size", "text")

    is_counted: ClassVar[bool] = True

    def __init__(self, text: bytes, attachments: Sequence[bytes] = ()) -> None:
        self.text = text
        self.attachments = attachments
        self.size = len(text) + sum(map(len, attachments)) if attachments else len(text)
        self.frame: bytes | None = None
        self.overflow: Overflow | None = None
        self.key: Key | None = None

    @property
    def packets(self) -> int:
        """How many Engine.IO packets it makes."""
        return (1 if self.text else 0) + len(self.attachments)

    def build_frame(self) -> bytes:
        """Build the WebSocket frames, once, and keep them. Spec: WS-3."""
        frame = build_frame(TEXT, self.text) if self.text else b""
        if self.attachments:
            frame += b"".join(build_frame(BINARY, data) for data in self.attachments)
        self.frame = frame
        return frame

    def base64_packets(self) -> list[bytes]:
        """Return all packets in the text form of polling. Spec: EIO-PKT-4."""
        binary = list(map(encode_binary, self.attachments))
        return [self.text, *binary] if self.text else binary


class ControlMessage(EncodedMessage):
    """A packet of the protocol's own, which no application would miss."""

    __slots__ = ()

    is_counted = False


def encode_event(
    namespace: str, event: str, args: Sequence[Any], ack_id: int | None = None
) -> EncodedMessage:
    """Encode an event.

    Raises:
        TypeError: An argument has no JSON form.
    """
    data = [event, *args]
    try:
        # Most events carry no bytes; those that do are found out by the encoder's refusal.
        return EncodedMessage(_MESSAGE + packet_head(_EVENT, namespace, ack_id) + orjson.dumps(data))
    except TypeError:
        return _encode_rare(_EVENT, namespace, ack_id, data)


def encode_ack(namespace: str, ack_id: int, values: Sequence[Any]) -> EncodedMessage:
    """Encode the answer to an event.

    Raises:
        TypeError: A value has no JSON form.
    """
    try:
        return EncodedMessage(_MESSAGE + packet_head(_ACK, namespace, ack_id) + orjson.dumps(values))
    except TypeError:
        return _encode_rare(_ACK, namespace, ack_id, values)


def _encode_rare(
    packet_type: PacketType, namespace: str, ack_id: int | None, data: Sequence[Any]
) -> EncodedMessage:
    text, attachments = dump_with_attachments(data)
    head = packet_head(packet_type, namespace, ack_id, len(attachments))
    return EncodedMessage(_MESSAGE + head + text, attachments)


def with_ack_id(message: EncodedMessage, namespace: str, ack_id: int) -> EncodedMessage:
    """Return an event that `encode_event` encoded without an ack id, with this one."""
    count = len(message.attachments)
    data_at = len(_MESSAGE + packet_head(_EVENT, namespace, None, count))
    head = packet_head(_EVENT, namespace, ack_id, count)
    return EncodedMessage(_MESSAGE + head + message.text[data_at:], message.attachments)


def encode_control(packet: Packet) -> ControlMessage:
    """Encode a packet without attachments: CONNECT, DISCONNECT, CONNECT_ERROR."""
    text, _ = encode_packet(packet)
    return ControlMessage(_MESSAGE + text)
