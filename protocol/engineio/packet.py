"""One Engine.IO packet to and from its wire forms."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from enum import IntEnum
from typing import NamedTuple

from protocol.jsontext import is_utf8
from protocol.reasons import Violation


class PacketType(IntEnum):
    """The digit in front of a text packet. Spec: EIO-PKT-1."""

    OPEN = 0
    CLOSE = 1
    PING = 2
    PONG = 3
    MESSAGE = 4
    UPGRADE = 5
    NOOP = 6


class Packet(NamedTuple):
    """One Engine.IO packet.

    Attributes:
        type: What it is; a binary packet is always a MESSAGE.
        data: The payload without the type digit; UTF-8 text unless `binary`.
        binary: Whether it carries raw bytes.
    """

    type: PacketType
    data: bytes = b""
    binary: bool = False


_BY_DIGIT = {ord(str(int(packet_type))): packet_type for packet_type in PacketType}
_BASE64_PREFIX = ord("b")

PROBE = b"probe"
PING_PROBE = b"2probe"
PONG_PROBE = b"3probe"
CLOSE = b"1"
PING = b"2"
PONG = b"3"
UPGRADE = b"5"
NOOP = b"6"


def decode_packet(text: bytes) -> Packet | Violation:
    """Decode one text packet, or one base64 packet. Spec: EIO-PKT-2, EIO-PKT-4."""
    if not text:
        return Violation.EMPTY_PACKET
    if not is_utf8(text):
        return Violation.BAD_TEXT
    packet_type = _BY_DIGIT.get(text[0])
    if packet_type is not None:
        return Packet(packet_type, text[1:])
    if text[0] == _BASE64_PREFIX:
        return _decode_base64(text[1:])
    return Violation.UNKNOWN_PACKET


def _decode_base64(text: bytes) -> Packet | Violation:
    # Padding may be absent; too much of it, which binascii may let pass, is refused like all else.
    digits = text.rstrip(b"=")
    padding = -len(digits) % 4
    if len(text) - len(digits) > padding:
        return Violation.BAD_BASE64
    try:
        data = b64decode(digits + b"=" * padding, validate=True)
    except binascii.Error:
        return Violation.BAD_BASE64
    return Packet(PacketType.MESSAGE, data, binary=True)


def encode_packet(packet: Packet) -> bytes:
    """Encode a packet for a text carrier: binary data becomes `b` and base64. Spec: EIO-PKT-4."""
    if packet.binary:
        return encode_binary(packet.data)
    return b"%d%b" % (packet.type, packet.data)


def encode_binary(data: bytes) -> bytes:
    """Encode raw bytes for a text carrier. Spec: EIO-PKT-4."""
    return b"b" + b64encode(data)
