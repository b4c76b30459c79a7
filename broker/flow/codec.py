"""How Socket.IO packets are written and read: as the protocol's text, or by a parser in its place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

from protocol.limits import Limits
from protocol.reasons import Violation
from protocol.socketio import msgpack
from protocol.socketio.decoder import Decoder, NeedAttachments, check_packet
from protocol.socketio.msgpack import MsgpackParser
from protocol.socketio.packet import Packet, PacketType

from .encoded import ControlMessage, EncodedMessage, encode_ack, encode_control, encode_event, with_ack_id
from .settings_checks import problem

logger = logging.getLogger(__name__)

_MESSAGE = b"4"
_NEVER_DECODED = (PacketType.BINARY_EVENT, PacketType.BINARY_ACK)


class PacketDecoder(Protocol):
    """Turns the messages of one session into packets, in order.

    What is wrong with a message is a `protocol.Violation`, returned, never raised; the session then ends.
    """

    @property
    def pending(self) -> Packet | None:
        """The packet that still needs messages, with what is known of it; else None."""

    def reset(self) -> None:
        """Forget a packet that is not complete."""

    def feed_text(self, text: bytes) -> Packet | NeedAttachments | Violation:
        """Take a text message; it has not been checked to be UTF-8.

        Returns:
            A packet; `NEED_ATTACHMENTS` of `protocol.socketio.decoder` if messages are missing, with the
            packet in `pending`; or what is wrong.
        """

    def feed_binary(self, data: bytes) -> Packet | NeedAttachments | Violation:
        """Take a binary message; as `feed_text`."""


@runtime_checkable
class Parser(Protocol):
    """Another form of Socket.IO packets on the wire; all clients of the broker must speak it.

    Packets are `protocol.socketio.packet.Packet`: EVENT and ACK, never their binary forms, with bytes left in
    their places in the data.
    """

    def encode(self, packet: Packet) -> Sequence[str | bytes]:
        """Return the messages that a packet is sent as: a text first, if there is one, then bytes.

        Raises:
            TypeError: The packet has no form.
        """

    def decoder(self, limits: Limits, max_payload_bytes: int) -> PacketDecoder:
        """Return a decoder for a new session, which is to keep to these limits."""


class Codec(Protocol):
    """What the broker writes and reads packets with.

    Attributes:
        is_text: Whether it is the protocol's own text, which short cuts may rely on.
    """

    is_text: bool

    def event(
        self,
        namespace: str,
        event: str,
        args: Sequence[Any],
        ack_id: int | None = None,
    ) -> EncodedMessage:
        """Encode an event; TypeError if an argument has no form."""

    def ack(self, namespace: str, ack_id: int, values: Sequence[Any]) -> EncodedMessage:
        """Encode the answer to an event; TypeError if a value has no form."""

    def control(self, packet: Packet) -> EncodedMessage:
        """Encode CONNECT, DISCONNECT or CONNECT_ERROR; TypeError if its data has no form."""

    @property
    def decoder(self) -> Callable[[Limits, int], PacketDecoder]:
        """Makes the decoder of a session."""


class TextCodec:
    """The protocol's own text. Spec: SIO-PKT-2."""

    is_text = True
    event = staticmethod(encode_event)
    ack = staticmethod(encode_ack)
    control = staticmethod(encode_control)
    with_ack_id = staticmethod(with_ack_id)
    decoder = Decoder


class ParserCodec:
    """Whatever a parser writes and reads. Spec: SIO-PARSER-1."""

    is_text = False

    def __init__(self, parser: Parser) -> None:
        self._parser = parser

    def event(
        self,
        namespace: str,
        event: str,
        args: Sequence[Any],
        ack_id: int | None = None,
    ) -> EncodedMessage:
        """Encode an event."""
        return EncodedMessage(*self._encode(Packet(PacketType.EVENT, namespace, ack_id, [event, *args])))

    def ack(self, namespace: str, ack_id: int, values: Sequence[Any]) -> EncodedMessage:
        """Encode the answer to an event."""
        return EncodedMessage(*self._encode(Packet(PacketType.ACK, namespace, ack_id, list(values))))

    def control(self, packet: Packet) -> EncodedMessage:
        """Encode CONNECT, DISCONNECT or CONNECT_ERROR."""
        return ControlMessage(*self._encode(packet))

    def _encode(self, packet: Packet) -> tuple[bytes, Sequence[bytes]]:
        try:
            return _split(self._parser.encode(packet))
        except TypeError:
            raise
        except Exception as error:
            raise TypeError(f"the parser cannot encode this {packet.type.name} packet: {error}") from error

    def decoder(self, limits: Limits, max_payload_bytes: int) -> PacketDecoder:
        """Return the parser's decoder; one of an application is not trusted to keep its word."""
        decoder = self._parser.decoder(limits, max_payload_bytes)
        return decoder if isinstance(self._parser, MsgpackParser) else _Checked(decoder, limits)


class MsgpackCodec(ParserCodec):
    """What `socket.io-msgpack-parser` writes and reads. Spec: SIO-PARSER-2."""

    def __init__(self) -> None:
        super().__init__(MsgpackParser())

    def with_ack_id(self, message: EncodedMessage, namespace: str, ack_id: int) -> EncodedMessage:
        """Return an event that was encoded without an ack id, with this one."""
        [packed] = message.attachments
        return EncodedMessage(b"", (msgpack.with_ack_id(packed, ack_id),))


def _split(parts: Sequence[str | bytes]) -> tuple[bytes, Sequence[bytes]]:
    """Part the text from the bytes behind it.

    Raises:
        TypeError: It is not a text, if there is one, and then bytes.
    """
    text = b""
    if parts and isinstance(parts[0], str):
        text, parts = _MESSAGE + parts[0].encode(), parts[1:]
    attachments = [part for part in parts if isinstance(part, bytes)]
    if len(attachments) != len(parts) or not (text or attachments):
        raise TypeError("a parser encodes a packet as at most one str, in front, and bytes")
    return text, attachments


class _Checked:
    """The decoder of an application: what it raises or makes up ends the session, nothing else."""

    def __init__(self, decoder: PacketDecoder, limits: Limits) -> None:
        self._decoder = decoder
        self._limits = limits

    @property
    def pending(self) -> Packet | None:
        return self._decoder.pending

    def reset(self) -> None:
        self._decoder.reset()

    def feed_text(self, text: bytes) -> Packet | NeedAttachments | Violation:
        return self._feed(self._decoder.feed_text, text)

    def feed_binary(self, data: bytes) -> Packet | NeedAttachments | Violation:
        return self._feed(self._decoder.feed_binary, bytes(data))

    def _feed(
        self, feed: Callable[[bytes], Packet | NeedAttachments | Violation], message: bytes
    ) -> Packet | NeedAttachments | Violation:
        try:
            found = feed(message)
            packet = self.pending if isinstance(found, NeedAttachments) else found
        except Exception:
            logger.exception("the decoder of the parser failed")
            return Violation.INVALID_PAYLOAD
        if isinstance(packet, Violation):
            return packet
        if not isinstance(packet, Packet) or packet.type in _NEVER_DECODED:
            logger.error("the decoder of the parser returned %r", type(packet).__name__)
            return Violation.INVALID_PAYLOAD
        return check_packet(packet, self._limits) or found


_TEXT_CODEC = TextCodec()


def make_codec(parser: str | Parser | None) -> Codec:
    """Return the codec for a value of `Settings.parser`."""
    if parser is None:
        return _TEXT_CODEC
    return MsgpackCodec() if isinstance(parser, str) else ParserCodec(parser)


def make_client_codec(parser: str) -> TextCodec | MsgpackCodec:
    """Return the codec for a value of a client's `parser`."""
    return _TEXT_CODEC if parser == "json" else MsgpackCodec()


def check_parser(name: str, value: object) -> Iterator[str]:
    """Hold the parser to one that can be used here."""
    if value is None or (isinstance(value, Parser) and not isinstance(value, type)):
        return
    yield from _check_msgpack(name, 'None, "msgpack" or an object with the methods encode and decoder', value)


def check_client_parser(name: str, value: object) -> Iterator[str]:
    """Hold the parser of a client to one that can be used here."""
    if value != "json":
        yield from _check_msgpack(name, '"json" or "msgpack"', value)


def _check_msgpack(name: str, allowed: str, value: object) -> Iterator[str]:
    if value != "msgpack":
        yield problem(name, allowed, value)
    elif find_spec("msgpack") is None:
        yield f"{name}: needs the package msgpack; pip install 'trio-broker[msgpack]'"
