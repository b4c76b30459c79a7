"""Text and binary messages of one session to Socket.IO packets, attachments put back in place."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, Final

from protocol.jsontext import DepthError, JSONError, is_utf8, load
from protocol.limits import Limits
from protocol.reasons import Violation

from .packet import DEFAULT_NAMESPACE, RESERVED_EVENTS, Packet, PacketType

_EVENT_TYPES = (PacketType.EVENT, PacketType.BINARY_EVENT)
_PLAIN = {PacketType.BINARY_EVENT: PacketType.EVENT, PacketType.BINARY_ACK: PacketType.ACK}
_TYPES = {ord(str(int(packet_type))): packet_type for packet_type in PacketType}
_BRACKET = ord("[")
_BLANKS = b" \t\n\r"
# The category Cc of Unicode, which no later version can change.
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f]")


class NeedAttachments(Enum):
    """The decoder waits for binary messages."""

    NEED_ATTACHMENTS = "need attachments"


NEED_ATTACHMENTS: Final = NeedAttachments.NEED_ATTACHMENTS


class Decoder:
    """Decodes the messages of one session, in order.

    After a violation the session is over; the decoder holds nothing any more.

    Args:
        limits: Bounds on attachments, depth, digits and names.
        max_payload_bytes: Bound on the attachments of one packet together.
    """

    __slots__ = ("_attachments", "_count", "_limits", "_max_bytes", "_packet", "_room_bytes")

    def __init__(self, limits: Limits, max_payload_bytes: int) -> None:
        self._limits = limits
        self._max_bytes = max_payload_bytes
        self._packet: Packet | None = None
        self._attachments: list[bytes] | None = None
        self._count = 0
        self._room_bytes = 0

    @property
    def pending(self) -> Packet | None:
        """The packet whose attachments are awaited; its data still holds the placeholders."""
        return self._packet

    def reset(self) -> None:
        """Forget a packet that is not complete. Spec: SIO-BIN-7."""
        self._packet = self._attachments = None

    def feed_text(self, text: bytes) -> Packet | NeedAttachments | Violation:
        """Decode one text message, without the Engine.IO type digit. Spec: SIO-PKT-2, SIO-ERR-2."""
        if self._packet is not None:
            self.reset()
            return Violation.UNEXPECTED_TEXT
        if not is_utf8(text):
            return Violation.BAD_TEXT
        packet_type = _TYPES.get(text[0]) if text else None
        if packet_type is None:
            return Violation.UNKNOWN_TYPE
        at = 1
        if packet_type in _PLAIN:
            at = text.find(b"-")
            count = self._attachment_count(text[1:at] if at > 0 else b"")
            if isinstance(count, Violation):
                return count
            self._count = count
            at += 1
        return self._parse(packet_type, text, at)

    def _attachment_count(self, digits: bytes) -> int | Violation:
        if len(digits) > self._limits.ack_id_digits or not digits.isdigit():
            return Violation.ILLEGAL_ATTACHMENTS
        count = int(digits)
        if count == 0:
            return Violation.ILLEGAL_ATTACHMENTS
        if count > self._limits.max_attachments:
            return Violation.TOO_MANY_ATTACHMENTS
        return count

    def _parse(self, packet_type: PacketType, text: bytes, at: int) -> Packet | NeedAttachments | Violation:
        namespace = DEFAULT_NAMESPACE
        if text[at : at + 1] == b"/":
            end = text.find(b",", at)
            if end < 0:
                end = len(text)
            name = self._namespace(text[at:end])
            if isinstance(name, Violation):
                return name
            namespace, at = name, min(end + 1, len(text))
        start = at
        while text[at : at + 1].isdigit():
            at += 1
            if at - start > self._limits.ack_id_digits:
                return Violation.BAD_ACK_ID
        ack_id = int(text[start:at]) if at > start else None
        if text[at : at + 1] and text[at] in _BLANKS:
            # JSON would skip a blank in front; in the head of a packet it has no place.
            return Violation.INVALID_PAYLOAD
        try:
            data = load(text[at:], self._limits.json_depth) if at < len(text) else None
        except DepthError:
            return Violation.TOO_DEEP
        except JSONError:
            return Violation.INVALID_PAYLOAD
        if data is None and at < len(text):
            return Violation.INVALID_PAYLOAD
        return self._finish(Packet(packet_type, namespace, ack_id, data))

    def _namespace(self, name: bytes) -> str | Violation:
        if len(name) > self._limits.namespace_bytes:
            return Violation.BAD_NAMESPACE
        text = name.decode()
        return Violation.BAD_NAMESPACE if _CONTROL_CHARACTER.search(text) else text

    def _finish(self, packet: Packet) -> Packet | NeedAttachments | Violation:
        violation = _check_data(packet)
        if violation is not None:
            return violation
        if packet.type not in _PLAIN:
            return packet
        if not _placeholders_match(packet.data, self._count):
            return Violation.ILLEGAL_ATTACHMENTS
        self._packet = packet._replace(type=_PLAIN[packet.type])
        self._attachments = []
        self._room_bytes = self._max_bytes
        return NEED_ATTACHMENTS

    def feed_binary(self, data: bytes) -> Packet | NeedAttachments | Violation:
        """Take one attachment. Spec: SIO-BIN-4."""
        packet, attachments = self._packet, self._attachments
        if packet is None or attachments is None:
            return Violation.UNEXPECTED_BINARY
        self._room_bytes -= len(data)
        if self._room_bytes < 0:
            self.reset()
            return Violation.ATTACHMENTS_TOO_BIG
        attachments.append(bytes(data))  # applications get plain bytes, whatever marked the message as binary
        if len(attachments) < self._count:
            return NEED_ATTACHMENTS
        self.reset()
        return packet._replace(data=_put_back(packet.data, attachments))


def decode_event(text: bytes, digits: int, depth: int) -> tuple[int | None, list[Any]] | None:
    """Decode the commonest packet, an EVENT of the default namespace, in one step.

    Args:
        text: The text message with the Engine.IO digit: `42["name",...]` or `42<id>["name",...]`.
        digits: Bound on the digits of the ack id.
        depth: Bound on the nesting.

    Returns:
        The ack id and `[name, *arguments]`, or None if it is anything else: the decoder then says what.
    """
    if len(text) > 2 and text[2] == _BRACKET:
        ack_id = None
        at = 2
    else:
        at = text.find(b"[", 2, digits + 3)
        id_text = text[2:at]
        if at < 0 or not id_text.isdigit():
            return None
        ack_id = int(id_text)
    try:
        data = load(text[at:], depth)
    except JSONError:
        return None
    if not data or type(data[0]) is not str or data[0] in RESERVED_EVENTS:
        return None
    return ack_id, data


def check_packet(packet: Packet, limits: Limits) -> Violation | None:
    """Check a whole packet that another parser has made. Spec: SIO-PARSER-4."""
    name, ack_id = packet.namespace, packet.ack_id
    if not isinstance(name, str) or not name.startswith("/") or _CONTROL_CHARACTER.search(name):
        return Violation.BAD_NAMESPACE
    # Surrogates have no UTF-8 form: the length is all that counts here.
    if len(name.encode(errors="replace")) > limits.namespace_bytes:
        return Violation.BAD_NAMESPACE
    if ack_id is not None and (type(ack_id) is not int or not 0 <= ack_id < 10**limits.ack_id_digits):
        return Violation.BAD_ACK_ID
    return _check_data(packet)


def _check_data(packet: Packet) -> Violation | None:
    """Check the data against the type. Spec: SIO-PKT-4."""
    data = packet.data
    if packet.type in _EVENT_TYPES:
        return _check_event(data)
    if packet.type in (PacketType.ACK, PacketType.BINARY_ACK):
        if packet.ack_id is None:
            return Violation.BAD_ACK_ID
        return None if isinstance(data, list) else Violation.INVALID_PAYLOAD
    if packet.ack_id is not None:
        return Violation.BAD_ACK_ID
    if packet.type is PacketType.DISCONNECT:
        return None if data is None else Violation.INVALID_PAYLOAD
    if packet.type is PacketType.CONNECT:
        return None if data is None or isinstance(data, dict) else Violation.INVALID_PAYLOAD
    return None if isinstance(data, (dict, str)) else Violation.INVALID_PAYLOAD


def _check_event(data: Any) -> Violation | None:
    if not isinstance(data, list) or not data:
        return Violation.INVALID_PAYLOAD
    name = data[0]
    if isinstance(name, bool) or not isinstance(name, (str, int, float)):
        return Violation.INVALID_PAYLOAD
    return Violation.RESERVED_EVENT if name in RESERVED_EVENTS else None


def _is_placeholder(value: dict[str, Any]) -> bool:
    return value.get("_placeholder") is True


def _placeholders_match(data: Any, count: int) -> bool:
    """Tell whether each index from 0 to count - 1 stands exactly once. Spec: SIO-BIN-3."""
    found: list[Any] = []
    _collect(data, found)
    return (
        len(found) == count
        and all(type(index) is int for index in found)
        and (sorted(found) == list(range(count)))
    )


def _collect(value: Any, found: list[Any]) -> None:
    if isinstance(value, list):
        for item in value:
            _collect(item, found)
    elif isinstance(value, dict):
        if _is_placeholder(value):
            found.append(value.get("num"))
            return
        for item in value.values():
            _collect(item, found)


def _put_back(value: Any, attachments: list[bytes]) -> Any:
    if isinstance(value, list):
        return [_put_back(item, attachments) for item in value]
    if isinstance(value, dict):
        if _is_placeholder(value):
            return attachments[value["num"]]
        return {key: _put_back(item, attachments) for key, item in value.items()}
    return value
